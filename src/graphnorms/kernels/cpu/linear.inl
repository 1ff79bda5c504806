// The linear map y = x Wᵀ + b of float32, and its gradients g W, gᵀ x and Σ g.
//
// Each product is a sum over steps s of a column a[·][s] times a row b[s][·]. A tile of the result,
// some rows by a strip of columns, stays in registers during all steps, so that a step costs
// kTileVectors loads and as many multiply-adds for every row. Where the sums run over rows of x they
// are over fixed chunks, so results do not depend on the number of threads.

#if defined(__AVX512F__)
constexpr int kTileRows = 6, kTileVectors = 4;  // 24 sums, 4 operands, 1 factor of 32 registers
#else
constexpr int kTileRows = 6, kTileVectors = 2;  // 12, 2 and 1 of 16
#endif
constexpr int64_t kStrip = kTileVectors * kLanes<float>;
constexpr int64_t kLinearChunk = 256;  // rows of x; with their gradient they stay in the L2 cache

// Entry (row, step) lies at base[row * row_stride + step * step_stride].
struct LeftOperand {
    const float* base;
    int64_t row_stride, step_stride;
};

// Entry (i, ·) of the result is start(i, ·) + Σ_s left(i, s) right[s * stride + ·], for finish(i, ·).
template <int Rows, int Vectors, bool Tail, class Start, class Finish>
inline void multiply_tile(const LeftOperand& left, const float* right, int64_t stride, int64_t steps, int tail,
                          Start&& start, Finish&& finish) {
    constexpr int64_t L = kLanes<float>, Last = (Vectors - 1) * L;
    FloatVec sums[Rows][Vectors];
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
        for (int k = 0; k + 1 < Vectors; ++k) sums[i][k] = start.template operator()<false>(k * L, 0);
        sums[i][Vectors - 1] = start.template operator()<Tail>(Last, tail);
    }
    for (int64_t s = 0; s < steps; ++s) {
        const float* at = right + s * stride;
        FloatVec row[Vectors];
#pragma GCC unroll 4
        for (int k = 0; k + 1 < Vectors; ++k) row[k] = load(at + k * L);
        row[Vectors - 1] = get<Tail>(at + Last, tail);
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            const float factor = left.base[i * left.row_stride + s * left.step_stride];
#pragma GCC unroll 4
            for (int k = 0; k < Vectors; ++k) sums[i][k] += factor * row[k];
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
        for (int k = 0; k + 1 < Vectors; ++k) finish.template operator()<false>(i, k * L, sums[i][k], 0);
        finish.template operator()<Tail>(i, Last, sums[i][Vectors - 1], tail);
    }
}

// Calls visit<Vectors, Tail>(entries in the last vector) for a strip of `width` columns.
template <int Vectors = kTileVectors, class Visit> inline void for_width(int64_t width, Visit&& visit) {
    constexpr int64_t L = kLanes<float>;
    if constexpr (Vectors > 1)
        if (width <= (Vectors - 1) * L) return for_width<Vectors - 1>(width, visit);
    const int tail = int(width - (Vectors - 1) * L);
    if (tail == L) visit.template operator()<Vectors, false>(0);
    else visit.template operator()<Vectors, true>(tail);
}

// Calls visit<Rows>(first row) for tiles that cover begin..end.
template <int Rows = kTileRows, class Visit> inline void for_tiles(int64_t begin, int64_t end, Visit&& visit) {
    for (; end - begin >= Rows; begin += Rows) visit.template operator()<Rows>(begin);
    if constexpr (Rows > 1)
        if (begin < end) for_tiles<Rows - 1>(begin, end, visit);
}

// The right operand of a product over `steps`, strip by strip: (strips, steps, kStrip), the columns
// behind the last one 0. `Transposed` says that its columns, not its rows, lie together.
class Strips {
  public:
    Strips(const float* matrix, int64_t steps, int64_t columns, bool transposed)
        : steps_(steps), columns_(columns), packed_(steps * ((columns + kStrip - 1) / kStrip) * kStrip) {
        for (int64_t first = 0; first < columns; first += kStrip) {
            float* strip = packed_.get() + first * steps;
            const int64_t width = smaller(kStrip, columns - first);
            if (width < kStrip) std::memset(strip, 0, size_t(steps * kStrip) * sizeof(float));
            for (int64_t s = 0; s < steps; ++s)
                if (transposed)
                    for (int64_t c = 0; c < width; ++c) strip[s * kStrip + c] = matrix[(first + c) * steps + s];
                else
                    std::memcpy(strip + s * kStrip, matrix + s * columns + first, size_t(width) * sizeof(float));
        }
    }

