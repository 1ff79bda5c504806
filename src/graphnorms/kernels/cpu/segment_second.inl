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

template <class T, class E, class A = Accumulate<T>>
void sum_second(const SecondRows<T>& rows, int64_t begin, int64_t end, int64_t channels, const Channels<A>& w,
                SecondChannels<A>& v, const E& epilogue) {
    constexpr int Terms = kSecondTerms<E>;
    in_blocks<A>(begin, end, Terms * channels, v.g, v.wide.get(), [&](int64_t first, int64_t last) {
        for_strips<A, kSecondVectors<E>>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            constexpr int L = kLanes<A>;
            Vec<A> total[Terms][K], hi[K], lo[K], pivot[K], a[K], b[K];
            get_strip<Tail>(w.hi + c, tail, hi);
            get_strip<Tail>(w.lo + c, tail, lo);
            get_strip<Tail>(v.pivot + c, tail, pivot);
            get_strip<Tail>(w.a + c, tail, a);
            get_strip<Tail>(w.b + c, tail, b);
            reduce<A, K, Terms>(first, last, [&](int64_t i, Vec<A> (&sums)[Terms][K]) {
                const T *row = rows.x[i] + c, *grad_row = rows.grad_y[i] + c, *u_row = rows.u[i] + c;
                const auto key = epilogue.row(rows.x.row(i));
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const Vec<A> d = get<Tail>(row + k * L, tail) - hi[k], o = d - lo[k];
                    const Vec<A> u = get<Tail>(u_row + k * L, tail) - pivot[k];
                    Vec<A> g = epilogue.dropped(get<Tail>(grad_row + k * L, tail), key, c + k * L);
                    if constexpr (E::needs_input) {
                        const Curve<Vec<A>> f = E::curve(d * a[k] + b[k]);
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

// Reads per-channel values of a strip, or a number where there are none.
template <class A, bool Tail> struct Load {
    int64_t c;
    int tail;
    Vec<A> operator()(const A* values, A otherwise = 0) const {
        return values ? get<Tail>(values + c, tail) : Vec<A>{} + otherwise;
    }
};

// From the sums over the rows of segment s to the coefficients of its last pass, and its share of the
// parameters' gradients, added to `grads`.
template <bool Curved, class A>
void second_coefficients(const NormDoubleBackward& p, int64_t s, int64_t n, Channels<A>& w, SecondChannels<A>& v,
                         ParameterGradients<A> grads) {
    const int64_t C = p.channels;
    const A *weight = weight_of<A>(p, s), *of_weight = of_segment<A>(p, p.of_grad_weight, s),
            *of_bias = of_segment<A>(p, p.of_grad_bias, s);
    const A *alpha = w.alpha, *t = static_cast<const A*>(p.of_grad_mean_scale);
    const A* shift = static_cast<const A*>(p.shift) + s * (p.center == kNodes ? C : 0);
    const A per_row = A(1) / A(n);
    const bool scaled = p.scale != kNone;
    check_rstds(p, w.rstd, C);
    // Sums become means, and o o_hat. Equation (13): o_dot = u - e, e relative to the pivot as u is.
    for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
        const Load<A, Tail> at{c, tail};
        const Vec<A> r = at(w.rstd), per = r * per_row, u = at(v.u) * per_row;
        put<Tail>(v.g + c, at(v.g) * per_row, tail);
        put<Tail>(v.go + c, at(v.go) * per, tail);
        put<Tail>(v.u + c, u, tail);
        put<Tail>(v.uo + c, at(v.uo) * per, tail);
        put<Tail>(v.gu + c, at(v.gu) * per_row, tail);
        if constexpr (Curved) {
            put<Tail>(v.k + c, at(v.k) * per_row, tail);
            put<Tail>(v.ko + c, at(v.ko) * per, tail);
            put<Tail>(v.koo + c, at(v.koo) * (per * r), tail);
            put<Tail>(v.ku + c, at(v.ku) * per_row, tail);
            put<Tail>(v.kuo + c, at(v.kuo) * per, tail);
        }
        Vec<A> e = {}, o = {};
        if (p.center == kNodes) {
            const Vec<A> mean = at(w.pivot) + at(shift), share = at(alpha, 1);
            e = share * u + (share - 1) * at(v.pivot) + at(t) * mean;
            o = r * ((1 - share) * mean);
        }
        put<Tail>(v.e + c, e, tail);
        put<Tail>(v.o + c, o, tail);
    });
    if (p.center == kBoth) {
        for (int64_t c = 0; c < C; ++c) v.e[c] = v.u[c];
        mean_of_groups(p, v.e);
    }
    for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
        const Load<A, Tail> at{c, tail};
        put<Tail>(v.c + c, scaled ? at(v.uo) - at(v.e) * at(v.o) : Vec<A>{}, tail);
        put<Tail>(v.share + c, scaled ? at(weight, 1) * at(v.go) : Vec<A>{}, tail);
    });
    if (p.scale == kBoth) mean_of_cells(p, v.c, w), share_in_cells(p, v.share, w);
    // z_dot = a u + b + (p - a c) o_hat, and with it the means h and ho of h and h o_hat; m is that of
    // equation (22), `removed` the mean of the gradient of o_hat.
    for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
        const Load<A, Tail> at{c, tail};
        const Vec<A> y = at(weight, 1), r = at(w.rstd), a = at(w.a), direct = at(of_weight);
        const Vec<A> e = at(v.e), share_dot = at(v.c), share = at(v.share), g = at(v.g), go = at(v.go);
        const Vec<A> slope = direct - a * share_dot, b = at(of_bias) - a * e;
        Vec<A> h = {}, ho = {};
        if constexpr (Curved) {
            h = a * at(v.ku) + b * at(v.k) + slope * at(v.ko);
            ho = a * at(v.kuo) + b * at(v.ko) + slope * at(v.koo);
        }
        const Vec<A> o_hat_dot = at(v.gu) - e * g - go * share_dot;
        const Vec<A> back = y * (o_hat_dot - go * share_dot) - share * (at(v.uo) - e * at(v.o));
        put<Tail>(v.m + c, scaled ? r * back + y * ho + direct * go : Vec<A>{}, tail);
        put<Tail>(v.removed + c, y * h + direct * g - r * (y * g * share_dot + share * (at(v.u) - e)), tail);
        put<Tail>(v.p + c, slope * r, tail);
        put<Tail>(v.b + c, b - slope * r * at(w.lo), tail);
        put<Tail>(v.q + c, r * r * share, tail);
        add_to<Tail>(grads.weight, A(n) * (ho + r * o_hat_dot), c, tail);
        if constexpr (Curved) add_to<Tail>(grads.bias, A(n) * h, c, tail);
    });
    if (p.scale == kBoth) share_in_cells(p, v.m, w);
    // Equations (23) and (24): kappa is what the centre takes, then with all that is constant.
    for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
        const Load<A, Tail> at{c, tail};
        const Vec<A> r = at(w.rstd), removed = r * (at(v.removed) - at(v.o) * at(v.m));
        Vec<A> kappa = p.center == kNone ? Vec<A>{} : removed;
        if (alpha) {
            const Vec<A> d = at(w.centred, 1) * (at(w.a) * at(v.g) - r * at(v.o) * at(v.share));
            const Vec<A> mean = at(w.pivot) + at(shift);
            kappa = at(alpha) * removed + at(t) * d;
            add_to<Tail>(grads.mean_scale, A(-n) * ((at(v.pivot) + at(v.u)) * d + mean * removed), c, tail);
        }
        put<Tail>(v.kappa + c, kappa, tail);
    });
    if (p.center == kBoth) mean_of_groups(p, v.kappa);
    for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
        const Load<A, Tail> at{c, tail};
        const Vec<A> m = at(v.m) * (at(w.rstd) * at(w.rstd));
        put<Tail>(v.m + c, m, tail);
        put<Tail>(v.kappa + c, at(v.kappa) - (at(v.q) * at(v.e) + m * at(w.lo)), tail);
    });
}

