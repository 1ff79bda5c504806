// The second derivative of statistics within a row, and of a bounded function: equations (13) to
// (16), and (19) and (20), of docs/maths.md.
//
// A row stays in the L1 cache between its passes. Names: u, p, q and t are the cotangents of the
// gradients of x, weight, bias and mean_scale, h is the gradient of the pre-activation.

// What the passes over the rows of a second derivative read and write.
template <class T> struct SecondRows {
    SecondRows(const NormDoubleBackward& p, const int64_t* order)
        : x{static_cast<const T*>(p.x), p.x_stride, order},
          grad_y{static_cast<const T*>(p.grad_y), p.grad_y_stride, order},
          u{static_cast<const T*>(p.of_grad_x), p.of_grad_x_stride, order},
          grad_x{static_cast<T*>(p.grad_x), p.channels, order},
          grad_grad_y{static_cast<T*>(p.grad_grad_y), p.channels, order} {}
    Rows<const T> x, grad_y, u;
    Rows<T> grad_x, grad_grad_y;

    // The first backward passes masked rows on: so does the gradient of grad_y, and that of x is 0.
    void pass_masked_rows(const NormDoubleBackward& p) const {
        pass_masked<T>(p, u, {}, grad_grad_y);
        for (int64_t i = p.ptr[p.segments]; i < p.rows; ++i)
            std::memset(grad_x[i], 0, size_t(p.channels) * sizeof(T));
    }
};

template <class T> bool streams_both(const NormDoubleBackward& p) {
    return streams<T>(p, p.grad_x) && streams<T>(p, p.grad_grad_y);
}

// The parameters of a segment, the cotangents of their gradients, and where these gradients go.
template <class A> struct SecondParameters {
    SecondParameters(const NormDoubleBackward& p, int64_t s, A* grad_weight, A* grad_bias)
        : weight(weight_of<A>(p, s)), bias(bias_of<A>(p, s)), p(of_segment<A>(p, p.of_grad_weight, s)),
          q(of_segment<A>(p, p.of_grad_bias, s)), grad_weight(grad_weight), grad_bias(grad_bias) {}
    const A *weight, *bias, *p, *q;
    A *grad_weight, *grad_bias;
};

// v times the parameters of a strip, or v where there are none.
template <bool Tail, class A> inline Vec<A> times(Vec<A> v, const A* parameter, int64_t c, int tail) {
    return parameter ? v * get<Tail>(parameter + c, tail) : v;
}
template <bool Tail, class A> inline void add_to(A* sums, Vec<A> v, int64_t c, int tail) {
    put<Tail>(sums + c, get<Tail>(sums + c, tail) + v, tail);
}

// Calls each(position, parameters, scratch of `Scratch` rows, task) for every row, in tasks of R rows,
// then sums the gradients of weight and bias.
template <class T, int Scratch, class Each>
void for_second_rows(const NormDoubleBackward& p, const RowSegments& segments, int64_t R, bool streaming,
                     Each&& each) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, tasks = (segments.end + R - 1) / R;
    RowShares<A> shares(p, segments, tasks, R);
#pragma omp parallel for schedule(dynamic) num_threads(p.threads) if (p.threads > 1)
    for (int64_t task = 0; task < tasks; ++task) {
        Buffer<A> kept((Scratch + 2) * C);  // the last two rows take gradients that are not returned
        A* unused = kept.get() + Scratch * C;
        for (int64_t c = 0; c < 2 * C; ++c) unused[c] = 0;
        int64_t run = 0;
        for_runs(segments, task * R, smaller(segments.end, (task + 1) * R),
                 [&](int64_t s, int64_t first, int64_t last) {
            const RowShare<A> share = shares.of(task, run, s, first, last, unused);
            const SecondParameters<A> of(p, s, share.weight, share.bias);
            for (int64_t i = first; i < last; ++i) each(i, of, kept.get(), task);
        });
        if (streaming) stream_fence();
    }
    write_row_gradients<A>(p, segments, tasks, R, shares);
}

