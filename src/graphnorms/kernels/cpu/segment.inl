// Statistics over nodes: how the segments are shared out among threads.
//
// Short segments: a task is the segments that begin within a fixed range of rows; it does
// everything for them while they are in its cache. Long segments: their chunks are summed in
// parallel, merged, and applied in parallel. Neither depends on the number of threads.

struct Chunk {
    int64_t segment;  // index among the long segments
    int64_t begin, end;
};

class LongSegments {
  public:
    LongSegments(const Norm& p, int64_t rows_per_chunk) : limit_(2 * rows_per_chunk) {
        int64_t chunks = 0;
        for (int64_t s = 0; s < p.segments; ++s)
            if (is_long(p, s)) ++count_, chunks += (length(p, s) + rows_per_chunk - 1) / rows_per_chunk;
        if (!count_) return;
        segments_ = static_cast<int64_t*>(std::malloc((2 * count_ + 1) * sizeof(int64_t)));
        chunks_ = static_cast<Chunk*>(std::malloc(chunks * sizeof(Chunk)));
        if (!segments_ || !chunks_) std::abort();
        int64_t k = 0;
        for (int64_t s = 0; s < p.segments; ++s) {
            if (!is_long(p, s)) continue;
            segments_[k] = s;
            segments_[count_ + k] = num_chunks_;
            for (int64_t i = p.ptr[s]; i < p.ptr[s + 1]; i += rows_per_chunk)
                chunks_[num_chunks_++] = {k, i, smaller(p.ptr[s + 1], i + rows_per_chunk)};
            ++k;
        }
        segments_[2 * count_] = num_chunks_;
    }
    ~LongSegments() {
        std::free(segments_);
        std::free(chunks_);
    }
    LongSegments(const LongSegments&) = delete;
    LongSegments& operator=(const LongSegments&) = delete;

    static int64_t length(const Norm& p, int64_t s) { return p.ptr[s + 1] - p.ptr[s]; }
    bool is_long(const Norm& p, int64_t s) const { return length(p, s) > limit_; }
    int64_t count() const { return count_; }
    int64_t num_chunks() const { return num_chunks_; }
    int64_t segment(int64_t k) const { return segments_[k]; }
    int64_t first_chunk(int64_t k) const { return segments_[count_ + k]; }
    const Chunk& chunk(int64_t i) const { return chunks_[i]; }

  private:
    int64_t limit_, count_ = 0, num_chunks_ = 0;
    int64_t* segments_ = nullptr;  // the segments, then the first chunk of each, then the end
    Chunk* chunks_ = nullptr;
};

// The first segment that begins at or after `row`.
inline int64_t first_segment(const Norm& p, int64_t row) {
    int64_t low = 0, high = p.segments;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (p.ptr[middle] < row) low = middle + 1;
        else high = middle;
    }
    return low;
}

// Calls run(workspace, task, first segment, last segment), one task a thread at a time.
template <class A, class Run> void for_tasks(const Norm& p, int64_t tasks, int64_t rows_per_task, Run&& run) {
#pragma omp parallel num_threads(p.threads) if (p.threads > 1)
    {
        Channels<A> w(p);
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < tasks; ++t)
            run(w, t, first_segment(p, t * rows_per_task),
                t + 1 == tasks ? p.segments : first_segment(p, (t + 1) * rows_per_task));
    }
}

// Calls run(workspace, i) for i in 0..n, on all threads.
template <class A, class Run> void for_each(const Norm& p, int64_t n, Run&& run) {
    if (!n) return;
#pragma omp parallel num_threads(p.threads) if (p.threads > 1)
    {
        Channels<A> w(p);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n; ++i) run(w, i);
    }
}

inline int64_t count_tasks(const Norm& p, int64_t rows_per_task) {
    return larger<int64_t>(1, (p.rows + rows_per_task - 1) / rows_per_task);
}

template <class T> bool streams(const Norm& p, const void* out) {
    constexpr int64_t aligned = kLanes<Accumulate<T>> * int64_t(sizeof(T));
    const int64_t row = p.channels * int64_t(sizeof(T));
    const int64_t bytes = p.rows * row;
    return kCanStream && bytes > kStreamBytes && bytes <= kFreshBytes && row % aligned == 0 &&
           reinterpret_cast<uintptr_t>(out) % aligned == 0;
}

