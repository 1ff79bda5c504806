// Statistics over nodes: the passes over the rows of one segment, and the coefficients.
//
// The centre m of a cell is kept as a pair hi + lo, where hi is m rounded to the features'
// precision, so that x - m loses nothing when the mean is large against the spread. The pair is
// rebuilt from what is saved: `shift`, the mean relative to the pivot (the segment's first row).

// How many rows one thread takes at once: a function of the problem, never of the threads.
template <class T> int64_t chunk_rows(int64_t channels) {
    return larger<int64_t>(kBlockRows, smaller<int64_t>(2048, kChunkBytes / (channels * int64_t(sizeof(T)))));
}

// Runs `block` over begin..end in pieces of kBlockRows. It leaves `size` sums, which are added up
// in double, in `wide`, when there are several pieces.
template <class A, class Block>
void in_blocks(int64_t begin, int64_t end, int64_t size, A* sums, double* wide, Block&& block) {
    if (end - begin <= kBlockRows) return block(begin, end);
    for (int64_t c = 0; c < size; ++c) wide[c] = 0;
    for (int64_t i = begin; i < end; i += kBlockRows) {
        block(i, smaller(end, i + kBlockRows));
        for (int64_t c = 0; c < size; ++c) wide[c] += sums[c];
    }
    for (int64_t c = 0; c < size; ++c) sums[c] = A(wide[c]);
}

// One strip of y = f(a (x - hi) + b) + residual.
template <class T, int K, bool Tail, class E, class A = Accumulate<T>>
inline void write_strip(const Rows<const T>& x, const Rows<const T>& residual, const Rows<T>& y, int64_t begin,
                        int64_t end, int64_t c, int tail, const Vec<A> (&hi)[K], const Vec<A> (&a)[K],
                        const Vec<A> (&b)[K], const E& epilogue, bool streaming) {
    constexpr int L = kLanes<A>;
    for (int64_t i = begin; i < end; ++i) {
        const T* row = x[i] + c;
        T* out = y[i] + c;
        const T* added = residual.base ? residual[i] + c : nullptr;
        const auto key = epilogue.row(x.row(i));
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            Vec<A> v = epilogue.forward((get<Tail>(row + k * L, tail) - hi[k]) * a[k] + b[k], key, c + k * L);
            if (added) v += get<Tail>(added + k * L, tail);
            put_result<Tail>(out + k * L, v, tail, streaming);
        }
    }
}

// w.sum = sum over the rows of x - pivot, of the channels that are centred
template <class T, class A = Accumulate<T>>
void sum_shifted(const Rows<const T>& x, int64_t begin, int64_t end, int64_t channels, Channels<A>& w) {
    in_blocks<A>(begin, end, channels, w.sum, w.wide.get(), [&](int64_t first, int64_t last) {
        for_strips<A>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            constexpr int L = kLanes<A>;
            Vec<A> p[K], total[1][K] = {};
            if (w.centred && sum_of(w.centred + c, Tail ? tail : K * L) == 0) {
                for (int k = 0; k < K; ++k) put<Tail>(w.sum + c + k * L, total[0][k], tail);
                return;
            }
            for (int k = 0; k < K; ++k) p[k] = get<Tail>(w.pivot + c + k * L, tail);
            reduce<A, K, 1>(first, last, [&](int64_t i, Vec<A> (&sums)[1][K]) {
                const T* row = x[i] + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) sums[0][k] += get<Tail>(row + k * L, tail) - p[k];
            }, total);
            for (int k = 0; k < K; ++k) put<Tail>(w.sum + c + k * L, total[0][k], tail);
        });
    });
}

// w.sum = sum over the rows of (x - hi - lo)^2
template <class T, class A = Accumulate<T>>
void sum_squares(const Rows<const T>& x, int64_t begin, int64_t end, int64_t channels, Channels<A>& w) {
    in_blocks<A>(begin, end, channels, w.sum, w.wide.get(), [&](int64_t first, int64_t last) {
        for_strips<A>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            constexpr int L = kLanes<A>;
            Vec<A> hi[K], total[1][K];
            for (int k = 0; k < K; ++k) hi[k] = get<Tail>(w.hi + c + k * L, tail);
            reduce<A, K, 1>(first, last, [&](int64_t i, Vec<A> (&sums)[1][K]) {
                const T* row = x[i] + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const Vec<A> o = (get<Tail>(row + k * L, tail) - hi[k]) -
                                     get<Tail>(w.lo + c + k * L, tail);
                    sums[0][k] += o * o;
                }
            }, total);
            for (int k = 0; k < K; ++k) put<Tail>(w.sum + c + k * L, total[0][k], tail);
        });
    });
}

