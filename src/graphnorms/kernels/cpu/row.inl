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

template <class A> void row_forward(const NormForward& p) {
    const int64_t C = p.channels, G = p.groups, width = C / G;
    const bool streaming = streams<A>(p, p.y) && width % kLanes<A> == 0;
    const A* weight = static_cast<const A*>(p.weight);
    const A* bias = static_cast<const A*>(p.bias);
    with_activation(p.activation, [&]<class Act>(Act) {
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
        for (int64_t i = 0; i < p.rows; ++i) {
            const A* row = static_cast<const A*>(p.x) + i * p.x_stride;
            A* out = static_cast<A*>(p.y) + i * C;
            for (int64_t g = 0; g < G; ++g) {
                const int64_t first = g * width, last = first + width;
                RowCenter<A> m{0, 0};
                if (p.center != kNone) {
                    const A pivot = row[first];
                    Vec<A> sum = {};
                    for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                        sum += only<A, Tail>(get<A, Tail>(row + c, tail) - pivot, tail);
                    });
                    const A shift = horizontal_sum<A>(sum) / A(width);
                    static_cast<A*>(p.shift)[i * G + g] = shift;
                    m = row_center(pivot, shift);
                }
                A rstd = 1;
                if (p.scale != kNone) {
                    Vec<A> sum = {};
                    for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                        const Vec<A> o = only<A, Tail>((get<A, Tail>(row + c, tail) - m.hi) - m.lo, tail);
                        sum += o * o;
                    });
                    const A moment = horizontal_sum<A>(sum) / A(width);
                    if (p.moment) static_cast<A*>(p.moment)[i * G + g] = moment;
                    rstd = A(1) / std::sqrt(moment + A(p.eps));
                    static_cast<A*>(p.rstd)[i * G + g] = rstd;
                }
                for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                    Vec<A> v = ((get<A, Tail>(row + c, tail) - m.hi) - m.lo) * rstd;
                    if (weight) v *= get<A, Tail>(weight + c, tail);
                    if (bias) v += get<A, Tail>(bias + c, tail);
                    v = Act::forward(v);
                    if constexpr (Tail) put<A, Tail>(out + c, v, tail);
                    else if (streaming) stream(out + c, v);
                    else store<A>(out + c, v);
                });
            }
        }
        if (streaming) stream_fence();
    });
}

template <class A> void row_backward(const NormBackward& p) {
    const int64_t C = p.channels, G = p.groups, width = C / G, R = chunk_rows<A>(C);
    const int64_t tasks = count_tasks(p, R);
    const bool streaming = streams<A>(p, p.grad_x) && width % kLanes<A> == 0;
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
                const A* row = static_cast<const A*>(p.x) + i * p.x_stride;
                const A* grad_row = static_cast<const A*>(p.grad_y) + i * p.grad_y_stride;
                for (int64_t group = 0; group < G; ++group) {
                    const int64_t first = group * width, last = first + width, cell = i * G + group;
                    const RowCenter<A> m = p.center == kNone
                        ? RowCenter<A>{0, 0}
                        : row_center(row[first], static_cast<const A*>(p.shift)[cell]);
                    const A rstd = p.scale == kNone ? A(1) : static_cast<const A*>(p.rstd)[cell];
                    Vec<A> sum_g = {}, sum_go = {};
                    for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                        const Vec<A> o = ((get<A, Tail>(row + c, tail) - m.hi) - m.lo) * rstd;
                        Vec<A> g = get<A, Tail>(grad_row + c, tail);
                        if constexpr (Act::needs_input) {
                            Vec<A> pre = o;
                            if (weight) pre *= get<A, Tail>(weight + c, tail);
                            if (bias) pre += get<A, Tail>(bias + c, tail);
                            g = Act::backward(pre, g);
                        }
                        g = only<A, Tail>(g, tail);
                        put<A, Tail>(grad_weight + c, get<A, Tail>(grad_weight + c, tail) + g * o, tail);
                        put<A, Tail>(grad_bias + c, get<A, Tail>(grad_bias + c, tail) + g, tail);
                        if (weight) g *= get<A, Tail>(weight + c, tail);
                        put<A, Tail>(g_row + c, g, tail);
                        put<A, Tail>(o_row + c, o, tail);
                        sum_g += g;
                        sum_go += only<A, Tail>(g * o, tail);
                    });
                    if (!p.grad_x) continue;
                    const A mean_g = p.center == kNone ? A(0) : horizontal_sum<A>(sum_g) / A(width);
                    const A mean_go = p.scale == kNone ? A(0) : horizontal_sum<A>(sum_go) / A(width);
                    A* out = static_cast<A*>(p.grad_x) + i * C;
                    for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                        const Vec<A> v = ((get<A, Tail>(g_row + c, tail) - mean_g) -
                                          get<A, Tail>(o_row + c, tail) * mean_go) * rstd;
                        if constexpr (Tail) put<A, Tail>(out + c, v, tail);
                        else if (streaming) stream(out + c, v);
                        else store<A>(out + c, v);
                    });
                }
            }
            if (streaming) stream_fence();
        }
    });
    write_parameter_gradients<A>(p, shares.get(), tasks);
}
