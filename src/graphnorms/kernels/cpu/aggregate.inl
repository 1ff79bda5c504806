// Sum over neighbours: a sparse matrix in CSR times a dense one, row by row in registers, and
// its gradients, row by row of the transpose. Each edge stands in one row and each row is summed
// by one thread, so that nothing is added atomically and the bits do not depend on the threads.

// Runs visit(row) for all rows: in tasks of equal numbers of rows; dynamic, because degrees differ.
template <class Visit> inline void for_rows(const Edges& p, Visit&& visit) {
#pragma omp parallel for schedule(dynamic, 64) num_threads(p.threads) if (p.threads > 1)
    for (int64_t i = 0; i < p.rows; ++i) visit(i);
}

inline int64_t edge_at(const Edges& p, int64_t k) { return p.order ? p.order[k] : k; }

// Equation (9): y_i = s_i (w s_i x_i + sum a_e s_j x_j)
template <class T, bool Scaled, bool Weighted> void aggregate_rows(const Aggregate& p) {
    using A = Accumulate<T>;
    constexpr int L = kLanes<A>;
    const T* x = static_cast<const T*>(p.x);
    const A* scale = static_cast<const A*>(p.node_scale);
    const A* weight = static_cast<const A*>(p.edge_weight);
    for_rows(p, [&](int64_t i) {
        const int64_t begin = p.ptr[i], end = p.ptr[i + 1];
        const A own = Scaled ? A(p.self_weight) * scale[i] : A(p.self_weight);
        for_strips<A>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            Vec<A> sum[K] = {};
            for (int64_t n = begin; n < end; ++n) {
                const int64_t j = p.index[n];
                A factor = Scaled ? scale[j] : A(1);
                if constexpr (Weighted) factor *= weight[edge_at(p, n)];
                const T* row = x + j * p.x_stride + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const Vec<A> v = get<Tail>(row + k * L, tail);
                    if constexpr (Scaled || Weighted) sum[k] += v * factor;
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
    });
}

// Equation (11): y_i = w x_i + sum relu(x_j + z_e)
template <class T> void aggregate_messages(const Aggregate& p) {
    using A = Accumulate<T>;
    constexpr int L = kLanes<A>;
    const T* x = static_cast<const T*>(p.x);
    const T* z = static_cast<const T*>(p.edge_features);
    for_rows(p, [&](int64_t i) {
        const int64_t begin = p.ptr[i], end = p.ptr[i + 1];
        for_strips<A>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            Vec<A> sum[K] = {};
            for (int64_t n = begin; n < end; ++n) {
                const T* source = x + p.index[n] * p.x_stride + c;
                const T* edge = z + edge_at(p, n) * p.edge_features_stride + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k)
                    sum[k] += Relu::forward<Vec<A>>(get<Tail>(source + k * L, tail) + get<Tail>(edge + k * L, tail));
            }
            T* out = static_cast<T*>(p.y) + i * p.channels + c;
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                if (p.self_weight != 0)
                    sum[k] += get<Tail>(x + i * p.x_stride + c + k * L, tail) * A(p.self_weight);
                put<Tail>(out + k * L, sum[k], tail);
            }
        });
    });
}

// Equation (10): dL/dx_j = s_j (w s_j g_j + sum a_e s_i g_i) and dL/da_e = s_i s_j <g_i, x_j>
template <class T, bool Scaled> void aggregate_rows_backward(const AggregateBackward& p) {
    using A = Accumulate<T>;
    constexpr int L = kLanes<A>;
    const T* x = static_cast<const T*>(p.x);
    const T* grad_y = static_cast<const T*>(p.grad_y);
    const A* scale = static_cast<const A*>(p.node_scale);
    const A* weight = static_cast<const A*>(p.edge_weight);
    A* grad_weight = static_cast<A*>(p.grad_edge_weight);
    for_rows(p, [&](int64_t j) {
        const int64_t begin = p.ptr[j], end = p.ptr[j + 1];
        const A own = Scaled ? A(p.self_weight) * scale[j] : A(p.self_weight);
        for_strips<A>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            Vec<A> at[K], sum[K] = {};
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) at[k] = get<Tail>(x + j * p.x_stride + c + k * L, tail);
            for (int64_t n = begin; n < end; ++n) {
                const int64_t i = p.index[n], e = edge_at(p, n);
                const A both = Scaled ? scale[i] * scale[j] : A(1);
                const A factor = Scaled ? weight[e] * scale[i] : weight[e];
                const T* row = grad_y + i * p.grad_y_stride + c;
                Vec<A> product = {};
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const Vec<A> g = get<Tail>(row + k * L, tail);
                    sum[k] += g * factor;
                    product += g * at[k];
                }
                const A part = both * horizontal_sum<A>(product);
                grad_weight[e] = c ? grad_weight[e] + part : part;
            }
            if (!p.grad_x) return;
            T* out = static_cast<T*>(p.grad_x) + j * p.channels + c;
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                if (p.self_weight != 0)
                    sum[k] += get<Tail>(grad_y + j * p.grad_y_stride + c + k * L, tail) * own;
                if constexpr (Scaled) sum[k] *= scale[j];
                put<Tail>(out + k * L, sum[k], tail);
            }
        });
    });
}

// Equation (12), with m_e = [x_j + z_e > 0]: dL/dz_e = m_e g_i and dL/dx_j = w g_j + sum m_e g_i
template <class T> void aggregate_messages_backward(const AggregateBackward& p) {
    using A = Accumulate<T>;
    constexpr int L = kLanes<A>;
    const T* x = static_cast<const T*>(p.x);
    const T* z = static_cast<const T*>(p.edge_features);
    const T* grad_y = static_cast<const T*>(p.grad_y);
    T* grad_z = static_cast<T*>(p.grad_edge_features);
    for_rows(p, [&](int64_t j) {
        const int64_t begin = p.ptr[j], end = p.ptr[j + 1];
        for_strips<A>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            Vec<A> at[K], sum[K] = {};
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) at[k] = get<Tail>(x + j * p.x_stride + c + k * L, tail);
            for (int64_t n = begin; n < end; ++n) {
                const int64_t e = edge_at(p, n);
                const T* row = grad_y + p.index[n] * p.grad_y_stride + c;
                const T* edge = z + e * p.edge_features_stride + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const Vec<A> message = at[k] + get<Tail>(edge + k * L, tail);
                    const Vec<A> grad = Relu::backward<Vec<A>>(message, get<Tail>(row + k * L, tail));
                    sum[k] += grad;
                    if (grad_z) put<Tail>(grad_z + e * p.channels + c + k * L, grad, tail);
                }
            }
            if (!p.grad_x) return;
            T* out = static_cast<T*>(p.grad_x) + j * p.channels + c;
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                if (p.self_weight != 0)
                    sum[k] += get<Tail>(grad_y + j * p.grad_y_stride + c + k * L, tail) * A(p.self_weight);
                put<Tail>(out + k * L, sum[k], tail);
            }
        });
    });
}

template <class T> void aggregate(const Aggregate& p) {
    if (p.edge_features) aggregate_messages<T>(p);
    else if (p.node_scale && p.edge_weight) aggregate_rows<T, true, true>(p);
    else if (p.node_scale) aggregate_rows<T, true, false>(p);
    else if (p.edge_weight) aggregate_rows<T, false, true>(p);
    else aggregate_rows<T, false, false>(p);
}

template <class T> void aggregate_backward(const AggregateBackward& p) {
    if (p.edge_features) aggregate_messages_backward<T>(p);
    else if (p.node_scale) aggregate_rows_backward<T, true>(p);
    else aggregate_rows_backward<T, false>(p);
}