// y = f(a (x - hi) + b) + residual
template <class T, class E, class A = Accumulate<T>>
void apply_forward(const Rows<const T>& x, const Rows<const T>& residual, const Rows<T>& y, int64_t begin,
                   int64_t end, int64_t channels, const Channels<A>& w, const E& epilogue, bool streaming) {
    for_strips<A, E::kVectors>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        constexpr int L = kLanes<A>;
        Vec<A> hi[K], a[K], b[K];
        for (int k = 0; k < K; ++k) {
            hi[k] = get<Tail>(w.hi + c + k * L, tail);
            a[k] = get<Tail>(w.a + c + k * L, tail);
            b[k] = get<Tail>(w.b + c + k * L, tail);
        }
        write_strip<T, K, Tail>(x, residual, y, begin, end, c, tail, hi, a, b, epilogue, streaming);
    });
}

// w.sum = sum of g, w.square = sum of g o, with g = f'(pre) grad_y and o = x - hi - lo
template <class T, class E, class A = Accumulate<T>>
void sum_gradients(const Rows<const T>& x, const Rows<const T>& grad_y, int64_t begin, int64_t end,
                   int64_t channels, Channels<A>& w, const E& epilogue) {
    in_blocks<A>(begin, end, 2 * channels, w.sum, w.wide.get(), [&](int64_t first, int64_t last) {
        for_strips<A, E::kVectors>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            constexpr int L = kLanes<A>;
            Vec<A> total[2][K];
            reduce<A, K, 2>(first, last, [&](int64_t i, Vec<A> (&sums)[2][K]) {
                const T* row = x[i] + c;
                const T* grad_row = grad_y[i] + c;
                const auto key = epilogue.row(x.row(i));
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const int64_t at = c + k * L;
                    const Vec<A> d = get<Tail>(row + k * L, tail) - get<Tail>(w.hi + at, tail);
                    Vec<A> pre = {};
                    if constexpr (E::needs_input) pre = d * get<Tail>(w.a + at, tail) + get<Tail>(w.b + at, tail);
                    const Vec<A> g = epilogue.backward(pre, get<Tail>(grad_row + k * L, tail), key, at);
                    sums[0][k] += g;
                    sums[1][k] += g * (d - get<Tail>(w.lo + at, tail));
                }
            }, total);
            for (int k = 0; k < K; ++k) {
                put<Tail>(w.sum + c + k * L, total[0][k], tail);
                put<Tail>(w.square + c + k * L, total[1][k], tail);
            }
        });
    });
}

// grad_x = w.a g - w.sum (x - hi) - w.square: the coefficients that backward_coefficients leaves
template <class T, class E, class A = Accumulate<T>>
void apply_backward(const Rows<const T>& x, const Rows<const T>& grad_y, const Rows<T>& grad_x, int64_t begin,
                    int64_t end, int64_t channels, const Channels<A>& w, const E& epilogue, bool streaming) {
    for_strips<A, E::kVectors>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        constexpr int L = kLanes<A>;
        for (int64_t i = begin; i < end; ++i) {
            const T* row = x[i] + c;
            const T* grad_row = grad_y[i] + c;
            T* out = grad_x[i] + c;
            const auto key = epilogue.row(x.row(i));
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                const int64_t at = c + k * L;
                const Vec<A> d = get<Tail>(row + k * L, tail) - get<Tail>(w.hi + at, tail);
                const Vec<A> a = get<Tail>(w.a + at, tail);
                Vec<A> pre = {};
                if constexpr (E::needs_input) pre = d * a + get<Tail>(w.b + at, tail);
                const Vec<A> g = epilogue.backward(pre, get<Tail>(grad_row + k * L, tail), key, at);
                const Vec<A> v = (a * g - get<Tail>(w.sum + at, tail) * d) - get<Tail>(w.square + at, tail);
                put_result<Tail>(out + k * L, v, tail, streaming);
            }
        }
    });
}