    // out[begin..end][·] = left · right + bias, for rows of `steps` entries and of `columns`.
    void multiply(const float* left, int64_t left_stride, int64_t begin, int64_t end, const float* bias,
                  float* out) {
        for (int64_t first = 0; first < columns_; first += kStrip) {
            const float* strip = packed_.get() + first * steps_;
            const auto start = [&]<bool Tail>(int64_t c, int tail) {
                return bias ? get<Tail>(bias + first + c, tail) : FloatVec{};
            };
            for_width(smaller(kStrip, columns_ - first), [&]<int Vectors, bool Tail>(int tail) {
                for_tiles(begin, end, [&]<int Rows>(int64_t row) {
                    float* at = out + row * columns_ + first;
                    const auto finish = [&]<bool Part>(int i, int64_t c, FloatVec sum, int n) {
                        put<Part>(at + i * columns_ + c, sum, n);
                    };
                    multiply_tile<Rows, Vectors, Tail>({left + row * left_stride, left_stride, 1}, strip, kStrip,
                                                       steps_, tail, start, finish);
                });
            });
        }
    }

  private:
    int64_t steps_, columns_;
    Buffer<float> packed_;
};

template <class Task> inline void for_linear_chunks(const Linear& p, Task&& task) {
    const int64_t chunks = (p.rows + kLinearChunk - 1) / kLinearChunk;
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
    for (int64_t i = 0; i < chunks; ++i) task(i, i * kLinearChunk, smaller(p.rows, (i + 1) * kLinearChunk));
}

inline void linear_forward(const LinearForward& p) {
    Strips weight(p.weight, p.in, p.out, true);
    for_linear_chunks(p, [&](int64_t, int64_t begin, int64_t end) {
        weight.multiply(p.x, p.x_stride, begin, end, p.bias, p.y);
    });
}

// total[o][·] += Σ_rows g[row][o] x[row][·] over rows begin..end.
inline void add_weight_gradient(const LinearBackward& p, int64_t begin, int64_t end, float* total) {
    for (int64_t first = 0; first < p.in; first += kStrip)
        for_width(smaller(kStrip, p.in - first), [&]<int Vectors, bool Tail>(int tail) {
            for_tiles(0, p.out, [&]<int Rows>(int64_t o) {
                float* at = total + o * p.in + first;
                const auto start = [&]<bool Part>(int64_t, int) { return FloatVec{}; };
                const auto finish = [&]<bool Part>(int i, int64_t c, FloatVec sum, int n) {
                    float* entry = at + i * p.in + c;
                    put<Part>(entry, get<Part>(entry, n) + sum, n);
                };
                multiply_tile<Rows, Vectors, Tail>({p.grad_y + begin * p.grad_y_stride + o, 1, p.grad_y_stride},
                                                   p.x + begin * p.x_stride + first, p.x_stride, end - begin,
                                                   tail, start, finish);
            });
        });
}

inline void add_bias_gradient(const LinearBackward& p, int64_t begin, int64_t end, float* total) {
    const Rows<const float> g{p.grad_y, p.grad_y_stride, nullptr};
    for_strips<float>(p.out, [&]<int K, bool Tail>(int64_t c, int tail) {
        FloatVec sums[1][K];
        reduce<float, K, 1>(begin, end, [&](int64_t i, FloatVec (&sum)[1][K]) {
            for (int k = 0; k < K; ++k) sum[0][k] += get<Tail>(g[i] + c + k * kLanes<float>, tail);
        }, sums);
        for (int k = 0; k < K; ++k) {
            float* at = total + c + k * kLanes<float>;
            put<Tail>(at, get<Tail>(at, tail) + sums[0][k], tail);
        }
    });
}

inline void linear_backward(const LinearBackward& p) {
    const int64_t chunks = (p.rows + kLinearChunk - 1) / kLinearChunk;
    const int64_t weights = p.grad_weight ? p.out * p.in : 0, biases = p.grad_bias ? p.out : 0;
    Strips weight(p.weight, p.out, p.grad_x ? p.in : 0, false);
    // One chunk after the other adds to the same totals, several at once to totals of their own:
    // the sums are the same.
    const bool parallel = p.threads > 1 && chunks > 1;
    const int64_t totals = parallel ? chunks : 1;
    Buffer<float> shares(totals * (weights + biases));
    std::memset(shares.get(), 0, size_t(totals * (weights + biases)) * sizeof(float));
    for_linear_chunks(p, [&](int64_t i, int64_t begin, int64_t end) {
        float* share = shares.get() + (parallel ? i : 0) * (weights + biases);
        if (p.grad_x) weight.multiply(p.grad_y, p.grad_y_stride, begin, end, nullptr, p.grad_x);
        if (weights) add_weight_gradient(p, begin, end, share);
        if (biases) add_bias_gradient(p, begin, end, share + weights);
    });
    for (int64_t i = 1; i < totals; ++i)
        for (int64_t k = 0; k < weights + biases; ++k)
            shares.get()[k] += shares.get()[i * (weights + biases) + k];
    if (weights) std::memcpy(p.grad_weight, shares.get(), size_t(weights) * sizeof(float));
    if (biases) std::memcpy(p.grad_bias, shares.get() + weights, size_t(biases) * sizeof(float));
}
