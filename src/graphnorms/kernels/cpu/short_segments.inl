// Statistics over nodes in segments of few rows, where no strip of channels shares any with another:
// a strip is done from first to last while its sums and coefficients are in registers.

// Whether no strip shares a statistic with another: every channel stands alone, or all are one
// group and one strip.
template <class A, int Vectors> bool strips_alone(const Norm& p) {
    if (p.table) return false;
    if (p.center != kBoth && p.scale != kBoth) return true;
    int64_t strips = 0;
    for_strips<A, Vectors>(p.channels, [&]<int, bool>(int64_t, int) { ++strips; });
    return p.groups == 1 && strips == 1;
}
inline bool is_short(const Norm& p, int64_t s) { return p.ptr[s + 1] - p.ptr[s] <= kBlockRows; }

// The centre m of a strip as the pair hi + lo: see center_from_shift.
template <class A, int K> struct StripCenter {
    Vec<A> hi[K], lo[K];

    void set(const Vec<A> (&pivot)[K], const Vec<A> (&relative)[K]) {
        for (int k = 0; k < K; ++k) {
            hi[k] = pivot[k] + relative[k];
            lo[k] = relative[k] - (hi[k] - pivot[k]);
        }
    }

    // m = alpha mean, given the mean relative to the pivot.
    template <bool Tail>
    void set(const Norm& p, int64_t c, int tail, const Vec<A> (&pivot)[K], const Vec<A> (&shift)[K]) {
        if (!p.mean_scale) return set(pivot, shift);
        const A* alpha = static_cast<const A*>(p.mean_scale) + c;
        Vec<A> relative[K];
        for (int k = 0; k < K; ++k) {
            const Vec<A> share = get<Tail>(alpha + k * kLanes<A>, tail);
            relative[k] = share * shift[k] + (share - 1) * pivot[k];
        }
        set(pivot, relative);
    }

    // One m for all channels, given relative to the first one's pivot.
    void set(const Vec<A> (&pivot)[K], A shift) {
        Vec<A> relative[K];
        for (int k = 0; k < K; ++k) relative[k] = shift + (pivot[0][0] - pivot[k]);
        set(pivot, relative);
    }
};

// The mean over all channels, which are one strip.
template <bool Tail, int K, class A> inline A mean_of_strip(const Norm& p, const Vec<A> (&values)[K], int tail) {
    Vec<A> sum = {};
    for (int k = 0; k < K; ++k) sum += only<A, Tail>(values[k], tail);
    return horizontal_sum<A>(sum) / A(p.channels);
}

template <int K, class A> inline void fill_strip(Vec<A> (&values)[K], A value) {
    for (int k = 0; k < K; ++k) values[k] = Vec<A>{} + value;
}

template <bool Tail, int K, class T, class A = Accumulate<T>>
inline void get_strip(const T* from, int tail, Vec<A> (&to)[K]) {
    for (int k = 0; k < K; ++k) to[k] = get<Tail>(from + k * kLanes<A>, tail);
}

// a = weight rstd and b = bias - lo a: the pre-activation is a (x - hi) + b.
template <bool Tail, int K, class A>
inline void strip_coefficients(const Norm& p, int64_t s, int64_t c, int tail, const Vec<A> (&rstd)[K],
                               const Vec<A> (&lo)[K], Vec<A> (&a)[K], Vec<A> (&b)[K]) {
    const A *weight = weight_of<A>(p, s), *bias = bias_of<A>(p, s);
    for (int k = 0; k < K; ++k) {
        const int64_t at = c + k * kLanes<A>;
        a[k] = weight ? get<Tail>(weight + at, tail) * rstd[k] : rstd[k];
        b[k] = bias ? get<Tail>(bias + at, tail) - lo[k] * a[k] : -(lo[k] * a[k]);
    }
}

// As check_moments and check_rstds, of lanes that have been compared.
template <class A> inline void check_lanes(const Norm& p, Integers<A> beyond) {
    constexpr Integers<A> none = {};
    if (std::memcmp(&beyond, &none, sizeof none)) *p.out_of_range = true;
}