// grad_grad_y = f' z_dot with z_dot = a u + b + p (x - hi), and
// grad_x = a k z_dot + p g - q u - m (x - hi) - kappa
template <class T, class E, class A = Accumulate<T>>
void apply_second(const SecondRows<T>& rows, int64_t begin, int64_t end, int64_t channels, const Channels<A>& w,
                  const SecondChannels<A>& v, const E& epilogue, bool streaming) {
    for_strips<A, kSecondVectors<E>>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        constexpr int L = kLanes<A>;
        Vec<A> hi[K], pivot[K], a[K], shift[K], b[K], p[K], q[K], m[K], kappa[K];
        get_strip<Tail>(w.hi + c, tail, hi);
        get_strip<Tail>(w.a + c, tail, a);
        get_strip<Tail>(w.b + c, tail, shift);
        get_strip<Tail>(v.pivot + c, tail, pivot);
        get_strip<Tail>(v.b + c, tail, b);
        get_strip<Tail>(v.p + c, tail, p);
        get_strip<Tail>(v.q + c, tail, q);
        get_strip<Tail>(v.m + c, tail, m);
        get_strip<Tail>(v.kappa + c, tail, kappa);
        for (int64_t i = begin; i < end; ++i) {
            const T *row = rows.x[i] + c, *grad_row = rows.grad_y[i] + c, *u_row = rows.u[i] + c;
            T *out = rows.grad_x[i] + c, *grad_out = rows.grad_grad_y[i] + c;
            const auto key = epilogue.row(rows.x.row(i));
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                const Vec<A> d = get<Tail>(row + k * L, tail) - hi[k];
                const Vec<A> u = get<Tail>(u_row + k * L, tail) - pivot[k];
                Vec<A> g = epilogue.dropped(get<Tail>(grad_row + k * L, tail), key, c + k * L);
                Vec<A> z_dot = (a[k] * u + p[k] * d) + b[k], of_h = {};
                if constexpr (E::needs_input) {
                    const Curve<Vec<A>> f = E::curve(d * a[k] + shift[k]);
                    if constexpr (E::curved) of_h = a[k] * (g * f.bend * z_dot);
                    g *= f.slope;
                    z_dot *= f.slope;
                }
                put_result<Tail>(grad_out + k * L, epilogue.dropped(z_dot, key, c + k * L), tail, streaming);
                const Vec<A> kept = p[k] * g - q[k] * u, taken = m[k] * d + kappa[k];
                put_result<Tail>(out + k * L, E::curved ? (of_h + kept) - taken : kept - taken, tail, streaming);
            }
        }
    });
}

template <class T> void segment_double_backward(const NormDoubleBackward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, width = C / p.groups, R = chunk_rows<T>(C);
    const SecondRows<T> rows(p, p.order);
    const bool streaming = streams_both<T>(p);
    const LongSegments longs(p, R);
    const int64_t tasks = count_tasks(p, R);
    Buffer<A> shares(3 * C * (tasks + longs.count()));
    for (int64_t c = 0; c < 3 * C * (tasks + longs.count()); ++c) shares.get()[c] = 0;
    const auto recall = [&](Channels<A>& w, SecondChannels<A>& v, int64_t s) {
        take_pivot<T>(p, rows.x, s, w, w.pivot);
        recall_coefficients<A>(p, s, w);
        take_pivot<T>(p, rows.u, s, w, v.pivot);
        if (p.center == kBoth)  // one of the whole cell
            for (int64_t c = 0; c < C; ++c) v.pivot[c] = v.pivot[c / width * width];
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