// The pivot of a segment is its first row; where no centre is subtracted, sums are about zero.
template <class T, class A = Accumulate<T>>
void take_pivot(const Norm& p, const Rows<const T>& x, int64_t s, const Channels<A>& w, A* pivot) {
    if (p.center == kNone || p.ptr[s] == p.ptr[s + 1]) {
        for (int64_t c = 0; c < p.channels; ++c) pivot[c] = 0;
        return;
    }
    const T* row = x[p.ptr[s]];
    for_strips<A>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        for (int k = 0; k < K; ++k) {
            const int64_t at = c + k * kLanes<A>;
            put<Tail>(pivot + at, get<Tail>(row + at, tail), tail);
        }
    });
    w.clear_without_center(pivot);
}

// Leaves in `mean` the mean relative to the pivot, in w.sum the sum of squares about it.
template <class T, class A = Accumulate<T>>
void chunk_statistics(const Norm& p, const Rows<const T>& x, int64_t begin, int64_t end, A* mean, Channels<A>& w) {
    const int64_t C = p.channels;
    if (p.center == kNone) {
        for (int64_t c = 0; c < C; ++c) mean[c] = w.hi[c] = w.lo[c] = 0;
    } else {
        sum_shifted<T>(x, begin, end, C, w);
        const A per_row = A(1) / A(end - begin);
        const A *sum = w.sum, *pivot = w.pivot;
        A *hi = w.hi, *lo = w.lo;
        for (int64_t c = 0; c < C; ++c) mean[c] = sum[c] * per_row;
        w.clear_without_center(mean);
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) {
            hi[c] = pivot[c] + mean[c];
            lo[c] = mean[c] - (hi[c] - pivot[c]);
        }
    }
    if (p.scale != kNone) sum_squares<T>(x, begin, end, C, w);
}

// The positions behind the last segment are masked rows: out = in, and the residual added.
template <class T>
void pass_masked(const Norm& p, const Rows<const T>& in, const Rows<const T>& residual, const Rows<T>& out) {
    using A = Accumulate<T>;
    const int64_t first = p.ptr[p.segments];
    if (first == p.rows || !out.base) return;
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
    for (int64_t i = first; i < p.rows; ++i) {
        if (!residual.base) {
            std::memcpy(out[i], in[i], size_t(p.channels) * sizeof(T));
            continue;
        }
        for_strips<A>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            for (int k = 0; k < K; ++k) {
                const int64_t at = c + k * kLanes<A>;
                put<Tail>(out[i] + at, get<Tail>(in[i] + at, tail) + get<Tail>(residual[i] + at, tail), tail);
            }
        });
    }
}