template <class T, class E, int K, bool Tail, class A = Accumulate<T>>
inline void short_forward_strip(const NormForward& p, const E& epilogue, const Rows<const T>& x,
                                const Rows<const T>& residual, const Rows<T>& y, int64_t s, int64_t c, int tail,
                                bool streaming, Vec<A>& largest) {
    constexpr int L = kLanes<A>;
    const int64_t begin = p.ptr[s], end = p.ptr[s + 1], C = p.channels;
    const A per_row = A(1) / A(end - begin);
    StripCenter<A, K> mean = {}, center = {};
    if (p.center != kNone) {
        Vec<A> pivot[K], total[1][K];
        get_strip<Tail>(x[begin] + c, tail, pivot);
        reduce<A, K, 1>(begin + 1, end, [&](int64_t i, Vec<A> (&sums)[1][K]) {
            const T* row = x[i] + c;
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) sums[0][k] += get<Tail>(row + k * L, tail) - pivot[k];
        }, total);
        for (int k = 0; k < K; ++k) total[0][k] *= per_row;
        mean.set(pivot, total[0]);
        if (p.center == kBoth) {
            Vec<A> relative[K];
            for (int k = 0; k < K; ++k) relative[k] = (pivot[k] - pivot[0][0]) + total[0][k];
            const A shift = mean_of_strip<Tail, K, A>(p, relative, tail);
            static_cast<A*>(p.shift)[s] = shift;
            center.set(pivot, shift);
        } else {
            A* shift = static_cast<A*>(p.shift) + s * C + c;
            for (int k = 0; k < K; ++k) put<Tail>(shift + k * L, total[0][k], tail);
            center.template set<Tail>(p, c, tail, pivot, total[0]);
        }
    }
    Vec<A> rstd[K], a[K], b[K];
    fill_strip<K, A>(rstd, A(1));
    if (p.scale != kNone) {
        Vec<A> total[1][K];
        reduce<A, K, 1>(begin, end, [&](int64_t i, Vec<A> (&sums)[1][K]) {
            const T* row = x[i] + c;
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                const Vec<A> o = (get<Tail>(row + k * L, tail) - mean.hi[k]) - mean.lo[k];
                sums[0][k] += o * o;
            }
        }, total);
        Vec<A> moment[K];
        for (int k = 0; k < K; ++k) {
            // Equation (2); the distance is 0 where the centre is the mean.
            const Vec<A> distance = (mean.hi[k] - center.hi[k]) + (mean.lo[k] - center.lo[k]);
            moment[k] = total[0][k] * per_row + distance * distance;
        }
        if (p.scale == kBoth) {
            const Vec<A> shared = Vec<A>{} + mean_of_strip<Tail, K, A>(p, moment, tail);
            const Vec<A> root = A(1) / square_root(shared + A(p.eps));
            fill_strip<K, A>(rstd, root[0]);
            static_cast<A*>(p.rstd)[s] = root[0];
            if (p.moment) static_cast<A*>(p.moment)[s] = shared[0];
            largest = shared > largest ? shared : largest;
        } else {
            const int64_t cell = s * C + c;
            Vec<A> most = largest;
            for (int k = 0; k < K; ++k) {
                rstd[k] = A(1) / square_root(moment[k] + A(p.eps));
                put<Tail>(static_cast<A*>(p.rstd) + cell + k * L, rstd[k], tail);
                if (p.moment) put<Tail>(static_cast<A*>(p.moment) + cell + k * L, moment[k], tail);
                most = moment[k] > most ? moment[k] : most;
            }
            largest = most;
        }
    }
    strip_coefficients<Tail, K, A>(p, s, c, tail, rstd, center.lo, a, b);
    write_strip<T, K, Tail>(x, residual, y, begin, end, c, tail, center.hi, a, b, epilogue, streaming);
}

