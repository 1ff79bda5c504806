// The second derivative of statistics over nodes: equations (13) to (16) of docs/maths.md.
//
// One pass sums, a few operations per channel find coefficients, and one pass writes; h, the
// gradient of the pre-activation, is linear in its tangent, so that its sums follow from those of
// k = grad_y f''. Names as in row_second.inl.

template <class E> constexpr int kSecondTerms = E::curved ? 10 : 5;
template <class E> constexpr int kSecondVectors = E::curved || kMaxVectors < 8 ? 1 : 2;

// Per-channel workspace of one segment, besides that of Channels. First the sums over its rows are in
// it, with u relative to `pivot` and o not yet divided by s.
template <class A> struct SecondChannels {
    explicit SecondChannels(int64_t channels)
        : memory(21 * channels), wide(10 * channels), pivot(memory.get()), b(pivot + channels), p(b + channels),
          q(p + channels), m(q + channels), kappa(m + channels), g(kappa + channels), go(g + channels),
          u(go + channels), uo(u + channels), gu(uo + channels), k(gu + channels), ko(k + channels),
          koo(ko + channels), ku(koo + channels), kuo(ku + channels), e(kuo + channels), o(e + channels),
          c(o + channels), share(c + channels), removed(share + channels) {}
    static constexpr int kKept = 6;  // pivot, b, p, q, m and kappa: what the last pass needs
    Buffer<A> memory;
    Buffer<double> wide;  // sums over several blocks
    A* pivot;             // of u
    A *b, *p, *q, *m, *kappa;
    A *g, *go, *u, *uo, *gu;     // sums, and
    A *k, *ko, *koo, *ku, *kuo;  // those that only a curved activation has
    A *e, *o, *c, *share, *removed;
};

// The pivot of u: of its cell, as that of x is, for the mean of u is over cells of the centre.
template <class T, class A = Accumulate<T>>
void take_second_pivot(const Norm& p, const Rows<const T>& u, int64_t s, SecondChannels<A>& v) {
    const int64_t C = p.channels, width = C / p.groups;
    for (int64_t c = 0; c < C; ++c)
        v.pivot[c] = p.center == kNone ? A(0) : first_entry(u[p.ptr[s]] + (p.center == kBoth ? c / width * width : c));
}

template <class T, class E, class A = Accumulate<T>>
void sum_second(const SecondRows<T>& rows, int64_t begin, int64_t end, int64_t channels, const Channels<A>& w,
                SecondChannels<A>& v, const E& epilogue) {
    constexpr int Terms = kSecondTerms<E>;
    in_blocks<A>(begin, end, Terms * channels, v.g, v.wide.get(), [&](int64_t first, int64_t last) {
        for_strips<A, kSecondVectors<E>>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            constexpr int L = kLanes<A>;
            Vec<A> total[Terms][K];
            reduce<A, K, Terms>(first, last, [&](int64_t i, Vec<A> (&sums)[Terms][K]) {
                const T *row = rows.x[i] + c, *grad_row = rows.grad_y[i] + c, *u_row = rows.u[i] + c;
                const auto key = epilogue.row(rows.x.row(i));
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const int64_t at = c + k * L;
                    const Vec<A> d = get<Tail>(row + k * L, tail) - get<Tail>(w.hi + at, tail);
                    const Vec<A> o = d - get<Tail>(w.lo + at, tail);
                    const Vec<A> u = get<Tail>(u_row + k * L, tail) - get<Tail>(v.pivot + at, tail);
                    Vec<A> g = epilogue.dropped(get<Tail>(grad_row + k * L, tail), key, at);
                    if constexpr (E::needs_input) {
                        const Curve<Vec<A>> f = E::curve(d * get<Tail>(w.a + at, tail) + get<Tail>(w.b + at, tail));
                        if constexpr (E::curved) {
                            const Vec<A> bend = g * f.bend, bend_o = bend * o;
                            sums[5][k] += bend;
                            sums[6][k] += bend_o;
                            sums[7][k] += bend_o * o;
                            sums[8][k] += bend * u;
                            sums[9][k] += bend_o * u;
                        }
                        g *= f.slope;
                    }
                    sums[0][k] += g;
                    sums[1][k] += g * o;
                    sums[2][k] += u;
                    sums[3][k] += u * o;
                    sums[4][k] += g * u;
                }
            }, total);
            for (int t = 0; t < Terms; ++t)
                for (int k = 0; k < K; ++k) put<Tail>(v.g + t * channels + c + k * L, total[t][k], tail);
        });
    });
}

