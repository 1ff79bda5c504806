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

// Calls each(position, parameters, scratch of `Scratch` rows, what `make(task)` returned) for every row,
// in tasks of R rows, then sums the gradients of weight and bias.
template <class T, int Scratch, class Make, class Each>
void for_second_rows(const NormDoubleBackward& p, const RowSegments& segments, int64_t R, bool streaming,
                     Make&& make, Each&& each) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, tasks = (segments.end + R - 1) / R;
    RowShares<A> shares(p, segments, tasks, R);
#pragma omp parallel for schedule(dynamic) num_threads(p.threads) if (p.threads > 1)
    for (int64_t task = 0; task < tasks; ++task) {
        Buffer<A> kept(Scratch * C);
        auto made = make(task);
        int64_t run = 0;
        for_runs(segments, task * R, smaller(segments.end, (task + 1) * R),
                 [&](int64_t s, int64_t first, int64_t last) {
            const RowShare<A> share = shares.of(task, run, s, first, last);
            const SecondParameters<A> of(p, s, share.weight, share.bias);
            for (int64_t i = first; i < last; ++i) each(i, of, kept.get(), made);
        });
        if (streaming) stream_fence();
    }
    write_row_gradients<A>(p, segments, tasks, R, shares);
}

// What the second derivative of a row sums up: for each piece, each cell of the scale and each of the
// centre. u is relative to a pivot; o_hat has the sum 0 over a whole cell of the centre.
template <class A> struct OfPiece {
    A u, g, o, bar;
};
template <class A> struct OfScale {
    A b, c, along;
};
template <class A> struct OfCenter {
    A pivot, mean_u, removed;
};

template <class T, class Cells, class A = Accumulate<T>> struct RowSums {
    template <class Division> explicit RowSums(const Division& columns)
        : cells(columns), pieces(columns.count), scales(columns.scales),
          centers(larger<int64_t>(columns.centers, 1)) {}
    Cells cells;
    Buffer<OfPiece<A>> pieces;
    Buffer<OfScale<A>> scales;
    Buffer<OfCenter<A>> centers;

    template <class AnyPiece> OfCenter<A> center_of(const AnyPiece& piece) {
        return piece.center < 0 ? OfCenter<A>{0, 0, 0} : centers.get()[piece.center];
    }

    // From the sums of a first pass to the coefficients of the second: the means of u, and c.
    template <class Division> void center_u(const Division& columns, bool scaled) {
        for (int64_t k = 0; k < columns.count; ++k) {
            const auto& piece = columns.begin()[k];
            if (piece.center < 0) continue;
            const CenterCell& cell = columns.center(piece.center);
            centers.get()[piece.center].mean_u += pieces.get()[k].u / A(cell.last - cell.first);
        }
        for (int64_t k = 0; k < columns.count; ++k) {
            const auto& piece = columns.begin()[k];
            const A mean_u = center_of(piece).mean_u;
            OfScale<A>& of = scales.get()[piece.scale];
            of.c -= piece.weight * mean_u * pieces.get()[k].o;
            of.along -= mean_u * pieces.get()[k].g;
        }
        for (int64_t k = 0; k < columns.scales; ++k) {
            OfScale<A>& of = scales.get()[k];
            if (scaled) of.along = cells.rstd(k) * (of.along - A(3) * of.b * of.c);
            else of = {0, 0, 0};
        }
    }

    // The means over the cells of the centre that are subtracted at last.
    template <class Division> void center_result(const Division& columns) {
        for (int64_t k = 0; k < columns.count; ++k) {
            const auto& piece = columns.begin()[k];
            if (piece.center < 0) continue;
            const CenterCell& cell = columns.center(piece.center);
            const OfPiece<A>& sums = pieces.get()[k];
            const OfScale<A>& of = scales.get()[piece.scale];
            OfCenter<A>& center = centers.get()[piece.center];
            const A rstd = cells.rstd(piece.scale);
            const A u = piece.whole ? A(0) : sums.u - A(piece.last - piece.first) * center.mean_u;
            const A sum = sums.bar - rstd * (of.c * sums.g + piece.weight * of.b * u) - piece.weight * of.along * sums.o;
            center.removed += rstd * sum / A(cell.last - cell.first);
        }
    }
};

