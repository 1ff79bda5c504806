// Sum over neighbours: a sparse matrix in CSR times a dense one, row by row in registers.

template <class T, bool Scaled> void aggregate_rows(const Aggregate& p) {
    using A = Accumulate<T>;
    constexpr int L = kLanes<A>;
    const T* x = static_cast<const T*>(p.x);
    const A* scale = static_cast<const A*>(p.node_scale);
    // Tasks of equal numbers of rows; dynamic, because degrees differ.
#pragma omp parallel for schedule(dynamic, 64) num_threads(p.threads) if (p.threads > 1)
    for (int64_t i = 0; i < p.rows; ++i) {
        const int64_t begin = p.ptr[i], end = p.ptr[i + 1];
        const A own = Scaled ? A(p.self_weight) * scale[i] : A(p.self_weight);
        for_strips<A>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            Vec<A> sum[K] = {};
            for (int64_t e = begin; e < end; ++e) {
                const int64_t j = p.index[e];
                const T* row = x + j * p.x_stride + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const Vec<A> v = get<Tail>(row + k * L, tail);
                    if constexpr (Scaled) sum[k] += v * scale[j];
                    else sum[k] += v;
                }
            }
            T* out = static_cast<T*>(p.y) + i * p.channels + c;
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                if (p.self_weight != 0) sum[k] += get<Tail>(x + i * p.x_stride + c + k * L, tail) * own;
                if constexpr (Scaled) sum[k] *= scale[i];
                put<Tail>(out + k * L, sum[k], tail);
            }
        });
    }
}

template <class T> void aggregate(const Aggregate& p) {
    if (p.node_scale) aggregate_rows<T, true>(p);
    else aggregate_rows<T, false>(p);
}

AggregateKernels aggregate_kernels() {
    return {{aggregate<float>, aggregate<double>, aggregate<BFloat16>, aggregate<Float16>}};
}