// Replaces every entry by the mean over its group.
template <class A> void mean_of_groups(const Norm& p, A* values) {
    const int64_t width = p.channels / p.groups;
    for (int64_t first = 0; first < p.channels; first += width) {
        const A mean = sum_of(values + first, width) / A(width);
        for (int64_t c = first; c < first + width; ++c) values[c] = mean;
    }
}

// From the sums over the rows of segment s to the coefficients of its last pass, and its share of the
// parameters' gradients, added to `grads`.
template <bool Curved, class A>
void second_coefficients(const NormDoubleBackward& p, int64_t s, int64_t n, const Channels<A>& w,
                         SecondChannels<A>& v, ParameterGradients<A> grads) {
    const int64_t C = p.channels;
    const A *weight = weight_of<A>(p, s), *of_weight = of_segment<A>(p, p.of_grad_weight, s),
            *of_bias = of_segment<A>(p, p.of_grad_bias, s);
    const A *alpha = static_cast<const A*>(p.mean_scale), *t = static_cast<const A*>(p.of_grad_mean_scale);
    const A* shift = static_cast<const A*>(p.shift) + s * (p.center == kNodes ? C : 0);
    const A per_row = A(1) / A(n);
    const bool scaled = p.scale != kNone;
    check_rstds(p, w.rstd, C);
    // Sums become means, and o o_hat.
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) {
        const A r = w.rstd[c] * per_row;
        v.g[c] *= per_row, v.go[c] *= r, v.u[c] *= per_row, v.uo[c] *= r, v.gu[c] *= per_row;
        if constexpr (Curved)
            v.k[c] *= per_row, v.ko[c] *= r, v.koo[c] *= r * w.rstd[c], v.ku[c] *= per_row, v.kuo[c] *= r;
    }
    // Equation (13): o_dot = u - e, relative to the pivot; the mean of o_hat; c and b.
    for (int64_t c = 0; c < C; ++c) v.e[c] = v.o[c] = 0;
    if (p.center == kBoth) {
        for (int64_t c = 0; c < C; ++c) v.e[c] = v.u[c];
        mean_of_groups(p, v.e);
    } else if (p.center == kNodes) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) {
            const A mean = w.pivot[c] + shift[c];
            v.e[c] = (alpha ? alpha[c] * v.u[c] + (alpha[c] - 1) * v.pivot[c] : v.u[c]) + (t ? t[c] * mean : A(0));
            v.o[c] = alpha ? w.rstd[c] * ((1 - alpha[c]) * mean) : A(0);
        }
    }
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) {
        v.c[c] = scaled ? v.uo[c] - v.e[c] * v.o[c] : A(0);
        v.share[c] = scaled ? (weight ? weight[c] : A(1)) * v.go[c] : A(0);
    }
    if (p.scale == kBoth) mean_of_groups(p, v.c), mean_of_groups(p, v.share);
    // z_dot = a u + b + (p - a c) o_hat, and with it the means h and ho of h and h o_hat; m is the mean
    // of equation (15), `removed` that of the gradient of o_hat.
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) {
        const A y = weight ? weight[c] : A(1), r = w.rstd[c], a = w.a[c], direct = of_weight ? of_weight[c] : A(0);
        const A slope = direct - a * v.c[c], b = (of_bias ? of_bias[c] : A(0)) - a * v.e[c];
        const A h = Curved ? a * v.ku[c] + b * v.k[c] + slope * v.ko[c] : A(0);
        const A ho = Curved ? a * v.kuo[c] + b * v.ko[c] + slope * v.koo[c] : A(0);
        v.b[c] = b, v.p[c] = slope;
        v.m[c] = scaled ? r * (y * (v.gu[c] - v.e[c] * v.g[c] - 2 * v.go[c] * v.c[c]) -
                               v.share[c] * (v.uo[c] - v.e[c] * v.o[c])) + y * ho + direct * v.go[c] : A(0);
        v.removed[c] = y * h + direct * v.g[c] - r * (y * v.g[c] * v.c[c] + v.share[c] * (v.u[c] - v.e[c]));
        grads.weight[c] += A(n) * (ho + r * (v.gu[c] - v.e[c] * v.g[c] - v.go[c] * v.c[c]));
        grads.bias[c] += A(n) * h;
    }
    if (p.scale == kBoth) mean_of_groups(p, v.m);
    // Equation (16): kappa is what the centre takes.
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) {
        v.removed[c] = w.rstd[c] * (v.removed[c] - v.o[c] * v.m[c]);
        v.kappa[c] = p.center == kNone ? A(0) : v.removed[c];
    }
    if (p.center == kBoth) mean_of_groups(p, v.kappa);
    if (alpha) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) {
            const A d = w.a[c] * v.g[c] - w.rstd[c] * v.o[c] * v.share[c], mean = w.pivot[c] + shift[c];
            v.kappa[c] = alpha[c] * v.removed[c] + (t ? t[c] * d : A(0));
            grads.mean_scale[c] -= A(n) * ((v.pivot[c] + v.u[c]) * d + mean * v.removed[c]);
        }
    }
    // The coefficients of g, u and x - hi, and constants, where apply_second looks for them.