template <class T, class Cells, class Division>
void row_double_backward(const NormDoubleBackward& p, const Division& columns) {
    using A = Accumulate<T>;
    const int64_t C = p.channels;
    const bool streaming = streams_both<T>(p) && columns.aligned, scaled = p.scale != kNone;
    const RowSegments segments(p);
    const SecondRows<T> rows(p, segments.order);
    rows.pass_masked_rows(p);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        // `Bent`: whether a gradient of o_hat is there before the scale: weight h + p g.
        const auto differentiate = [&]<bool Bent>(int64_t position, const SecondParameters<A>& of, A* kept,
                                                  RowSums<T, Cells>& sums) {
            const T *row = rows.x[position], *grad_row = rows.grad_y[position], *u_row = rows.u[position];
            T *out = rows.grad_x[position], *grad_out = rows.grad_grad_y[position];
            A *scratch = kept, *slope_row = kept + C, *k_row = kept + 2 * C, *bar_row = kept + 3 * C;
            const A* g_row = row_of_gradient<E>(p, grad_row, scratch);
            Cells& cells = sums.cells;
            const auto key = epilogue.row(rows.x.row(position));
            for (int64_t k = 0; k < columns.centers; ++k)
                sums.centers.get()[k] = {first_entry(u_row + columns.center(k).first), 0, 0};

            for (int64_t k = 0; k < columns.scales; ++k) {
                const A rstd = cells.rstd(k);
                Vec<A> sum_go = {}, sum_uo = {}, sum_gu = {};
                for (const auto* piece = columns.begin(k); piece < columns.end(k); ++piece) {
                    const RowCenter<A> m = cells.center_of(*piece);
                    const A pivot = sums.center_of(*piece).pivot;
                    Vec<A> sum_u = {}, sum_g = {}, sum_o = {}, sum_wuo = {};
                    for_vectors<A>(piece->first, piece->last, [&]<bool Tail>(int64_t c, int tail) {
                        const Vec<A> o = only<A, Tail>(deviation<Tail>(row, c, tail, m) * rstd, tail);
                        Vec<A> g = epilogue.dropped(get<Tail>(grad_row + c, tail), key, c);
                        if constexpr (E::needs_input) {
                            Vec<A> pre = times<Tail>(o, of.weight, c, tail);
                            if (of.bias) pre += get<Tail>(of.bias + c, tail);
                            const Curve<Vec<A>> f = E::curve(pre);
                            if constexpr (E::curved) put<Tail>(k_row + c, f.bend * g, tail);
                            put<Tail>(slope_row + c, f.slope, tail);
                            g *= f.slope;
                        }
                        if (g_row == scratch) put<Tail>(scratch + c, g, tail);
                        const Vec<A> u = only<A, Tail>(get<Tail>(u_row + c, tail) - pivot, tail);
                        g = times<Tail>(g, of.weight, c, tail);
                        sum_u += u;
                        sum_g += g;
                        sum_o += o;
                        sum_wuo += u * o;
                        sum_go += g * o;
                        sum_gu += g * u;
                    });
                    sum_uo += sum_wuo * piece->weight;
                    OfPiece<A>& of_piece = sums.pieces.get()[piece - columns.begin()];
                    of_piece = {0, 0, 0, 0};
                    if (piece->center < 0) continue;
                    of_piece.u = horizontal_sum<A>(sum_u);
                    of_piece.g = horizontal_sum<A>(sum_g);
                    if (!piece->whole) of_piece.o = horizontal_sum<A>(sum_o);
                }
                sums.scales.get()[k] = {horizontal_sum<A>(sum_go), horizontal_sum<A>(sum_uo), horizontal_sum<A>(sum_gu)};
            }
            sums.center_u(columns, scaled);
            if constexpr (!Bent) sums.center_result(columns);

            // What the passes below read of a piece.
            struct Factors {
                RowCenter<A> m;
                A pivot, mean_u, rstd, b, c, along, removed;
            };
            const auto factors_of = [&](const auto& piece) -> Factors {
                const OfCenter<A> center = sums.center_of(piece);
                const OfScale<A>& scale = sums.scales.get()[piece.scale];
                return {cells.center_of(piece), center.pivot,           center.mean_u,
                        cells.rstd(piece.scale), piece.weight * scale.b, scale.c,
                        piece.weight * scale.along, center.removed};
            };
            const auto write = [&]<bool Tail>(int64_t c, int tail, Vec<A> bar, Vec<A> o, Vec<A> o_dot,
                                              const Factors& f) {
                const Vec<A> g = times<Tail>(get<Tail>(g_row + c, tail), of.weight, c, tail);
                bar -= f.rstd * (g * f.c + o_dot * f.b);
                put_result<Tail>(out + c, (bar - o * f.along) * f.rstd - f.removed, tail, streaming);
            };
            for (const auto& piece : columns) {
                const Factors f = factors_of(piece);
                Vec<A> sum_bar = {}, sum_bar_o = {};
                for_vectors<A>(piece.first, piece.last, [&]<bool Tail>(int64_t c, int tail) {
                    const Vec<A> o = deviation<Tail>(row, c, tail, f.m) * f.rstd, g = get<Tail>(g_row + c, tail);
                    const Vec<A> o_dot = (get<Tail>(u_row + c, tail) - f.pivot) - f.mean_u;
                    const Vec<A> o_hat_dot = (o_dot - o * f.c) * f.rstd;
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
                        sum_bar_o += only<A, Tail>(bar * o, tail);
                    } else {
                        write.template operator()<Tail>(c, tail, bar, o, o_dot, f);
                    }
                });
                if constexpr (Bent) {
                    sums.pieces.get()[&piece - columns.begin()].bar = horizontal_sum<A>(sum_bar);
                    if (scaled) sums.scales.get()[piece.scale].along += horizontal_sum<A>(sum_bar_o);
                }
            }
            if constexpr (!Bent) return;
            sums.center_result(columns);
            for (const auto& piece : columns) {
                const Factors f = factors_of(piece);
                for_vectors<A>(piece.first, piece.last, [&]<bool Tail>(int64_t c, int tail) {
                    write.template operator()<Tail>(c, tail, get<Tail>(bar_row + c, tail),
                                                    deviation<Tail>(row, c, tail, f.m) * f.rstd,
                                                    (get<Tail>(u_row + c, tail) - f.pivot) - f.mean_u, f);
                });
            }
        };
        for_second_rows<T, 4>(p, segments, chunk_rows<T>(C), streaming, [&](int64_t) { return RowSums<T, Cells>(columns); },
                              [&](int64_t position, const SecondParameters<A>& of, A* kept, RowSums<T, Cells>& sums) {
            sums.cells.recall(p, columns, rows.x[position], rows.x.row(position));
            if (scaled) check_rstds(p, &sums.cells.rstd(0), columns.scales);
            if (E::curved || of.p) differentiate.template operator()<true>(position, of, kept, sums);
            else differentiate.template operator()<E::curved>(position, of, kept, sums);
        });
    });
}

template <class T> void row_double_backward(const NormDoubleBackward& p) {
    with_columns<T>(p, [&]<class Cells>(const auto& columns) { row_double_backward<T, Cells>(p, columns); });
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
        for_second_rows<T, 2>(p, segments, R, streaming, [](int64_t task) { return task; },
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
