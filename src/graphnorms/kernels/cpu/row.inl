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
    if constexpr (Tail) return first_lanes<A>(v, tail);
    else return v;
}

template <class A> struct RowCenter {
    A hi, lo;
};

template <class A> inline RowCenter<A> row_center(A pivot, A shift) {
    const A hi = pivot + shift;
    return {hi, shift - (hi - pivot)};
}

template <class T> inline Accumulate<T> first_entry(const T* p) { return load_part(p, 1)[0]; }

// Which rows are normalized, and by whose weight and bias. The segments matter only where they
// have parameters of their own, or leave out masked rows.
struct RowSegments {
    explicit RowSegments(const Norm& p)
        : own(p.affine_stride != 0), end(p.ptr[p.segments]),
          order(own || end < p.rows ? p.order : nullptr), shared{0, end},
          ptr(own ? p.ptr : shared), count(own ? p.segments : 1) {}
    RowSegments(const RowSegments&) = delete;

    bool own;      // whether every segment has parameters of its own
    int64_t end;   // positions from here on are masked rows
    const int64_t* order;
    int64_t shared[2];
    const int64_t* ptr;  // (count + 1), where parameters change
    int64_t count;

    // Whether a run of positions is all of a segment that has parameters of its own.
    bool whole(int64_t s, int64_t begin, int64_t last) const {
        return own && begin == ptr[s] && last == ptr[s + 1];
    }

    // The segment that holds a position.
    int64_t at(int64_t position) const {
        int64_t low = 0, high = count - 1;
        while (low < high) {
            const int64_t middle = (low + high + 1) / 2;
            if (ptr[middle] <= position) low = middle;
            else high = middle - 1;
        }
        return low;
    }
};

// Calls run(segment, first position, last position) for the runs of one segment among
// begin..end.
template <class Run> inline void for_runs(const RowSegments& segments, int64_t begin, int64_t end, Run&& run) {
    if (begin >= end) return;
    int64_t s = segments.at(begin);
    for (int64_t i = begin; i < end; ++s) {
        const int64_t last = smaller(end, segments.ptr[s + 1]);
        if (i < last) run(s, i, last);
        i = last;
    }
}

template <class A> void clear_masked_statistics(const Norm& p, const RowSegments& segments) {
    void* const statistics[3] = {p.center == kNone ? nullptr : p.shift, p.scale == kNone ? nullptr : p.rstd, p.moment};
    for (int64_t i = segments.end; i < p.rows; ++i)
        for (void* statistic : statistics) {
            if (!statistic) continue;
            A* row = static_cast<A*>(statistic) + segments.order[i] * p.groups;
            for (int64_t g = 0; g < p.groups; ++g) row[g] = 0;
        }
}

template <class T> void row_forward(const NormForward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, G = p.groups, width = C / G, R = chunk_rows<T>(C);
    const bool streaming = streams<T>(p, p.y) && width % kLanes<A> == 0;
    const RowSegments segments(p);
    const Rows<const T> x{static_cast<const T*>(p.x), p.x_stride, segments.order};
    const Rows<const T> residual{static_cast<const T*>(p.residual), p.residual_stride, segments.order};
    const Rows<T> y{static_cast<T*>(p.y), C, segments.order};
    const int64_t tasks = (segments.end + R - 1) / R;
    pass_masked<T>(p, x, residual, y);
    clear_masked_statistics<A>(p, segments);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        const auto normalize_row = [&](int64_t position, const A* weight, const A* bias, A& largest) {
            const int64_t i = x.row(position);
            const T *row = x[position], *added = residual.base ? residual[position] : nullptr;
            T* out = y[position];
            const auto key = epilogue.row(i);
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
                    largest = moment > largest ? moment : largest;
                    if (p.moment) static_cast<A*>(p.moment)[i * G + g] = moment;
                    rstd = A(1) / std::sqrt(moment + A(p.eps));
                    static_cast<A*>(p.rstd)[i * G + g] = rstd;
                }
                for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                    Vec<A> v = ((get<Tail>(row + c, tail) - m.hi) - m.lo) * rstd;
                    if (weight) v *= get<Tail>(weight + c, tail);
                    if (bias) v += get<Tail>(bias + c, tail);
                    v = epilogue.forward(v, key, c);
                    if (added) v += get<Tail>(added + c, tail);
                    put_result<Tail>(out + c, v, tail, streaming);
                });
            }
        };
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
        for (int64_t task = 0; task < tasks; ++task) {
            A largest = 0;  // s^2
            for_runs(segments, task * R, smaller(segments.end, (task + 1) * R),
                     [&](int64_t s, int64_t begin, int64_t end) {
                const A *weight = weight_of<A>(p, s), *bias = bias_of<A>(p, s);
                for (int64_t i = begin; i < end; ++i) normalize_row(i, weight, bias, largest);
            });
            check_moments(p, &largest, 1);
            if (streaming) stream_fence();
        }
    });
}

