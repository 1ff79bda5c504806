// The kernels of one pass, for the instruction set that this translation unit is compiled for:
// GRAPHNORMS_FORWARD (with the sums over neighbours and the linear map), GRAPHNORMS_BACKWARD or
// GRAPHNORMS_DOUBLE_BACKWARD.
//
// Every kernel is one of three families. Statistics over nodes (segment_*.inl): per-channel sums
// over the rows of a segment, a few operations per channel that turn sums into coefficients,
// and one pass y = a (x - m) + b. Statistics within a row (row.inl): the same, per row. A function
// of each entry in place of statistics (bounded.inl): one pass. The second derivatives of all three are
// in row_second.inl and segment_second.inl.
// Segments of few rows whose strips of channels share no statistic are done strip by strip (short_segments.inl).
// Sums are over fixed chunks, so results do not depend on the number of threads.
#include <cmath>
#include <cstdlib>
#include <limits>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "problem.h"
#include "simd.h"

namespace graphnorms {
namespace {

#if defined(__AVX512F__)
constexpr int kMaxVectors = 8;  // 32 registers: two sums and the operands of 8 vectors fit
#else
constexpr int kMaxVectors = 4;
#endif
constexpr int64_t kBlockRows = 128;       // rows summed in the features' own precision
constexpr int64_t kChunkBytes = 1 << 17;  // a chunk and its gradient stay in the L2 cache
// Results of these sizes are streamed past the caches: smaller ones the next operation may still
// find there. Larger ones malloc takes fresh from the system every time (glibc maps blocks above
// 32 MiB), which leaves each page, just zeroed, in the cache: there an ordinary store is quicker
// (35k × 128 float32 0.81 against 1.1 times nn.LayerNorm; ten times the rows 1.5 against 1.0).
constexpr int64_t kStreamBytes = 16 << 20, kFreshBytes = 32 << 20;

template <class I> inline I smaller(I a, I b) { return a < b ? a : b; }
template <class I> inline I larger(I a, I b) { return a > b ? a : b; }

// Scratch memory; own, because an instantiation of a standard container would be shared with
// translation units that are compiled for other processors.
template <class A> class Buffer {
  public:
    explicit Buffer(int64_t size) {
        const size_t bytes = (size_t(size) * sizeof(A) + 127) / 64 * 64;
        data_ = static_cast<A*>(std::aligned_alloc(64, bytes));
        if (!data_) std::abort();
    }
    ~Buffer() { std::free(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    A* get() const { return data_; }

  private:
    A* data_;
};

// The rows of a matrix by position: position -> row through `order` where the rows are unsorted.
template <class T> struct Rows {
    T* base;
    int64_t stride;
    const int64_t* order;
    int64_t row(int64_t position) const { return order ? order[position] : position; }
    T* operator[](int64_t position) const { return base + row(position) * stride; }
};

// Calls visit<K, Tail>(first channel, channels of the tail) for strips of K vectors, at most
// `Vectors`, that cover all channels; `Tail` marks the last, incomplete vector.
template <class A, int Vectors = kMaxVectors, class Visit>
inline void for_strips(int64_t channels, Visit&& visit) {
    constexpr int64_t L = kLanes<A>;
    int64_t c = 0;
    for (; channels - c >= Vectors * L; c += Vectors * L)
        visit.template operator()<Vectors, false>(c, 0);
    if constexpr (Vectors > 4)
        if (channels - c >= 4 * L) visit.template operator()<4, false>(c, 0), c += 4 * L;
    if constexpr (Vectors > 2)
        if (channels - c >= 2 * L) visit.template operator()<2, false>(c, 0), c += 2 * L;
    if (channels - c >= L) visit.template operator()<1, false>(c, 0), c += L;
    if (channels > c) visit.template operator()<1, true>(c, int(channels - c));
}

template <bool Tail, class T> inline Vec<Accumulate<T>> get(const T* p, int tail) {
    if constexpr (Tail) return load_part(p, tail);
    else return load(p);
}

template <bool Tail, class T> inline void put(T* p, Vec<Accumulate<T>> v, int tail) {
    if constexpr (Tail) store_part(p, v, tail);
    else store(p, v);
}

// The lanes past a tail must not count: masked loads give 0, which minus a pivot is not 0.
template <class A, bool Tail> inline Vec<A> only(Vec<A> v, int tail) {
    if constexpr (Tail) return first_lanes<A>(v, tail);
    else return v;
}

// A result that will not be read soon goes past the caches.
template <bool Tail, class T> inline void put_result(T* p, Vec<Accumulate<T>> v, int tail, bool streaming) {
    if constexpr (Tail) store_part(p, v, tail);
    else if (streaming) stream(p, v);
    else store(p, v);
}

// Sums `Terms` quantities over the positions begin..end of a strip. A strip of few vectors
// takes several rows at once, in accumulators of their own, to hide the latency of the adds.
template <class A, int K, int Terms, class Step>
inline void reduce(int64_t begin, int64_t end, Step&& step, Vec<A> (&total)[Terms][K]) {
    constexpr int U = K * Terms >= 8 ? 1 : K * Terms >= 4 ? 2 : 4;
    Vec<A> sums[U][Terms][K] = {};
    int64_t i = begin;
    for (; i + U <= end; i += U)
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u) step(i + u, sums[u]);
    for (; i < end; ++i) step(i, sums[0]);
#pragma GCC unroll 4
    for (int t = 0; t < Terms; ++t)
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) {
            Vec<A> sum = sums[0][t][k];
            for (int u = 1; u < U; ++u) sum += sums[u][t][k];
            total[t][k] = sum;
        }
}

#include "functions.inl"
#include "epilogue.inl"
#include "channels.inl"
#include "segment_parts.inl"
#include "short_segments.inl"
#include "segment.inl"
#include "columns.inl"
#include "row.inl"
#include "bounded.inl"
#include "row_second.inl"
#include "segment_second.inl"
#include "running.inl"
#ifdef GRAPHNORMS_FORWARD
#include "aggregate.inl"
#include "linear.inl"
#endif

template <class T> void forward(const NormForward& p) {
    if (p.function != kNoFunction) bounded_forward<T>(p);
    else if (p.center == kChannels || p.scale == kChannels) row_forward<T>(p);
    else segment_forward<T>(p);
}

template <class T> void backward(const NormBackward& p) {
    if (p.function != kNoFunction) bounded_backward<T>(p);
    else if (p.center == kChannels || p.scale == kChannels) row_backward<T>(p);
    else segment_backward<T>(p);
}

template <class T> void double_backward(const NormDoubleBackward& p) {
    if (p.function != kNoFunction) bounded_double_backward<T>(p);
    else if (p.center == kChannels || p.scale == kChannels) row_double_backward<T>(p);
    else segment_double_backward<T>(p);
}

template <class T> void fill(Kernels& kernels, Dtype dtype) {
#if defined(GRAPHNORMS_FORWARD)
    kernels.forward[dtype] = forward<T>;
    kernels.update_running[dtype] = update_running<T>;
    kernels.by_averages[dtype] = by_averages<T>;
    kernels.aggregation.forward[dtype] = aggregate<T>;
    kernels.aggregation.backward[dtype] = aggregate_backward<T>;
#elif defined(GRAPHNORMS_BACKWARD)
    kernels.backward[dtype] = backward<T>;
#else
    kernels.double_backward[dtype] = double_backward<T>;
#endif
}

}  // namespace

void GRAPHNORMS_FILL(Kernels& kernels) {
    fill<float>(kernels, kFloat);
    fill<double>(kernels, kDouble);
    fill<BFloat16>(kernels, kBFloat16);
    fill<Float16>(kernels, kFloat16);
#ifdef GRAPHNORMS_FORWARD
    kernels.linear = {linear_forward, linear_backward};
#endif
}

}  // namespace graphnorms
