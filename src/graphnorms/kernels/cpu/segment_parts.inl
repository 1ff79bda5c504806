// Statistics over nodes: the passes over the rows of one segment, and the coefficients.
//
// The centre m of a cell is kept as a pair hi + lo, where hi is m rounded to the features'
// precision, so that x - m loses nothing when the mean is large against the spread. The pair is
// rebuilt from what is saved: `shift`, the mean relative to the pivot (the segment's first row).

// How many rows one thread takes at once: a function of the problem, never of the threads.
template <class A> int64_t chunk_rows(int64_t channels) {
    return larger<int64_t>(kBlockRows, smaller<int64_t>(2048, kChunkBytes / (channels * int64_t(sizeof(A)))));
}

// Per-channel workspace of one segment.
template <class A> struct Channels {
    explicit Channels(int64_t channels)
        : memory(7 * channels), wide(2 * channels), hi(memory.get()), lo(hi + channels),
          a(lo + channels), b(a + channels), sum(b + channels), square(sum + channels),
          rstd(square + channels) {}
    Buffer<A> memory;
    Buffer<double> wide;  // sums over several blocks
    A *hi, *lo;           // the centre
    A *a, *b;             // pre-activation = a (x - hi) + b
    A *sum, *square;      // the two sums of a pass
    A* rstd;              // per channel, whatever the scale domain
};

// Runs `block` over begin..end in pieces of kBlockRows. It leaves two sums per channel, which
// are added up in double when there are several pieces.
template <class A, class Block>
void in_blocks(int64_t begin, int64_t end, int64_t channels, Channels<A>& w, int terms, Block&& block) {
    if (end - begin <= kBlockRows) return block(begin, end);
    double* wide = w.wide.get();
    for (int64_t c = 0; c < terms * channels; ++c) wide[c] = 0;
    for (int64_t i = begin; i < end; i += kBlockRows) {
        block(i, smaller(end, i + kBlockRows));
        for (int64_t c = 0; c < channels; ++c) wide[c] += w.sum[c];
        if (terms == 2)
            for (int64_t c = 0; c < channels; ++c) wide[channels + c] += w.square[c];
    }
    for (int64_t c = 0; c < channels; ++c) w.sum[c] = A(wide[c]);
    if (terms == 2)
        for (int64_t c = 0; c < channels; ++c) w.square[c] = A(wide[channels + c]);
}

// w.sum = sum over the rows of x - pivot
template <class A>
void sum_shifted(const Rows<const A>& x, int64_t begin, int64_t end, int64_t channels, const A* pivot, Channels<A>& w) {
    in_blocks<A>(begin, end, channels, w, 1, [&](int64_t first, int64_t last) {
        for_strips<A>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            constexpr int L = kLanes<A>;
            Vec<A> p[K], total[1][K];
            for (int k = 0; k < K; ++k) p[k] = get<A, Tail>(pivot + c + k * L, tail);
            reduce<A, K, 1>(first, last, [&](int64_t i, Vec<A> (&sums)[1][K]) {
                const A* row = x[i] + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) sums[0][k] += get<A, Tail>(row + k * L, tail) - p[k];
            }, total);
            for (int k = 0; k < K; ++k) put<A, Tail>(w.sum + c + k * L, total[0][k], tail);
        });
    });
}

// w.sum = sum over the rows of (x - hi - lo)^2
template <class A>
void sum_squares(const Rows<const A>& x, int64_t begin, int64_t end, int64_t channels, Channels<A>& w) {
    in_blocks<A>(begin, end, channels, w, 1, [&](int64_t first, int64_t last) {
        for_strips<A>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            constexpr int L = kLanes<A>;
            Vec<A> hi[K], total[1][K];
            for (int k = 0; k < K; ++k) hi[k] = get<A, Tail>(w.hi + c + k * L, tail);
            reduce<A, K, 1>(first, last, [&](int64_t i, Vec<A> (&sums)[1][K]) {
                const A* row = x[i] + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const Vec<A> o = (get<A, Tail>(row + k * L, tail) - hi[k]) -
                                     get<A, Tail>(w.lo + c + k * L, tail);
                    sums[0][k] += o * o;
                }
            }, total);
            for (int k = 0; k < K; ++k) put<A, Tail>(w.sum + c + k * L, total[0][k], tail);
        });
    });
}