template <class T, class E, int K, bool Tail, class A = Accumulate<T>>
inline void short_backward_strip(const NormBackward& p, const E& epilogue, const Rows<const T>& x,
                                 const Rows<const T>& grad_y, const Rows<T>& grad_x, int64_t s, int64_t c,
                                 int tail, ParameterGradients<A> grads, bool streaming, Vec<A>& smallest) {
    constexpr int L = kLanes<A>;
    const int64_t begin = p.ptr[s], end = p.ptr[s + 1], cell = s * p.channels + c;
    const A per_row = A(1) / A(end - begin);
    StripCenter<A, K> center = {};
    Vec<A> mean[K] = {}, rstd[K], a[K], b[K], sums[2][K];
    if (p.center != kNone) {
        Vec<A> pivot[K];
        get_strip<Tail>(x[begin] + c, tail, pivot);
        const A* saved = static_cast<const A*>(p.shift);
        if (p.center == kBoth) {
            center.set(pivot, saved[s]);
        } else {
            Vec<A> shift[K];
            get_strip<Tail>(saved + cell, tail, shift);
            center.template set<Tail>(p, c, tail, pivot, shift);
            for (int k = 0; k < K; ++k) mean[k] = pivot[k] + shift[k];
        }
    }
    if (p.scale == kNodes) get_strip<Tail>(static_cast<const A*>(p.rstd) + cell, tail, rstd);
    else fill_strip<K, A>(rstd, p.scale == kNone ? A(1) : static_cast<const A*>(p.rstd)[s]);
    Vec<A> least = smallest;
    for (int k = 0; k < K; ++k) {
        Integers<A> smaller = rstd[k] < least;
        if constexpr (Tail) smaller &= lane_numbers<Integers<A>>() < tail;
        least = smaller ? rstd[k] : least;
    }
    smallest = least;
    strip_coefficients<Tail, K, A>(p, s, c, tail, rstd, center.lo, a, b);

    // f' grad_y of an entry, and its distance from hi
    const auto gradient = [&](const T* row, const T* grad_row, auto key, int k, Vec<A>& d) {
        d = get<Tail>(row + k * L, tail) - center.hi[k];
        Vec<A> pre = {};
        if constexpr (E::needs_input) pre = d * a[k] + b[k];
        return epilogue.backward(pre, get<Tail>(grad_row + k * L, tail), key, c + k * L);
    };
    reduce<A, K, 2>(begin, end, [&](int64_t i, Vec<A> (&part)[2][K]) {
        const T *row = x[i] + c, *grad_row = grad_y[i] + c;
        const auto key = epilogue.row(x.row(i));
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            Vec<A> d;
            const Vec<A> g = gradient(row, grad_row, key, k, d);
            part[0][k] += g;
            part[1][k] += g * (d - center.lo[k]);
        }
    }, sums);

    Vec<A> square[K], constant[K];  // of equation (8): B and kappa
    for (int k = 0; k < K; ++k) {
        const int64_t at = c + k * L;
        const Vec<A> s1 = sums[0][k], s2 = sums[1][k];
        put<Tail>(grads.weight + at, get<Tail>(grads.weight + at, tail) + s2 * rstd[k], tail);
        put<Tail>(grads.bias + at, get<Tail>(grads.bias + at, tail) + s1, tail);
        square[k] = p.scale == kNone ? Vec<A>{} : a[k] * s2;
        constant[k] = p.center == kNone ? Vec<A>{} : a[k] * s1 * per_row;
    }
    if (p.scale == kBoth) fill_strip<K, A>(square, mean_of_strip<Tail, K, A>(p, square, tail));
    if (p.center == kBoth) fill_strip<K, A>(constant, mean_of_strip<Tail, K, A>(p, constant, tail));
    for (int k = 0; k < K; ++k) {
        const int64_t at = c + k * L;
        square[k] = square[k] * (rstd[k] * rstd[k]) * per_row;
        Vec<A> removed = constant[k];
        if (p.mean_scale) {
            const Vec<A> alpha = get<Tail>(static_cast<const A*>(p.mean_scale) + at, tail);
            removed -= square[k] * ((A(1) - alpha) * mean[k]);
            put<Tail>(grads.mean_scale + at,
                      get<Tail>(grads.mean_scale + at, tail) - mean[k] * (removed * A(end - begin)), tail);
            removed *= alpha;
        }
        constant[k] = removed - square[k] * center.lo[k];
    }
    if (!p.grad_x) return;
    for (int64_t i = begin; i < end; ++i) {
        const T *row = x[i] + c, *grad_row = grad_y[i] + c;
        T* out = grad_x[i] + c;
        const auto key = epilogue.row(x.row(i));
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            Vec<A> d;
            const Vec<A> g = gradient(row, grad_row, key, k, d);
            put_result<Tail>(out + k * L, (a[k] * g - square[k] * d) - constant[k], tail, streaming);
        }
    }
}