// Where a run adds its share of the gradients of weight and bias, (channels) each.
template <class A> struct RowShare {
    A *weight, *bias;
};

// The shares of the gradients of weight and bias, (2 x channels) each, that the tasks have in
// the segments: one for every run of one segment in a task, in the order of positions. A run that
// is all of its segment adds to the result instead, which is 0 before.
template <class A> class RowShares {
  public:
    RowShares(const NormBackward& p, const RowSegments& segments, int64_t tasks, int64_t rows_per_task)
        : segments_(segments), channels_(p.channels), weight_(static_cast<A*>(p.grad_weight)),
          bias_(static_cast<A*>(p.grad_bias)), first_(tasks + 1) {
        clear_own_gradients<A>(p);
        first_.get()[0] = 0;
        for (int64_t t = 0; t < tasks; ++t) {
            const int64_t begin = t * rows_per_task, end = smaller(segments.end, begin + rows_per_task);
            int64_t runs = 0;
            for_runs(segments, begin, end, [&](int64_t s, int64_t first, int64_t last) {
                runs += !segments.whole(s, first, last);
            });
            first_.get()[t + 1] = first_.get()[t] + runs;
        }
        const int64_t size = 2 * channels_ * first_.get()[tasks];
        values_ = static_cast<A*>(std::calloc(size_t(size) + 1, sizeof(A)));
        if (!values_) std::abort();
    }
    ~RowShares() { std::free(values_); }
    RowShares(const RowShares&) = delete;
    RowShares& operator=(const RowShares&) = delete;

    // `run` counts the shares of a task, `unused` has room for two rows that nobody asks for.
    RowShare<A> of(int64_t task, int64_t& run, int64_t s, int64_t begin, int64_t end, A* unused) {
        if (segments_.whole(s, begin, end))
            return {weight_ ? weight_ + s * channels_ : unused,
                    bias_ ? bias_ + s * channels_ : unused + channels_};
        A* share = at(first_.get()[task] + run++);
        return {share, share + channels_};
    }
    A* at(int64_t number) { return values_ + 2 * channels_ * number; }

  private:
    const RowSegments& segments_;
    int64_t channels_;
    A *weight_, *bias_;
    Buffer<int64_t> first_;
    A* values_;
};

// Adds up the shares of every segment, in double and in the order of tasks.
template <class A>
void write_row_gradients(const NormBackward& p, const RowSegments& segments, int64_t tasks, int64_t rows_per_task,
                         RowShares<A>& shares) {
    const int64_t C = p.channels;
    void* const outputs[2] = {p.grad_weight, p.grad_bias};
    for (int which = 0; which < 2; ++which) {
        A* out = static_cast<A*>(outputs[which]);
        if (!out) continue;
        Buffer<double> total(C);
        int64_t current = segments.own ? -1 : 0, number = 0;
        for (int64_t c = 0; c < C; ++c) total.get()[c] = 0;
        const auto write = [&] {
            if (current >= 0)
                for (int64_t c = 0; c < C; ++c) out[current * C + c] = A(total.get()[c]);
        };
        for (int64_t t = 0; t < tasks; ++t)
            for_runs(segments, t * rows_per_task, smaller(segments.end, (t + 1) * rows_per_task),
                     [&](int64_t s, int64_t begin, int64_t end) {
                if (segments.whole(s, begin, end)) return;
                if (s != current) {
                    write();
                    for (int64_t c = 0; c < C; ++c) total.get()[c] = 0;
                    current = s;
                }
                const A* share = shares.at(number++) + which * C;
                for (int64_t c = 0; c < C; ++c) total.get()[c] += double(share[c]);
            });
        write();
    }
}