// y = act(a (x - hi) + b)
template <class A, class Act>
void apply_forward(const Rows<const A>& x, const Rows<A>& y, int64_t begin, int64_t end, int64_t channels,
                   const Channels<A>& w, bool streaming) {
    for_strips<A>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        constexpr int L = kLanes<A>;
        Vec<A> hi[K], a[K], b[K];
        for (int k = 0; k < K; ++k) {
            hi[k] = get<A, Tail>(w.hi + c + k * L, tail);
            a[k] = get<A, Tail>(w.a + c + k * L, tail);
            b[k] = get<A, Tail>(w.b + c + k * L, tail);
        }
        for (int64_t i = begin; i < end; ++i) {
            const A* row = x[i] + c;
            A* out = y[i] + c;
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                const Vec<A> v = Act::forward((get<A, Tail>(row + k * L, tail) - hi[k]) * a[k] + b[k]);
                if constexpr (Tail) put<A, Tail>(out + k * L, v, tail);
                else if (streaming) stream(out + k * L, v);
                else store<A>(out + k * L, v);
            }
        }
    });
}

// w.sum = sum of g, w.square = sum of g o, with g = act'(pre) grad_y and o = x - hi - lo
template <class A, class Act>
void sum_gradients(const Rows<const A>& x, const Rows<const A>& grad_y, int64_t begin, int64_t end,
                   int64_t channels, Channels<A>& w) {
    in_blocks<A>(begin, end, channels, w, 2, [&](int64_t first, int64_t last) {
        for_strips<A>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
            constexpr int L = kLanes<A>;
            Vec<A> total[2][K];
            reduce<A, K, 2>(first, last, [&](int64_t i, Vec<A> (&sums)[2][K]) {
                const A* row = x[i] + c;
                const A* grad_row = grad_y[i] + c;
#pragma GCC unroll 8
                for (int k = 0; k < K; ++k) {
                    const int64_t at = c + k * L;
                    const Vec<A> d = get<A, Tail>(row + k * L, tail) - get<A, Tail>(w.hi + at, tail);
                    Vec<A> g = get<A, Tail>(grad_row + k * L, tail);
                    if constexpr (Act::needs_input)
                        g = Act::backward(d * get<A, Tail>(w.a + at, tail) + get<A, Tail>(w.b + at, tail), g);
                    sums[0][k] += g;
                    sums[1][k] += g * (d - get<A, Tail>(w.lo + at, tail));
                }
            }, total);
            for (int k = 0; k < K; ++k) {
                put<A, Tail>(w.sum + c + k * L, total[0][k], tail);
                put<A, Tail>(w.square + c + k * L, total[1][k], tail);
            }
        });
    });
}

// grad_x = w.a g - w.sum (x - hi) - w.square: the coefficients that backward_coefficients leaves
template <class A, class Act>
void apply_backward(const Rows<const A>& x, const Rows<const A>& grad_y, const Rows<A>& grad_x, int64_t begin,
                    int64_t end, int64_t channels, const Channels<A>& w, bool streaming) {
    for_strips<A>(channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        constexpr int L = kLanes<A>;
        for (int64_t i = begin; i < end; ++i) {
            const A* row = x[i] + c;
            const A* grad_row = grad_y[i] + c;
            A* out = grad_x[i] + c;
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                const int64_t at = c + k * L;
                const Vec<A> d = get<A, Tail>(row + k * L, tail) - get<A, Tail>(w.hi + at, tail);
                Vec<A> g = get<A, Tail>(grad_row + k * L, tail);
                const Vec<A> a = get<A, Tail>(w.a + at, tail);
                if constexpr (Act::needs_input) g = Act::backward(d * a + get<A, Tail>(w.b + at, tail), g);
                const Vec<A> v = (a * g - get<A, Tail>(w.sum + at, tail) * d) - get<A, Tail>(w.square + at, tail);
                if constexpr (Tail) put<A, Tail>(out + k * L, v, tail);
                else if (streaming) stream(out + k * L, v);
                else store<A>(out + k * L, v);
            }
        }
    });
}

