// Statistics within a row: LayerNorm and GroupNorm per node, RMSNorm, and norms of degrees.
//
// A row stays in the L1 cache between its passes. The parameters' gradients are summed per task
// of fixed size, then over tasks in double.

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
    const struct { void* of; int64_t cells; } statistics[3] = {{p.center == kNone ? nullptr : p.shift, p.centers},
                                                               {p.scale == kNone ? nullptr : p.rstd, p.scales},
                                                               {p.moment, p.scales}};
    for (int64_t i = segments.end; i < p.rows; ++i)
        for (const auto& [of, cells] : statistics)
            if (of) std::memset(static_cast<A*>(of) + segments.order[i] * cells, 0, size_t(cells) * sizeof(A));
}

template <class T, class Cells, class Division> void row_forward(const NormForward& p, const Division& columns) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, R = chunk_rows<T>(C);
    const bool streaming = streams<T>(p, p.y) && columns.aligned;
    const RowSegments segments(p);
    const Rows<const T> x{static_cast<const T*>(p.x), p.x_stride, segments.order};
    const Rows<const T> residual{static_cast<const T*>(p.residual), p.residual_stride, segments.order};
    const Rows<T> y{static_cast<T*>(p.y), C, segments.order};
    const int64_t tasks = (segments.end + R - 1) / R;
    pass_masked<T>(p, x, residual, y);
    clear_masked_statistics<A>(p, segments);

    const auto center_row = [&](const T* row, int64_t i, Cells& cells) {
        for (int64_t k = 0; k < columns.centers; ++k) {
            const auto [first, last, pieces] = columns.center(k);
            const A pivot = first_entry(row + first);
            const Vec<A> sum = sum_of_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                return only<A, Tail>(get<Tail>(row + c, tail) - pivot, tail);
            });
            const A shift = horizontal_sum<A>(sum) / A(larger<int64_t>(last - first, 1));  // a cell may be empty
            static_cast<A*>(p.shift)[i * columns.centers + k] = shift;
            cells.center(k) = row_center(pivot, shift);
        }
    };
    const auto scale_row = [&](const T* row, int64_t i, Cells& cells, A& largest) {
        for (int64_t k = 0; k < columns.scales; ++k) {
            if (p.scale == kNone) {
                cells.rstd(k) = 1;
                continue;
            }
            Vec<A> sum = {};
            for (const auto* piece = columns.begin(k); piece < columns.end(k); ++piece) {
                const RowCenter<A> m = cells.center_of(*piece);
                sum += piece->weight *
                       sum_of_vectors<A>(piece->first, piece->last, [&]<bool Tail>(int64_t c, int tail) {
                    const Vec<A> o = only<A, Tail>(deviation<Tail>(row, c, tail, m), tail);
                    return o * o;
                });
            }
            const A moment = horizontal_sum<A>(sum);
            largest = moment > largest ? moment : largest;
            if (p.moment) static_cast<A*>(p.moment)[i * columns.scales + k] = moment;
            cells.rstd(k) = A(1) / std::sqrt(moment + A(p.eps));
            static_cast<A*>(p.rstd)[i * columns.scales + k] = cells.rstd(k);
        }
    };
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        const auto write_row = [&](int64_t position, const A* weight, const A* bias, Cells& cells) {
            const T *row = x[position], *added = residual.base ? residual[position] : nullptr;
            T* out = y[position];
            const auto key = epilogue.row(x.row(position));
            for (const auto& piece : columns) {
                const RowCenter<A> m = cells.center_of(piece);
                const A rstd = cells.rstd(piece.scale);
                for_vectors<A>(piece.first, piece.last, [&]<bool Tail>(int64_t c, int tail) {
                    Vec<A> v = times<Tail>(deviation<Tail>(row, c, tail, m) * rstd, weight, c, tail);
                    if (bias) v += get<Tail>(bias + c, tail);
                    v = epilogue.forward(v, key, c);
                    if (added) v += get<Tail>(added + c, tail);
                    put_result<Tail>(out + c, v, tail, streaming);
                });
            }
        };
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
        for (int64_t task = 0; task < tasks; ++task) {
            Cells cells(columns);
            A largest = 0;  // s^2
            for_runs(segments, task * R, smaller(segments.end, (task + 1) * R),
                     [&](int64_t s, int64_t begin, int64_t end) {
                const A *weight = weight_of<A>(p, s), *bias = bias_of<A>(p, s);
                for (int64_t i = begin; i < end; ++i) {
                    center_row(x[i], x.row(i), cells);
                    scale_row(x[i], x.row(i), cells, largest);
                    write_row(i, weight, bias, cells);
                }
            });
            check_moments(p, &largest, 1);
            if (streaming) stream_fence();
        }
    });
}

template <class T> void row_forward(const NormForward& p) {
    with_columns<T, kUsualWidth<T>>(p, [&]<class Cells>(const auto& columns) { row_forward<T, Cells>(p, columns); });
}