// Where a segment adds its share of the parameters' gradients, (channels) each: to that of its
// task, or straight to the result where every segment has parameters of its own.
template <class A> struct ParameterGradients {
    A *weight, *bias, *mean_scale;

    ParameterGradients(const NormBackward& p, int64_t s, A* shares)
        : weight(shares), bias(shares + p.channels), mean_scale(bias + p.channels) {
        if (!p.affine_stride) return;
        if (p.grad_weight) weight = static_cast<A*>(p.grad_weight) + s * p.channels;
        if (p.grad_bias) bias = static_cast<A*>(p.grad_bias) + s * p.channels;
    }
};

// Whether s^2 is infinite, or 1 / (s^2 + eps) is not a normal number. NaN is neither: it is the
// features' own.
template <class A> inline void check_moments(const Norm& p, const A* moment, int64_t n) {
    int64_t beyond = 0;
    for (int64_t i = 0; i < n; ++i) beyond += moment[i] > std::numeric_limits<A>::max();
    if (beyond) *p.out_of_range = true;
}
template <class A> inline void check_rstds(const Norm& p, const A* rstd, int64_t n) {
    int64_t beyond = 0;
    for (int64_t i = 0; i < n; ++i) beyond += rstd[i] * rstd[i] < std::numeric_limits<A>::min();
    if (beyond) *p.out_of_range = true;
}

// What is known of a segment's centre: from the saved shift to hi and lo, in every domain.
//
// With p the pivot and e = m - p: hi = round(p + e), lo = e - (hi - p), exact by Sterbenz.
template <class A> void center_from_shift(const Norm& p, const A* shift, Channels<A>& w) {
    const int64_t C = p.channels, width = C / p.groups;
    const A* alpha = w.alpha;
    A *pivot = w.pivot, *hi = w.hi, *lo = w.lo;
    if (p.center == kNone) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) hi[c] = lo[c] = 0;
        return;
    }
    // lo holds e until it is complete
    if (p.center == kBoth) {
        for (int64_t g = 0; g < p.groups; ++g)
#pragma GCC ivdep
            for (int64_t c = g * width; c < (g + 1) * width; ++c) lo[c] = shift[g] + (pivot[g * width] - pivot[c]);
    } else if (alpha) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) lo[c] = alpha[c] * shift[c] + (alpha[c] - 1) * pivot[c];
    } else {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) lo[c] = shift[c];
    }
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) {
        hi[c] = pivot[c] + lo[c];
        lo[c] = lo[c] - (hi[c] - pivot[c]);
    }
}

// What is shaped as weight and bias, of segment s.
template <class A> const A* of_segment(const Norm& p, const void* all, int64_t s) {
    return all ? static_cast<const A*>(all) + s * p.affine_stride : nullptr;
}
template <class A> const A* weight_of(const Norm& p, int64_t s) { return of_segment<A>(p, p.weight, s); }
template <class A> const A* bias_of(const Norm& p, int64_t s) { return of_segment<A>(p, p.bias, s); }

// w.a and w.b from w.hi, w.lo and w.rstd: pre-activation = weight (x - m) rstd + bias
template <class A> void affine_coefficients(const Norm& p, int64_t s, Channels<A>& w) {
    const int64_t C = p.channels;
    const A *weight = weight_of<A>(p, s), *bias = bias_of<A>(p, s);
    A *a = w.a, *b = w.b;
    const A *rstd = w.rstd, *lo = w.lo;
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) a[c] = weight ? weight[c] * rstd[c] : rstd[c];
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) b[c] = bias ? bias[c] - lo[c] * a[c] : -(lo[c] * a[c]);
}