// What is known of a segment's centre: from the saved shift to hi and lo, in every domain.
//
// With p the pivot and e = m - p: hi = round(p + e), lo = e - (hi - p), exact by Sterbenz.
template <class A> void center_from_shift(const Norm& p, const A* pivot, const A* shift, Channels<A>& w) {
    const A* alpha = static_cast<const A*>(p.mean_scale);
    const int64_t width = p.channels / p.groups;
    for (int64_t c = 0; c < p.channels; ++c) {
        A e = 0;
        if (p.center == kNone) {
            w.hi[c] = w.lo[c] = 0;
            continue;
        }
        if (p.center == kNodes) e = alpha ? alpha[c] * shift[c] + (alpha[c] - 1) * pivot[c] : shift[c];
        else e = shift[c / width] + (pivot[c / width * width] - pivot[c]);
        w.hi[c] = pivot[c] + e;
        w.lo[c] = e - (w.hi[c] - pivot[c]);
    }
}

template <class A> inline A weight_at(const Norm& p, int64_t c) {
    return p.weight ? static_cast<const A*>(p.weight)[c] : A(1);
}

// w.a and w.b from w.hi, w.lo and w.rstd: pre-activation = weight (x - m) rstd + bias
template <class A> void affine_coefficients(const Norm& p, Channels<A>& w) {
    for (int64_t c = 0; c < p.channels; ++c) {
        w.a[c] = weight_at<A>(p, c) * w.rstd[c];
        w.b[c] = (p.bias ? static_cast<const A*>(p.bias)[c] : A(0)) - w.lo[c] * w.a[c];
    }
}

template <class A> void spread_rstd(const Norm& p, const A* rstd, Channels<A>& w) {
    const int64_t width = p.channels / p.groups;
    for (int64_t c = 0; c < p.channels; ++c)
        w.rstd[c] = p.scale == kNone ? A(1) : p.scale == kNodes ? rstd[c] : rstd[c / width];
}

// From the mean (relative to the pivot, in `mean`) and the sum of squares about it (`m2`) of
// every channel to the saved statistics of segment s and the coefficients of y.
template <class A>
void forward_coefficients(const Norm& p, int64_t s, int64_t n, const A* pivot, const A* mean, const A* m2,
                          Channels<A>& w) {
    const int64_t C = p.channels, G = p.groups, width = C / G;
    A* shift = static_cast<A*>(p.shift) + s * (p.center == kNodes ? C : p.center == kBoth ? G : 0);
    const int64_t scales = p.scale == kNodes ? C : p.scale == kBoth ? G : 0;
    A* rstd = static_cast<A*>(p.rstd) + s * scales;
    A* moment = p.moment ? static_cast<A*>(p.moment) + s * scales : nullptr;
    const A count = A(larger<int64_t>(n, 1));

    if (p.center == kNodes)
        for (int64_t c = 0; c < C; ++c) shift[c] = mean[c];
    if (p.center == kBoth)
        for (int64_t g = 0; g < G; ++g) {
            A total = 0;
            for (int64_t c = g * width; c < (g + 1) * width; ++c) total += (pivot[c] - pivot[g * width]) + mean[c];
            shift[g] = total / A(width);
        }
    center_from_shift<A>(p, pivot, shift, w);

    if (p.scale != kNone) {
        // The second moment about m: that about the channel's own mean, plus the distance squared.
        A* second = w.rstd;
        for (int64_t c = 0; c < C; ++c) {
            const A distance = p.center == kNone ? pivot[c] + mean[c] : (mean[c] - (w.hi[c] - pivot[c])) - w.lo[c];
            second[c] = m2[c] / count + distance * distance;
        }
        if (p.scale == kNodes)
            for (int64_t c = 0; c < C; ++c) {
                if (moment) moment[c] = second[c];
                rstd[c] = A(1) / std::sqrt(second[c] + A(p.eps));
            }
        else
            for (int64_t g = 0; g < G; ++g) {
                A total = 0;
                for (int64_t c = g * width; c < (g + 1) * width; ++c) total += second[c];
                total /= A(width);
                if (moment) moment[g] = total;
                rstd[g] = A(1) / std::sqrt(total + A(p.eps));
            }
    }
    spread_rstd<A>(p, rstd, w);
    affine_coefficients<A>(p, w);
}

