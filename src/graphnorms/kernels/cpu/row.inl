// Statistics within a row: LayerNorm and GroupNorm per node, RMSNorm.
//
// A row stays in the L1 cache between its passes. The parameters' gradients are summed per task
// of fixed size, then over tasks in double.

// Calls step(channel, lanes in use) for the vectors of one group of channels.
template <class A, class Step> inline void for_vectors(int64_t first, int64_t last, Step&& step) {
    constexpr int L = kLanes<A>;
    int64_t c = first;
    for (; c + L <= last; c += L) step.template operator()<false>(c, 0);
    if (c < last) step.template operator()<true>(c, int(last - c));
}

// The lanes past a tail must not count: masked loads give 0, which minus a pivot is not 0.
template <class A, bool Tail> inline Vec<A> only(Vec<A> v, int tail) {
    if constexpr (Tail)
        for (int i = tail; i < kLanes<A>; ++i) v[i] = 0;
    return v;
}

template <class A> struct RowCenter {
    A hi, lo;
};

template <class A> inline RowCenter<A> row_center(A pivot, A shift) {
    const A hi = pivot + shift;
    return {hi, shift - (hi - pivot)};
}

template <class T> inline Accumulate<T> first_entry(const T* p) { return load_part(p, 1)[0]; }

template <class T> void row_forward(const NormForward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, G = p.groups, width = C / G;
    const bool streaming = streams<T>(p, p.y) && width % kLanes<A> == 0;
    const A* weight = static_cast<const A*>(p.weight);
    const A* bias = static_cast<const A*>(p.bias);
    with_activation(p.activation, [&]<class Act>(Act) {
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
        for (int64_t i = 0; i < p.rows; ++i) {
            const T* row = static_cast<const T*>(p.x) + i * p.x_stride;
            T* out = static_cast<T*>(p.y) + i * C;
            for (int64_t g = 0; g < G; ++g) {
                const int64_t first = g * width, last = first + width;
                RowCenter<A> m{0, 0};
                if (p.center != kNone) {
                    const A pivot = first_entry(row + first);
                    Vec<A> sum = {};
                    for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                        sum += only<A, Tail>(get<Tail>(row + c, tail) - pivot, tail);
                    });
                    const A shift = horizontal_sum<A>(sum) / A(width);
                    static_cast<A*>(p.shift)[i * G + g] = shift;
                    m = row_center(pivot, shift);
                }
                A rstd = 1;
                if (p.scale != kNone) {
                    Vec<A> sum = {};
                    for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                        const Vec<A> o = only<A, Tail>((get<Tail>(row + c, tail) - m.hi) - m.lo, tail);
                        sum += o * o;
                    });
                    const A moment = horizontal_sum<A>(sum) / A(width);
                    if (p.moment) static_cast<A*>(p.moment)[i * G + g] = moment;
                    rstd = A(1) / std::sqrt(moment + A(p.eps));
                    static_cast<A*>(p.rstd)[i * G + g] = rstd;
                }
                for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                    Vec<A> v = ((get<Tail>(row + c, tail) - m.hi) - m.lo) * rstd;
                    if (weight) v *= get<Tail>(weight + c, tail);
                    if (bias) v += get<Tail>(bias + c, tail);
                    v = Act::forward(v);
                    put_result<Tail>(out + c, v, tail, streaming);
                });
            }
        }
        if (streaming) stream_fence();
    });
}

template <class T> void row_backward(const NormBackward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, G = p.groups, width = C / G, R = chunk_rows<T>(C);
    const int64_t tasks = count_tasks(p, R);
    const bool streaming = streams<T>(p, p.grad_x) && width % kLanes<A> == 0;
    const A* weight = static_cast<const A*>(p.weight);
    const A* bias = static_cast<const A*>(p.bias);
    Buffer<A> shares(3 * C * tasks);
    for (int64_t c = 0; c < 3 * C * tasks; ++c) shares.get()[c] = 0;
    with_activation(p.activation, [&]<class Act>(Act) {
#pragma omp parallel for schedule(dynamic) num_threads(p.threads) if (p.threads > 1)
        for (int64_t task = 0; task < tasks; ++task) {
            A* grad_weight = shares.get() + 3 * C * task;
            A* grad_bias = grad_weight + C;
            Buffer<A> kept(2 * C);
            A *g_row = kept.get(), *o_row = g_row + C;  // act'(pre) grad_y, and (x - m) rstd
            for (int64_t i = task * R; i < smaller(p.rows, (task + 1) * R); ++i) {
                const T* row = static_cast<const T*>(p.x) + i * p.x_stride;
                const T* grad_row = static_cast<const T*>(p.grad_y) + i * p.grad_y_stride;
                for (int64_t group = 0; group < G; ++group) {
                    const int64_t first = group * width, last = first + width, cell = i * G + group;
                    const RowCenter<A> m = p.center == kNone
                        ? RowCenter<A>{0, 0}
                        : row_center(first_entry(row + first), static_cast<const A*>(p.shift)[cell]);
                    const A rstd = p.scale == kNone ? A(1) : static_cast<const A*>(p.rstd)[cell];
                    Vec<A> sum_g = {}, sum_go = {};
                    for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                        const Vec<A> o = ((get<Tail>(row + c, tail) - m.hi) - m.lo) * rstd;
                        Vec<A> g = get<Tail>(grad_row + c, tail);
                        if constexpr (Act::needs_input) {
                            Vec<A> pre = o;
                            if (weight) pre *= get<Tail>(weight + c, tail);
                            if (bias) pre += get<Tail>(bias + c, tail);
                            g = Act::backward(pre, g);
                        }
                        g = only<A, Tail>(g, tail);
                        put<Tail>(grad_weight + c, get<Tail>(grad_weight + c, tail) + g * o, tail);
                        put<Tail>(grad_bias + c, get<Tail>(grad_bias + c, tail) + g, tail);
                        if (weight) g *= get<Tail>(weight + c, tail);
                        put<Tail>(g_row + c, g, tail);
                        put<Tail>(o_row + c, o, tail);
                        sum_g += g;
                        sum_go += only<A, Tail>(g * o, tail);
                    });
                    if (!p.grad_x) continue;
                    const A mean_g = p.center == kNone ? A(0) : horizontal_sum<A>(sum_g) / A(width);
                    const A mean_go = p.scale == kNone ? A(0) : horizontal_sum<A>(sum_go) / A(width);
                    T* out = static_cast<T*>(p.grad_x) + i * C;
                    for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                        const Vec<A> v = ((get<Tail>(g_row + c, tail) - mean_g) -
                                          get<Tail>(o_row + c, tail) * mean_go) * rstd;
                        put_result<Tail>(out + c, v, tail, streaming);
                    });
                }
            }
            if (streaming) stream_fence();
        }
    });
    write_parameter_gradients<A>(p, shares.get(), tasks);
}
