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
        Channels<A> w(p.channels);
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
        Channels<A> w(p.channels);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n; ++i) run(w, i);
    }
}

inline int64_t count_tasks(const Norm& p, int64_t rows_per_task) {
    return larger<int64_t>(1, (p.rows + rows_per_task - 1) / rows_per_task);
}

template <class A> bool streams(const Norm& p, const void* out) {
    return kCanStream && p.rows * p.channels * int64_t(sizeof(A)) > kStreamBytes &&
           (p.channels * sizeof(A)) % kBytes == 0 && reinterpret_cast<uintptr_t>(out) % kBytes == 0;
}

// Where the centre is not subtracted the sums are about zero.
template <class A> const A* pivot_row(const Norm& p, const Rows<const A>& x, int64_t s, const A* zeros) {
    return p.center == kNone ? zeros : x[p.ptr[s]];
}

// Leaves in `mean` the mean relative to the pivot, in w.sum the sum of squares about it.
template <class A>
void chunk_statistics(const Norm& p, const Rows<const A>& x, int64_t begin, int64_t end, const A* pivot, A* mean,
                      Channels<A>& w) {
    const int64_t C = p.channels;
    if (p.center == kNone) {
        for (int64_t c = 0; c < C; ++c) mean[c] = w.hi[c] = w.lo[c] = 0;
    } else {
        sum_shifted<A>(x, begin, end, C, pivot, w);
        const A count = A(end - begin);
        for (int64_t c = 0; c < C; ++c) {
            mean[c] = w.sum[c] / count;
            w.hi[c] = pivot[c] + mean[c];
            w.lo[c] = mean[c] - (w.hi[c] - pivot[c]);
        }
    }
    if (p.scale != kNone) sum_squares<A>(x, begin, end, C, w);
}

template <class A> void segment_forward(const NormForward& p) {
    const int64_t C = p.channels, R = chunk_rows<A>(C);
    const Rows<const A> x{static_cast<const A*>(p.x), p.x_stride, p.order};
    const Rows<A> y{static_cast<A*>(p.y), C, p.order};
    const bool streaming = streams<A>(p, p.y);
    const LongSegments longs(p, R);
    Buffer<A> zeros(C);
    for (int64_t c = 0; c < C; ++c) zeros.get()[c] = 0;

    with_activation(p.activation, [&]<class Act>(Act) {
        for_tasks<A>(p, count_tasks(p, R), R, [&](Channels<A>& w, int64_t, int64_t first, int64_t last) {
            for (int64_t s = first; s < last; ++s) {
                const int64_t begin = p.ptr[s], end = p.ptr[s + 1];
                if (longs.is_long(p, s)) continue;
                if (begin == end) {
                    for (int64_t c = 0; c < C; ++c) w.sum[c] = 0;
                    forward_coefficients<A>(p, s, 0, zeros.get(), zeros.get(), w.sum, w);
                    continue;
                }
                const A* pivot = pivot_row<A>(p, x, s, zeros.get());
                chunk_statistics<A>(p, x, begin, end, pivot, w.square, w);
                forward_coefficients<A>(p, s, end - begin, pivot, w.square, w.sum, w);
                apply_forward<A, Act>(x, y, begin, end, C, w, streaming);
            }
            if (streaming) stream_fence();
        });
        if (!longs.count()) return;

        // (mean, sum of squares about it) of every chunk, merged as Chan et al. (1983) do
        Buffer<A> partial(2 * C * longs.num_chunks());
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            A* mean = partial.get() + 2 * C * i;
            const A* pivot = pivot_row<A>(p, x, longs.segment(chunk.segment), zeros.get());
            chunk_statistics<A>(p, x, chunk.begin, chunk.end, pivot, mean, w);
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
            forward_coefficients<A>(p, s, n, pivot_row<A>(p, x, s, zeros.get()), w.square, w.sum, w);
        });
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            const int64_t s = longs.segment(chunk.segment);
            recall_coefficients<A>(p, s, pivot_row<A>(p, x, s, zeros.get()), w);
            apply_forward<A, Act>(x, y, chunk.begin, chunk.end, C, w, streaming);
            if (streaming) stream_fence();
        });
    });
}