// Rebuild hi, lo, rstd, a and b of segment s from what the forward pass saved.
template <class A> void recall_coefficients(const Norm& p, int64_t s, const A* pivot, Channels<A>& w) {
    const int64_t C = p.channels, G = p.groups;
    const A* shift = static_cast<const A*>(p.shift) + s * (p.center == kNodes ? C : p.center == kBoth ? G : 0);
    const A* rstd = static_cast<const A*>(p.rstd) + s * (p.scale == kNodes ? C : p.scale == kBoth ? G : 0);
    center_from_shift<A>(p, pivot, shift, w);
    spread_rstd<A>(p, rstd, w);
    affine_coefficients<A>(p, w);
}

// From the sums S1 = sum g (w.sum) and S2 = sum g o (w.square) to the coefficients of grad_x,
// and the segment's share of the parameters' gradients, added to grads (3 x channels).
// The equations are those of docs/maths.md.
template <class A>
void backward_coefficients(const Norm& p, int64_t s, int64_t n, const A* pivot, Channels<A>& w, A* grads) {
    const int64_t C = p.channels, G = p.groups, width = C / G;
    const A* alpha = static_cast<const A*>(p.mean_scale);
    const A* shift = static_cast<const A*>(p.shift) + s * (p.center == kNodes ? C : 0);
    const A count = A(n);
    for (int64_t c = 0; c < C; ++c) {
        grads[c] += w.square[c] * w.rstd[c];
        grads[C + c] += w.sum[c];
    }
    // Equations (5) to (8): d = a g - B o, with B = rstd^3 (mean over the scale cell of weight g o)
    for (int64_t first = 0; first < C; first += width) {
        A cell = 0;
        if (p.scale == kBoth) {
            for (int64_t c = first; c < first + width; ++c) cell += weight_at<A>(p, c) * w.square[c];
            cell /= A(width);
        }
        A removed = 0;  // what a centre over nodes and channels takes from every entry
        for (int64_t c = first; c < first + width; ++c) {
            const A r = w.rstd[c];
            if (p.scale == kNodes) cell = weight_at<A>(p, c) * w.square[c];
            const A B = p.scale == kNone ? A(0) : r * r * r * (cell / count);
            A out = 0;
            if (p.center == kNodes) {
                const A share = alpha ? alpha[c] : A(1);
                const A mean = pivot[c] + shift[c];
                // the mean over the segment of do; o has the mean (1 - alpha) mu
                const A mean_do = w.a[c] * w.sum[c] / count - B * ((A(1) - share) * mean);
                grads[2 * C + c] -= mean * (mean_do * count);
                out = share * mean_do;
            } else if (p.center == kBoth) {
                removed += w.a[c] * w.sum[c] / count;
            }
            w.sum[c] = B;
            w.square[c] = out - B * w.lo[c];
        }
        if (p.center == kBoth)
            for (int64_t c = first; c < first + width; ++c) w.square[c] += removed / A(width);
    }
}