template <class T> void row_backward(const NormBackward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, G = p.groups, width = C / G, R = chunk_rows<T>(C);
    const bool streaming = streams<T>(p, p.grad_x) && width % kLanes<A> == 0;
    const RowSegments segments(p);
    const Rows<const T> x{static_cast<const T*>(p.x), p.x_stride, segments.order};
    const Rows<const T> grad_y{static_cast<const T*>(p.grad_y), p.grad_y_stride, segments.order};
    const Rows<T> grad_x{static_cast<T*>(p.grad_x), C, segments.order};
    const int64_t tasks = (segments.end + R - 1) / R;
    RowShares<A> shares(p, segments, tasks, R);
    pass_masked<T>(p, grad_y, {}, grad_x);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        // `kept` holds 2 rows: f'(pre) grad_y weight, and (x - m) rstd.
        const auto differentiate_row = [&](int64_t position, const A* weight, const A* bias, A* grad_weight,
                                           A* grad_bias, A* kept, A& smallest) {
            const int64_t i = x.row(position);
            const T *row = x[position], *grad_row = grad_y[position];
            A *g_row = kept, *o_row = kept + C;
            const auto key = epilogue.row(i);
            for (int64_t group = 0; group < G; ++group) {
                const int64_t first = group * width, last = first + width, cell = i * G + group;
                const RowCenter<A> m = p.center == kNone
                    ? RowCenter<A>{0, 0}
                    : row_center(first_entry(row + first), static_cast<const A*>(p.shift)[cell]);
                const A rstd = p.scale == kNone ? A(1) : static_cast<const A*>(p.rstd)[cell];
                smallest = rstd < smallest ? rstd : smallest;
                Vec<A> sum_g = {}, sum_go = {};
                for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                    const Vec<A> o = ((get<Tail>(row + c, tail) - m.hi) - m.lo) * rstd;
                    Vec<A> pre = {};
                    if constexpr (E::needs_input) {
                        pre = o;
                        if (weight) pre *= get<Tail>(weight + c, tail);
                        if (bias) pre += get<Tail>(bias + c, tail);
                    }
                    Vec<A> g = only<A, Tail>(epilogue.backward(pre, get<Tail>(grad_row + c, tail), key, c), tail);
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
                T* out = grad_x[position];
                for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                    const Vec<A> v = ((get<Tail>(g_row + c, tail) - mean_g) -
                                      get<Tail>(o_row + c, tail) * mean_go) * rstd;
                    put_result<Tail>(out + c, v, tail, streaming);
                });
            }
        };
#pragma omp parallel for schedule(dynamic) num_threads(p.threads) if (p.threads > 1)
        for (int64_t task = 0; task < tasks; ++task) {
            Buffer<A> kept(4 * C);
            for (int64_t c = 2 * C; c < 4 * C; ++c) kept.get()[c] = 0;
            A smallest = 1;  // 1 / s
            int64_t run = 0;
            for_runs(segments, task * R, smaller(segments.end, (task + 1) * R),
                     [&](int64_t s, int64_t begin, int64_t end) {
                const A *weight = weight_of<A>(p, s), *bias = bias_of<A>(p, s);
                const RowShare<A> share = shares.of(task, run, s, begin, end, kept.get() + 2 * C);
                for (int64_t i = begin; i < end; ++i)
                    differentiate_row(i, weight, bias, share.weight, share.bias, kept.get(), smallest);
            });
            check_rstds(p, &smallest, 1);
            if (streaming) stream_fence();
        }
    });
    write_row_gradients<A>(p, segments, tasks, R, shares);
}