template <class T> void row_double_backward(const NormDoubleBackward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, G = p.groups, width = C / G;
    const bool streaming = streams_both<T>(p) && width % kLanes<A> == 0;
    const bool centred = p.center != kNone, scaled = p.scale != kNone;
    const A per_entry = A(1) / A(width);
    const RowSegments segments(p);
    const SecondRows<T> rows(p, segments.order);
    rows.pass_masked_rows(p);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        // `Bent`: whether a gradient of o_hat is there before the scale: weight h + p g.
        const auto differentiate = [&]<bool Bent>(int64_t position, const SecondParameters<A>& of, A* kept) {
            const int64_t i = rows.x.row(position);
            const T *row = rows.x[position], *grad_row = rows.grad_y[position], *u_row = rows.u[position];
            T *out = rows.grad_x[position], *grad_out = rows.grad_grad_y[position];
            A *g_row = kept, *o_row = kept + C, *slope_row = kept + 2 * C, *k_row = kept + 3 * C,
              *bar_row = kept + 4 * C;
            const auto key = epilogue.row(i);
            for (int64_t group = 0; group < G; ++group) {
                const int64_t first = group * width, last = first + width, cell = i * G + group;
                const RowCenter<A> m = centred
                    ? row_center(first_entry(row + first), static_cast<const A*>(p.shift)[cell]) : RowCenter<A>{0, 0};
                const A rstd = scaled ? static_cast<const A*>(p.rstd)[cell] : A(1);
                const A pivot = centred ? first_entry(u_row + first) : A(0);
                check_rstds(p, &rstd, 1);
                Vec<A> sum_u = {}, sum_uo = {}, sum_g = {}, sum_go = {}, sum_gu = {};
                for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                    const Vec<A> o = only<A, Tail>(((get<Tail>(row + c, tail) - m.hi) - m.lo) * rstd, tail);
                    Vec<A> g = epilogue.dropped(get<Tail>(grad_row + c, tail), key, c);
                    if constexpr (E::needs_input) {
                        Vec<A> pre = times<Tail>(o, of.weight, c, tail);
                        if (of.bias) pre += get<Tail>(of.bias + c, tail);
                        const Curve<Vec<A>> f = E::curve(pre);
                        if constexpr (E::curved) put<Tail>(k_row + c, f.bend * g, tail);
                        put<Tail>(slope_row + c, f.slope, tail);
                        g *= f.slope;
                    }
                    put<Tail>(o_row + c, o, tail);
                    put<Tail>(g_row + c, g, tail);
                    const Vec<A> u = only<A, Tail>(get<Tail>(u_row + c, tail) - pivot, tail);
                    g = times<Tail>(g, of.weight, c, tail);
                    sum_u += u;
                    sum_uo += u * o;
                    sum_g += g;
                    sum_go += g * o;
                    sum_gu += g * u;
                });
                // o_hat and o_dot have mean 0 where there is a centre, and no mean is used without.
                const A mean_u = centred ? horizontal_sum<A>(sum_u) * per_entry : A(0);
                const A mean_g = horizontal_sum<A>(sum_g) * per_entry;
                const A c_mean = scaled ? horizontal_sum<A>(sum_uo) * per_entry : A(0);
                const A b_mean = scaled ? horizontal_sum<A>(sum_go) * per_entry : A(0);
                const A gu = horizontal_sum<A>(sum_gu) * per_entry - mean_u * mean_g;
                A along = scaled ? rstd * (gu - A(3) * b_mean * c_mean) : A(0);
                A removed = centred ? -rstd * c_mean * mean_g : A(0);

                const auto o_dot_at = [&]<bool Tail>(int64_t c, int tail) {
                    return (get<Tail>(u_row + c, tail) - pivot) - mean_u;
                };
                const auto write = [&]<bool Tail>(int64_t c, int tail, Vec<A> bar, Vec<A> o_dot) {
                    const Vec<A> o = get<Tail>(o_row + c, tail);
                    const Vec<A> g = times<Tail>(get<Tail>(g_row + c, tail), of.weight, c, tail);
                    bar -= rstd * (g * c_mean + o_dot * b_mean);
                    put_result<Tail>(out + c, ((bar - o * along) - removed) * rstd, tail, streaming);
                };
                Vec<A> sum_bar = {}, sum_bar_o = {};
                for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                    const Vec<A> o = get<Tail>(o_row + c, tail), g = get<Tail>(g_row + c, tail);
                    const Vec<A> o_dot = o_dot_at.template operator()<Tail>(c, tail);
                    const Vec<A> o_hat_dot = (o_dot - o * c_mean) * rstd;
                    Vec<A> z_dot = times<Tail>(o_hat_dot, of.weight, c, tail), of_weight = g * o_hat_dot;
                    if (of.p) z_dot += get<Tail>(of.p + c, tail) * o;
                    if (of.q) z_dot += get<Tail>(of.q + c, tail);
                    Vec<A> bar = {};
                    if constexpr (E::curved) {
                        const Vec<A> h = get<Tail>(k_row + c, tail) * z_dot;
                        add_to<Tail>(of.grad_bias, h, c, tail);
                        of_weight += h * o;
                        bar = times<Tail>(h, of.weight, c, tail);
                    }
                    add_to<Tail>(of.grad_weight, of_weight, c, tail);
                    if constexpr (E::needs_input) z_dot *= get<Tail>(slope_row + c, tail);
                    put_result<Tail>(grad_out + c, epilogue.dropped(z_dot, key, c), tail, streaming);
                    if constexpr (Bent) {
                        if (of.p) bar += get<Tail>(of.p + c, tail) * g;
                        put<Tail>(bar_row + c, bar, tail);
                        bar = only<A, Tail>(bar, tail);
                        sum_bar += bar;
                        sum_bar_o += bar * o;
                    } else {
                        write.template operator()<Tail>(c, tail, bar, o_dot);
                    }
                });
                if constexpr (!Bent) continue;
                if (scaled) along += horizontal_sum<A>(sum_bar_o) * per_entry;
                if (centred) removed += horizontal_sum<A>(sum_bar) * per_entry;
                for_vectors<A>(first, last, [&]<bool Tail>(int64_t c, int tail) {
                    write.template operator()<Tail>(c, tail, get<Tail>(bar_row + c, tail),
                                                    o_dot_at.template operator()<Tail>(c, tail));
                });
            }
        };
        for_second_rows<T, 5>(p, segments, chunk_rows<T>(C), streaming,
                              [&](int64_t position, const SecondParameters<A>& of, A* kept, int64_t) {
            if (E::curved || of.p) differentiate.template operator()<true>(position, of, kept);
            else differentiate.template operator()<E::curved>(position, of, kept);
        });
    });
}