template <class T> void segment_forward(const NormForward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, R = chunk_rows<T>(C);
    const Rows<const T> x{static_cast<const T*>(p.x), p.x_stride, p.order};
    const Rows<const T> residual{static_cast<const T*>(p.residual), p.residual_stride, p.order};
    const Rows<T> y{static_cast<T*>(p.y), C, p.order};
    const bool streaming = streams<T>(p, p.y);
    const LongSegments longs(p, R);

    pass_masked<T>(p, x, residual, y);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        const bool alone = strips_alone<A, E::kVectors>(p);
        for_tasks<A>(p, count_tasks(p, R), R, [&](Channels<A>& w, int64_t, int64_t first, int64_t last) {
            Vec<A> largest = {};  // s^2 of the short segments
            for (int64_t s = first; s < last; ++s) {
                const int64_t begin = p.ptr[s], end = p.ptr[s + 1];
                if (longs.is_long(p, s)) continue;
                if (alone && begin < end && is_short(p, s)) {
                    for_strips<A, E::kVectors>(C, [&]<int K, bool Tail>(int64_t c, int tail) {
                        short_forward_strip<T, E, K, Tail>(p, epilogue, x, residual, y, s, c, tail, streaming,
                                                           largest);
                    });
                    continue;
                }
                take_pivot<T>(p, x, s, w, w.pivot);
                if (begin == end) {
                    for (int64_t c = 0; c < C; ++c) w.sum[c] = w.square[c] = 0;
                } else {
                    chunk_statistics<T>(p, x, begin, end, w.square, w);
                }
                forward_coefficients<A>(p, s, end - begin, w.square, w.sum, w);
                apply_forward<T>(x, residual, y, begin, end, C, w, epilogue, streaming);
            }
            check_lanes<A>(p, largest > std::numeric_limits<A>::max());
            if (streaming) stream_fence();
        });
        if (!longs.count()) return;

        // (mean, sum of squares about it) of every chunk, merged as Chan et al. (1983) do
        Buffer<A> partial(2 * C * longs.num_chunks());
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            A* mean = partial.get() + 2 * C * i;
            take_pivot<T>(p, x, longs.segment(chunk.segment), w, w.pivot);
            chunk_statistics<T>(p, x, chunk.begin, chunk.end, mean, w);
            for (int64_t c = 0; c < C; ++c) mean[C + c] = w.sum[c];
        });
        for_each<A>(p, longs.count(), [&](Channels<A>& w, int64_t k) {
            const int64_t s = longs.segment(k), n = LongSegments::length(p, s);
            double *mean = w.wide.get(), *m2 = mean + C;
            for (int64_t c = 0; c < 2 * C; ++c) mean[c] = 0;
            for (int64_t i = longs.first_chunk(k); i < longs.first_chunk(k + 1); ++i) {
                const double share = double(longs.chunk(i).end - longs.chunk(i).begin) / double(n);
                const A* own = partial.get() + 2 * C * i;
                for (int64_t c = 0; c < C; ++c) mean[c] += share * double(own[c]);
            }
            for (int64_t i = longs.first_chunk(k); i < longs.first_chunk(k + 1); ++i) {
                const double rows = double(longs.chunk(i).end - longs.chunk(i).begin);
                const A* own = partial.get() + 2 * C * i;
                for (int64_t c = 0; c < C; ++c) {
                    const double distance = double(own[c]) - mean[c];
                    m2[c] += double(own[C + c]) + rows * distance * distance;
                }
            }
            for (int64_t c = 0; c < C; ++c) w.square[c] = A(mean[c]), w.sum[c] = A(m2[c]);
            take_pivot<T>(p, x, s, w, w.pivot);
            forward_coefficients<A>(p, s, n, w.square, w.sum, w);
        });
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            const int64_t s = longs.segment(chunk.segment);
            take_pivot<T>(p, x, s, w, w.pivot);
            recall_coefficients<A>(p, s, w);
            apply_forward<T>(x, residual, y, chunk.begin, chunk.end, C, w, epilogue, streaming);
            if (streaming) stream_fence();
        });
    });
}

// Segments add to the gradients of parameters of their own, which begin with 0.
template <class A> void clear_own_gradients(const NormBackward& p) {
    if (!p.affine_stride) return;
    void* const own[2] = {p.grad_weight, p.grad_bias};
    for (void* grad : own)
        if (grad) std::memset(grad, 0, size_t(p.segments * p.channels) * sizeof(A));
}

// Adds up the tasks' shares of the shared parameters' gradients, in double and in the order of
// tasks.
template <class A> void write_parameter_gradients(const NormBackward& p, const A* shares, int64_t tasks) {
    void* const outputs[3] = {p.grad_weight, p.grad_bias, p.grad_mean_scale};
    const int64_t C = p.channels;
    Buffer<double> total(C);
    for (int which = 0; which < 3; ++which) {
        if (!outputs[which] || (which < 2 && p.affine_stride)) continue;
        for (int64_t c = 0; c < C; ++c) total.get()[c] = 0;
        for (int64_t t = 0; t < tasks; ++t)
            for (int64_t c = 0; c < C; ++c) total.get()[c] += double(shares[(3 * t + which) * C + c]);
        for (int64_t c = 0; c < C; ++c) static_cast<A*>(outputs[which])[c] = A(total.get()[c]);
    }
}