// Where a run adds its share of the gradients of weight and bias, (channels) each; null where
// nobody asks.
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

    // `run` counts the shares of a task.
    RowShare<A> of(int64_t task, int64_t& run, int64_t s, int64_t begin, int64_t end) {
        const bool whole = segments_.whole(s, begin, end);
        A* const share = whole ? nullptr : at(first_.get()[task] + run++);
        return {!weight_ ? nullptr : whole ? weight_ + s * channels_ : share,
                !bias_ ? nullptr : whole ? bias_ + s * channels_ : share + channels_};
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

template <class T, class Cells, class Division> void row_backward(const NormBackward& p, const Division& columns) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, R = chunk_rows<T>(C);
    const bool streaming = streams<T>(p, p.grad_x) && columns.aligned, scaled = p.scale != kNone;
    const RowSegments segments(p);
    const Rows<const T> x{static_cast<const T*>(p.x), p.x_stride, segments.order};
    const Rows<const T> grad_y{static_cast<const T*>(p.grad_y), p.grad_y_stride, segments.order};
    const Rows<T> grad_x{static_cast<T*>(p.grad_x), C, segments.order};
    const int64_t tasks = (segments.end + R - 1) / R;
    RowShares<A> shares(p, segments, tasks, R);
    pass_masked<T>(p, grad_y, {}, grad_x);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        // With g the gradient of the pre-activation and b the sum of weight g o_hat over the cell of
        // the scale: d = rstd (weight g - w o_hat b), and grad_x is d minus its mean over the cell of
        // the centre. `sums` has room for b and for this mean, of each cell.
        const auto differentiate_row = [&](int64_t position, const A* weight, const A* bias, const RowShare<A>& share,
                                           A* scratch, Cells& cells, A* sums) {
            const T *row = x[position], *grad_row = grad_y[position];
            const A* g_row = row_of_gradient<E>(p, grad_row, scratch);
            A *of_scale = sums, *of_center = sums + columns.scales;
            const auto key = epilogue.row(x.row(position));
            for (int64_t k = 0; k < columns.centers; ++k) of_center[k] = 0;
            for (int64_t k = 0; k < columns.scales; ++k) {
                const A rstd = cells.rstd(k);
                Vec<A> sum_go = {};
                for (const auto* piece = columns.begin(k); piece < columns.end(k); ++piece) {
                    const RowCenter<A> m = cells.center_of(*piece);
                    Vec<A> sum_g = {};
                    for_vectors<A>(piece->first, piece->last, [&]<bool Tail>(int64_t c, int tail) {
                        const Vec<A> o = deviation<Tail>(row, c, tail, m) * rstd;
                        Vec<A> pre = {};
                        if constexpr (E::needs_input) {
                            pre = times<Tail>(o, weight, c, tail);
                            if (bias) pre += get<Tail>(bias + c, tail);
                        }
                        Vec<A> g = only<A, Tail>(epilogue.backward(pre, get<Tail>(grad_row + c, tail), key, c), tail);
                        if (g_row == scratch) put<Tail>(scratch + c, g, tail);
                        add_to<Tail>(share.weight, g * o, c, tail);
                        add_to<Tail>(share.bias, g, c, tail);
                        g = times<Tail>(g, weight, c, tail);
                        sum_g += g;
                        sum_go += only<A, Tail>(g * o, tail);
                    });
                    if (piece->center >= 0) of_center[piece->center] += rstd * horizontal_sum<A>(sum_g);
                }
                of_scale[k] = scaled ? horizontal_sum<A>(sum_go) : A(0);
            }
            if (!p.grad_x) return;
            for (const auto& piece : columns) {  // o_hat has sum 0 over a whole cell of the centre
                if (piece.center < 0 || piece.whole) continue;
                const RowCenter<A> m = cells.center_of(piece);
                const A rstd = cells.rstd(piece.scale);
                of_center[piece.center] -=
                    rstd * rstd * piece.weight * of_scale[piece.scale] *
                    horizontal_sum<A>(sum_of_vectors<A>(piece.first, piece.last, [&]<bool Tail>(int64_t c, int tail) {
                        return only<A, Tail>(deviation<Tail>(row, c, tail, m), tail);
                    }));
            }
            T* out = grad_x[position];
            for (const auto& piece : columns) {
                const RowCenter<A> m = cells.center_of(piece);
                const A rstd = cells.rstd(piece.scale), along = piece.weight * of_scale[piece.scale] * rstd;
                A removed = 0;
                if (piece.center >= 0) {
                    const CenterCell& cell = columns.center(piece.center);
                    removed = of_center[piece.center] / A(cell.last - cell.first);
                }
                for_vectors<A>(piece.first, piece.last, [&]<bool Tail>(int64_t c, int tail) {
                    const Vec<A> g = times<Tail>(get<Tail>(g_row + c, tail), weight, c, tail);
                    const Vec<A> v = (g - deviation<Tail>(row, c, tail, m) * along) * rstd - removed;
                    put_result<Tail>(out + c, v, tail, streaming);
                });
            }
        };
#pragma omp parallel for schedule(dynamic) num_threads(p.threads) if (p.threads > 1)
        for (int64_t task = 0; task < tasks; ++task) {
            Buffer<A> scratch(C), sums(columns.scales + columns.centers);
            Cells cells(columns);
            int64_t run = 0;
            for_runs(segments, task * R, smaller(segments.end, (task + 1) * R),
                     [&](int64_t s, int64_t begin, int64_t end) {
                const A *weight = weight_of<A>(p, s), *bias = bias_of<A>(p, s);
                const RowShare<A> share = shares.of(task, run, s, begin, end);
                for (int64_t i = begin; i < end; ++i) {
                    cells.recall(p, columns, x[i], x.row(i));
                    if (scaled) check_rstds(p, &cells.rstd(0), columns.scales);
                    differentiate_row(i, weight, bias, share, scratch.get(), cells, sums.get());
                }
            });
            if (streaming) stream_fence();
        }
    });
    write_row_gradients<A>(p, segments, tasks, R, shares);
}

template <class T> void row_backward(const NormBackward& p) {
    with_columns<T, kUsualWidth<T>>(p, [&]<class Cells>(const auto& columns) { row_backward<T, Cells>(p, columns); });
}