#pragma GCC ivdep
    for (int64_t c = 0; c < C; ++c) {
        const A r = w.rstd[c];
        v.p[c] *= r;
        v.q[c] = r * r * v.share[c];
        v.m[c] *= r * r;
        v.b[c] -= v.p[c] * w.lo[c];
        v.kappa[c] -= v.q[c] * v.e[c] + v.m[c] * w.lo[c];
    }
}

// grad_grad_y = f' z_dot with z_dot = a u + b + p (x - hi), and
// grad_x = a k z_dot + p g - q u - m (x - hi) - kappa
template <class T, class E, class A = Accumulate<T>>
void apply_second(const SecondRows<T>& rows, int64_t begin, int64_t end, int64_t channels, const Channels<A>& w,
                  const SecondChannels<A>& v, const E& epilogue, bool streaming) {
    for_strips<A, kSecondVectors<E>>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        constexpr int L = kLanes<A>;
        for (int64_t i = begin; i < end; ++i) {
            const T *row = rows.x[i] + c, *grad_row = rows.grad_y[i] + c, *u_row = rows.u[i] + c;
            T *out = rows.grad_x[i] + c, *grad_out = rows.grad_grad_y[i] + c;
            const auto key = epilogue.row(rows.x.row(i));
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                const int64_t at = c + k * L;
                const Vec<A> d = get<Tail>(row + k * L, tail) - get<Tail>(w.hi + at, tail);
                const Vec<A> u = get<Tail>(u_row + k * L, tail) - get<Tail>(v.pivot + at, tail);
                const Vec<A> a = get<Tail>(w.a + at, tail), p = get<Tail>(v.p + at, tail);
                Vec<A> g = epilogue.dropped(get<Tail>(grad_row + k * L, tail), key, at);
                Vec<A> z_dot = (a * u + p * d) + get<Tail>(v.b + at, tail), of_h = {};
                if constexpr (E::needs_input) {
                    const Curve<Vec<A>> f = E::curve(d * a + get<Tail>(w.b + at, tail));
                    if constexpr (E::curved) of_h = a * (g * f.bend * z_dot);
                    g *= f.slope;
                    z_dot *= f.slope;
                }
                put_result<Tail>(grad_out + k * L, epilogue.dropped(z_dot, key, at), tail, streaming);
                const Vec<A> kept = p * g - get<Tail>(v.q + at, tail) * u;
                const Vec<A> taken = get<Tail>(v.m + at, tail) * d + get<Tail>(v.kappa + at, tail);
                put_result<Tail>(out + k * L, E::curved ? (of_h + kept) - taken : kept - taken, tail, streaming);
            }
        }
    });
}