// Adds up the tasks' shares of the parameters' gradients, in double and in the order of tasks.
template <class A> void write_parameter_gradients(const NormBackward& p, const A* shares, int64_t tasks) {
    void* const outputs[3] = {p.grad_weight, p.grad_bias, p.grad_mean_scale};
    const int64_t C = p.channels;
    Buffer<double> total(C);
    for (int which = 0; which < 3; ++which) {
        if (!outputs[which]) continue;
        for (int64_t c = 0; c < C; ++c) total.get()[c] = 0;
        for (int64_t t = 0; t < tasks; ++t)
            for (int64_t c = 0; c < C; ++c) total.get()[c] += double(shares[(3 * t + which) * C + c]);
        for (int64_t c = 0; c < C; ++c) static_cast<A*>(outputs[which])[c] = A(total.get()[c]);
    }
}

template <class A> void segment_backward(const NormBackward& p) {
    const int64_t C = p.channels, R = chunk_rows<A>(C);
    const Rows<const A> x{static_cast<const A*>(p.x), p.x_stride, p.order};
    const Rows<const A> grad_y{static_cast<const A*>(p.grad_y), p.grad_y_stride, p.order};
    const Rows<A> grad_x{static_cast<A*>(p.grad_x), C, p.order};
    const bool streaming = streams<A>(p, p.grad_x);
    const LongSegments longs(p, R);
    const int64_t tasks = count_tasks(p, R);
    Buffer<A> zeros(C), shares(3 * C * (tasks + longs.count()));
    for (int64_t c = 0; c < C; ++c) zeros.get()[c] = 0;
    for (int64_t c = 0; c < 3 * C * (tasks + longs.count()); ++c) shares.get()[c] = 0;

    with_activation(p.activation, [&]<class Act>(Act) {
        for_tasks<A>(p, tasks, R, [&](Channels<A>& w, int64_t task, int64_t first, int64_t last) {
            for (int64_t s = first; s < last; ++s) {
                const int64_t begin = p.ptr[s], end = p.ptr[s + 1];
                if (begin == end || longs.is_long(p, s)) continue;
                const A* pivot = pivot_row<A>(p, x, s, zeros.get());
                recall_coefficients<A>(p, s, pivot, w);
                sum_gradients<A, Act>(x, grad_y, begin, end, C, w);
                backward_coefficients<A>(p, s, end - begin, pivot, w, shares.get() + 3 * C * task);
                if (p.grad_x) apply_backward<A, Act>(x, grad_y, grad_x, begin, end, C, w, streaming);
            }
            if (streaming) stream_fence();
        });
        if (!longs.count()) return;

        Buffer<A> partial(2 * C * longs.num_chunks()), coefficients(2 * C * longs.count());
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            const int64_t s = longs.segment(chunk.segment);
            recall_coefficients<A>(p, s, pivot_row<A>(p, x, s, zeros.get()), w);
            sum_gradients<A, Act>(x, grad_y, chunk.begin, chunk.end, C, w);
            A* sums = partial.get() + 2 * C * i;
            for (int64_t c = 0; c < C; ++c) sums[c] = w.sum[c], sums[C + c] = w.square[c];
        });
        for_each<A>(p, longs.count(), [&](Channels<A>& w, int64_t k) {
            const int64_t s = longs.segment(k);
            double* wide = w.wide.get();
            for (int64_t c = 0; c < 2 * C; ++c) wide[c] = 0;
            for (int64_t i = longs.first_chunk(k); i < longs.first_chunk(k + 1); ++i)
                for (int64_t c = 0; c < 2 * C; ++c) wide[c] += double(partial.get()[2 * C * i + c]);
            const A* pivot = pivot_row<A>(p, x, s, zeros.get());
            recall_coefficients<A>(p, s, pivot, w);
            for (int64_t c = 0; c < C; ++c) w.sum[c] = A(wide[c]), w.square[c] = A(wide[C + c]);
            backward_coefficients<A>(p, s, LongSegments::length(p, s), pivot, w, shares.get() + 3 * C * (tasks + k));
            A* kept = coefficients.get() + 2 * C * k;
            for (int64_t c = 0; c < C; ++c) kept[c] = w.sum[c], kept[C + c] = w.square[c];
        });
        if (!p.grad_x) return;
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            const int64_t s = longs.segment(chunk.segment);
            recall_coefficients<A>(p, s, pivot_row<A>(p, x, s, zeros.get()), w);
            const A* kept = coefficients.get() + 2 * C * chunk.segment;
            for (int64_t c = 0; c < C; ++c) w.sum[c] = kept[c], w.square[c] = kept[C + c];
            apply_backward<A, Act>(x, grad_y, grad_x, chunk.begin, chunk.end, C, w, streaming);
            if (streaming) stream_fence();
        });
    });
    write_parameter_gradients<A>(p, shares.get(), tasks + longs.count());
}
