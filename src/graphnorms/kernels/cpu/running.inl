// Running averages of BatchNorm: updated by one call where torch needs a dozen small ones, and applied.
template <class T> void update_running(const Running& p) {
    using A = Accumulate<T>;
    const T* pivot = static_cast<const T*>(p.pivot);
    const A *shift = static_cast<const A*>(p.shift), *moment = static_cast<const A*>(p.moment);
    A *mean = static_cast<A*>(p.mean), *var = static_cast<A*>(p.var);
    const A momentum = A(p.momentum), unbiased = A(double(p.rows) / double(p.rows - 1));
    for_strips<A, 1>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        const Vec<A> old_mean = get<Tail>(mean + c, tail), old_var = get<Tail>(var + c, tail);
        const Vec<A> new_mean = get<Tail>(pivot + c, tail) + get<Tail>(shift + c, tail);
        const Vec<A> new_var = get<Tail>(moment + c, tail) * unbiased;
        // A sum of shares, not old + momentum (new - old): that is NaN once both are infinite.
        put<Tail>(mean + c, (A(1) - momentum) * old_mean + momentum * new_mean, tail);
        put<Tail>(var + c, (A(1) - momentum) * old_var + momentum * new_var, tail);
    });
}

// BatchNorm in eval mode. The mean is subtracted first, so that a large one costs no precision.
template <class T> void by_averages(const NormByAverages& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, R = chunk_rows<T>(C), tasks = (p.rows + R - 1) / R;
    const bool streaming = streams<T>(p, p.y) && C % kLanes<A> == 0;
    const T *x = static_cast<const T*>(p.x), *residual = static_cast<const T*>(p.residual);
    T* y = static_cast<T*>(p.y);
    const A *mean = static_cast<const A*>(p.mean), *var = static_cast<const A*>(p.var);
    const A *weight = static_cast<const A*>(p.weight), *bias = static_cast<const A*>(p.bias);
    Buffer<A> factors(C);
    A* factor = factors.get();
    for (int64_t c = 0; c < C; ++c) factor[c] = (weight ? weight[c] : A(1)) / std::sqrt(var[c] + A(p.eps));
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
        for (int64_t task = 0; task < tasks; ++task) {
            for (int64_t i = task * R; i < smaller(p.rows, (task + 1) * R); ++i) {
                const T *row = x + i * p.x_stride, *added = residual ? residual + i * p.residual_stride : nullptr;
                T* out = y + i * C;
                const auto key = epilogue.row(i);
                for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
                    Vec<A> v = (get<Tail>(row + c, tail) - get<Tail>(mean + c, tail)) * get<Tail>(factor + c, tail);
                    if (bias) v += get<Tail>(bias + c, tail);
                    v = epilogue.forward(v, key, c);
                    if (added) v += get<Tail>(added + c, tail);
                    put_result<Tail>(out + c, v, tail, streaming);
                });
            }
            if (streaming) stream_fence();
        }
    });
}