template <class T> void segment_double_backward(const NormDoubleBackward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, R = chunk_rows<T>(C);
    const SecondRows<T> rows(p, p.order);
    const bool streaming = streams_both<T>(p);
    const LongSegments longs(p, R);
    const int64_t tasks = count_tasks(p, R);
    Buffer<A> shares(3 * C * (tasks + longs.count()));
    for (int64_t c = 0; c < 3 * C * (tasks + longs.count()); ++c) shares.get()[c] = 0;
    const auto recall = [&](Channels<A>& w, SecondChannels<A>& v, int64_t s) {
        take_pivot<T>(p, rows.x, s, w);
        recall_coefficients<A>(p, s, w);
        take_second_pivot<T>(p, rows.u, s, v);
    };

    clear_own_gradients<A>(p);
    rows.pass_masked_rows(p);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        for_tasks<A>(p, tasks, R, [&](Channels<A>& w, int64_t task, int64_t first, int64_t last) {
            SecondChannels<A> v(C);
            for (int64_t s = first; s < last; ++s) {
                const int64_t begin = p.ptr[s], end = p.ptr[s + 1];
                if (begin == end || longs.is_long(p, s)) continue;
                recall(w, v, s);
                sum_second<T>(rows, begin, end, C, w, v, epilogue);
                second_coefficients<E::curved, A>(p, s, end - begin, w, v, {p, s, shares.get() + 3 * C * task});
                apply_second<T>(rows, begin, end, C, w, v, epilogue, streaming);
            }
            if (streaming) stream_fence();
        });
        if (!longs.count()) return;

        constexpr int64_t Terms = kSecondTerms<E>, Kept = SecondChannels<A>::kKept;
        Buffer<A> partial(Terms * C * longs.num_chunks()), coefficients(Kept * C * longs.count());
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            SecondChannels<A> v(C);
            recall(w, v, longs.segment(chunk.segment));
            sum_second<T>(rows, chunk.begin, chunk.end, C, w, v, epilogue);
            std::memcpy(partial.get() + Terms * C * i, v.g, size_t(Terms * C) * sizeof(A));
        });
        for_each<A>(p, longs.count(), [&](Channels<A>& w, int64_t k) {
            const int64_t s = longs.segment(k);
            SecondChannels<A> v(C);
            double* wide = v.wide.get();
            for (int64_t c = 0; c < Terms * C; ++c) wide[c] = 0;
            for (int64_t i = longs.first_chunk(k); i < longs.first_chunk(k + 1); ++i)
                for (int64_t c = 0; c < Terms * C; ++c) wide[c] += double(partial.get()[Terms * C * i + c]);
            for (int64_t c = 0; c < Terms * C; ++c) v.g[c] = A(wide[c]);
            recall(w, v, s);
            second_coefficients<E::curved, A>(p, s, LongSegments::length(p, s), w, v,
                                   {p, s, shares.get() + 3 * C * (tasks + k)});
            std::memcpy(coefficients.get() + Kept * C * k, v.pivot, size_t(Kept * C) * sizeof(A));
        });
        for_each<A>(p, longs.num_chunks(), [&](Channels<A>& w, int64_t i) {
            const Chunk& chunk = longs.chunk(i);
            SecondChannels<A> v(C);
            recall(w, v, longs.segment(chunk.segment));
            std::memcpy(v.pivot, coefficients.get() + Kept * C * chunk.segment, size_t(Kept * C) * sizeof(A));
            apply_second<T>(rows, chunk.begin, chunk.end, C, w, v, epilogue, streaming);
            if (streaming) stream_fence();
        });
    });
    write_parameter_gradients<A>(p, shares.get(), tasks + longs.count());
}