// From the mean (relative to the pivot, in `mean`) and the sum of squares about it (`m2`) of
// every channel to the saved statistics of segment s and the coefficients of y.
template <class A>
void forward_coefficients(const Norm& p, int64_t s, int64_t n, const A* mean, const A* m2, Channels<A>& w) {
    const A* pivot = w.pivot;
    const int64_t C = p.channels, G = p.groups, width = C / G, first = s * scales_of_segment(p);
    A* shift = static_cast<A*>(p.shift) + s * (p.center == kNodes ? C : p.center == kBoth ? G : 0);
    A* rstd = w.rstd;
    const A per_row = A(1) / A(larger<int64_t>(n, 1));

    if (p.center == kNodes)
        for (int64_t c = 0; c < C; ++c) shift[c] = mean[c];
    if (p.center == kBoth)
        for (int64_t g = 0; g < G; ++g) {
            A* relative = w.a;  // not in use yet
#pragma GCC ivdep
            for (int64_t c = g * width; c < (g + 1) * width; ++c)
                relative[c] = (pivot[c] - pivot[g * width]) + mean[c];
            shift[g] = sum_of(relative + g * width, width) / A(width);
        }
    center_from_shift<A>(p, shift, w);

    if (p.scale != kNone) {
        // Equation (2): the second moment about m is that about the channel's own mean, plus the
        // distance of the two squared. Without a centre the pivot and the mean are 0 already.
        const A *hi = w.hi, *lo = w.lo, eps = A(p.eps);
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) {
            const A distance = (mean[c] - (hi[c] - pivot[c])) - lo[c];
            rstd[c] = m2[c] * per_row + distance * distance;
        }
        if (p.scale == kBoth) mean_of_cells(p, rstd, w);
        check_moments(p, rstd, C);
        if (p.moment) keep_cells(p, rstd, static_cast<A*>(p.moment) + first);
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) rstd[c] = A(1) / std::sqrt(rstd[c] + eps);
        keep_cells(p, rstd, static_cast<A*>(p.rstd) + first);
    } else
        for (int64_t c = 0; c < C; ++c) rstd[c] = 1;
    affine_coefficients<A>(p, s, w);
}

// Rebuild hi, lo, rstd, a and b of segment s from what the forward pass saved.
template <class A> void recall_coefficients(const Norm& p, int64_t s, Channels<A>& w) {
    const int64_t C = p.channels, G = p.groups;
    const A* shift = static_cast<const A*>(p.shift) + s * (p.center == kNodes ? C : p.center == kBoth ? G : 0);
    center_from_shift<A>(p, shift, w);
    spread_cells(p, static_cast<const A*>(p.rstd) + s * scales_of_segment(p), w.rstd);
    affine_coefficients<A>(p, s, w);
}

// From the sums S1 = sum g (w.sum) and S2 = sum g o (w.square) to the coefficients of grad_x,
// and the segment's share of the parameters' gradients, added to `grads`.
// The equations are those of docs/maths.md.
template <class A>
void backward_coefficients(const Norm& p, int64_t s, int64_t n, Channels<A>& w, ParameterGradients<A> grads) {
    const A* pivot = w.pivot;
    const int64_t C = p.channels;
    const A* alpha = w.alpha;
    const A* shift = static_cast<const A*>(p.shift) + s * (p.center == kNodes ? C : 0);
    const A per_row = A(1) / A(n);
    const A *a = w.a, *rstd = w.rstd, *lo = w.lo;
    A *s1 = w.sum, *s2 = w.square, *grad_weight = grads.weight, *grad_bias = grads.bias;
    check_rstds(p, rstd, C);
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) {
        grad_weight[c] += s2[c] * rstd[c];
        grad_bias[c] += s1[c];
    }
    // Equation (5): d = a g - B o. B replaces S2; weight rstd is a.
    if (p.scale == kNone) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) s2[c] = 0;
    } else {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) s2[c] *= a[c];
        if (p.scale == kBoth) share_in_cells(p, s2, w);
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) s2[c] = s2[c] * (rstd[c] * rstd[c]) * per_row;
    }
    // Equations (6) and (7): the mean of d replaces S1, then what the centre takes of it.
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) s1[c] = a[c] * s1[c] * per_row;
    if (p.center == kNone) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) s1[c] = 0;
    } else if (p.center == kBoth) {
        mean_of_groups(p, s1);
    } else if (alpha) {
        A* grad_mean_scale = grads.mean_scale;
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) {
            const A mu = pivot[c] + shift[c];
            const A mean = s1[c] - s2[c] * ((A(1) - alpha[c]) * mu);
            grad_mean_scale[c] -= mu * (mean * A(n));
            s1[c] = alpha[c] * mean;
        }
    }
    // Equation (8): the coefficients of (x - hi) and of 1, where apply_backward looks for them.
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) {
        const A B = s2[c], removed = s1[c];
        s1[c] = B;
        s2[c] = removed - B * lo[c];
    }
}