template <class T> void bounded_double_backward(const NormDoubleBackward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, R = chunk_rows<T>(C);
    const bool streaming = streams_both<T>(p) && C % kLanes<A> == 0;
    const RowSegments segments(p);
    const SecondRows<T> rows(p, segments.order);
    const Function<A> function(p);
    const A* t = static_cast<const A*>(p.of_grad_mean_scale);
    const A of_slope = t ? t[0] : A(0), of_shift = t && p.arguments > 1 ? t[1] : A(0);
    const int64_t tasks = (segments.end + R - 1) / R;
    Buffer<double> sums(2 * tasks);
    for (int64_t i = 0; i < 2 * tasks; ++i) sums.get()[i] = 0;
    rows.pass_masked_rows(p);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        // `kept` holds a row of f and one of f'.
        for_second_rows<T, 2>(p, segments, R, streaming,
                              [&](int64_t position, const SecondParameters<A>& of, A* kept, int64_t task) {
            const T *row = rows.x[position], *grad_row = rows.grad_y[position], *u_row = rows.u[position];
            const auto key = epilogue.row(rows.x.row(position));
            Vec<A> sum_v = {}, sum_xv = {};
            function.at(row, C, kept, kept + C);
            for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
                const Vec<A> x = get<Tail>(row + c, tail), u = get<Tail>(u_row + c, tail);
                const Vec<A> value = get<Tail>(kept + c, tail), slope = get<Tail>(kept + C + c, tail);
                Vec<A> g = epilogue.dropped(get<Tail>(grad_row + c, tail), key, c), k = {};
                const Vec<A> v_dot = u * function.slope + x * of_slope + of_shift, value_dot = slope * v_dot;
                Vec<A> z_dot = times<Tail>(value_dot, of.weight, c, tail);
                if (of.p) z_dot += get<Tail>(of.p + c, tail) * value;
                if (of.q) z_dot += get<Tail>(of.q + c, tail);
                Vec<A> grad_grad = z_dot, bar = {};
                if constexpr (E::needs_input) {
                    Vec<A> pre = times<Tail>(value, of.weight, c, tail);
                    if (of.bias) pre += get<Tail>(of.bias + c, tail);
                    const Curve<Vec<A>> f = E::curve(pre);
                    if constexpr (E::curved) k = f.bend * g;
                    g *= f.slope;
                    grad_grad *= f.slope;
                }
                put_result<Tail>(rows.grad_grad_y[position] + c, epilogue.dropped(grad_grad, key, c), tail, streaming);
                Vec<A> of_weight = g * value_dot;
                if constexpr (E::curved) {
                    const Vec<A> h = k * z_dot;
                    add_to<Tail>(of.grad_bias, h, c, tail);
                    of_weight += h * value;
                    bar = times<Tail>(h, of.weight, c, tail);
                }
                add_to<Tail>(of.grad_weight, of_weight, c, tail);
                if (of.p) bar += get<Tail>(of.p + c, tail) * g;
                g = times<Tail>(g, of.weight, c, tail);
                const Vec<A> e = slope * g, bend = function.bend(x * function.slope + function.shift, value);
                const Vec<A> v = only<A, Tail>(slope * bar + e * bend * v_dot, tail);
                sum_v += v;
                sum_xv += only<A, Tail>(x * v + u * e, tail);
                put_result<Tail>(rows.grad_x[position] + c, v * function.slope + e * of_slope, tail, streaming);
            });
            sums.get()[2 * task] += double(horizontal_sum<A>(sum_xv));
            sums.get()[2 * task + 1] += double(horizontal_sum<A>(sum_v));
        });
    });
    write_argument_gradients<A>(p, sums.get(), tasks);
}