template <class T> void segment_backward(const NormBackward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, R = chunk_rows<T>(C);
    const Rows<const T> x{static_cast<const T*>(p.x), p.x_stride, p.order};
    const Rows<const T> grad_y{static_cast<const T*>(p.grad_y), p.grad_y_stride, p.order};
    const Rows<T> grad_x{static_cast<T*>(p.grad_x), C, p.order};
    const bool streaming = streams<T>(p, p.grad_x);
    const LongSegments longs(p, R);
    const int64_t tasks = count_tasks(p, R);
    Buffer<A> shares(3 * C * (tasks + longs.count()));
    for (int64_t c = 0; c < 3 * C * (tasks + longs.count()); ++c) shares.get()[c] = 0;

    clear_own_gradients<A>(p);
    pass_masked<T>(p, grad_y, {}, grad_x);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        const bool alone = strips_alone<A, E::kVectors>(p);
        for_tasks<A>(p, tasks, R, [&](Channels<A>& w, int64_t task, int64_t first, int64_t last) {
            Vec<A> smallest = Vec<A>{} + A(1);  // 1 / s of the short segments
            for (int64_t s = first; s < last; ++s) {
                const int64_t begin = p.ptr[s], end = p.ptr[s + 1];
                if (begin == end || longs.is_long(p, s)) continue;
                const ParameterGradients<A> grads(p, s, shares.get() + 3 * C * task);
                if (alone && is_short(p, s)) {
                    for_strips<A, E::kVectors>(C, [&]<int K, bool Tail>(int64_t c, int tail) {
                        short_backward_strip<T, E, K, Tail>(p, epilogue, x, grad_y, grad_x, s, c, tail, grads,
                                                            streaming, smallest);
                    });
                    continue;
                }
                take_pivot<T>(p, x, s, w, w.pivot);
                recall_coefficients<A>(p, s, w);
                sum_gradients<T>(x, grad_y, begin, end, C, w, epilogue);
                backward_coefficients<A>(p, s, end - begin, w, grads);
                if (p.grad_x) apply_backward<T>(x, grad_y, grad_x, begin, end, C, w, epilogue, streaming);
            }
            check_lanes<A>(p, smallest * smallest < std::numeric_limits<A>::min());
            if (streaming) stream_fence();
        });
        if (!longs.count()) return;

        Buffer<A> partial(2 * C * longs.num_chunks()), coefficients(2 * C * longs.count());
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            const int64_t s = longs.segment(chunk.segment);
            take_pivot<T>(p, x, s, w, w.pivot);
            recall_coefficients<A>(p, s, w);
            sum_gradients<T>(x, grad_y, chunk.begin, chunk.end, C, w, epilogue);
            A* sums = partial.get() + 2 * C * i;
            for (int64_t c = 0; c < C; ++c) sums[c] = w.sum[c], sums[C + c] = w.square[c];
        });
        for_each<A>(p, longs.count(), [&](Channels<A>& w, int64_t k) {
            const int64_t s = longs.segment(k);
            double* wide = w.wide.get();
            for (int64_t c = 0; c < 2 * C; ++c) wide[c] = 0;
            for (int64_t i = longs.first_chunk(k); i < longs.first_chunk(k + 1); ++i)
                for (int64_t c = 0; c < 2 * C; ++c) wide[c] += double(partial.get()[2 * C * i + c]);
            take_pivot<T>(p, x, s, w, w.pivot);
            recall_coefficients<A>(p, s, w);
            for (int64_t c = 0; c < C; ++c) w.sum[c] = A(wide[c]), w.square[c] = A(wide[C + c]);
            backward_coefficients<A>(p, s, LongSegments::length(p, s), w,
                                     {p, s, shares.get() + 3 * C * (tasks + k)});
            A* kept = coefficients.get() + 2 * C * k;
            for (int64_t c = 0; c < C; ++c) kept[c] = w.sum[c], kept[C + c] = w.square[c];
        });
        if (!p.grad_x) return;
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            const int64_t s = longs.segment(chunk.segment);
            take_pivot<T>(p, x, s, w, w.pivot);
            recall_coefficients<A>(p, s, w);
            const A* kept = coefficients.get() + 2 * C * chunk.segment;
            for (int64_t c = 0; c < C; ++c) w.sum[c] = kept[c], w.square[c] = kept[C + c];
            apply_backward<T>(x, grad_y, grad_x, chunk.begin, chunk.end, C, w, epilogue, streaming);
            if (streaming) stream_fence();
        });
    });
    write_parameter_gradients<A>(p, shares.get(), tasks + longs.count());
}
