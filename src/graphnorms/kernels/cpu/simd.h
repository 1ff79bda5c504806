// The vector of one instruction set, as wide as a register. GCC's and clang's vector extension
// gives the arithmetic; only masked access and streaming stores need names of the processor.
//
// Everything is in an unnamed namespace: this header is compiled once per instruction set, and
// two versions of one inline function must never be merged by the linker.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

typedef float FloatVec __attribute__((vector_size(kBytes)));
typedef double DoubleVec __attribute__((vector_size(kBytes)));

template <class A> struct VecOf;
template <> struct VecOf<float> { using type = FloatVec; };
template <> struct VecOf<double> { using type = DoubleVec; };
template <class A> using Vec = typename VecOf<A>::type;
template <class A> constexpr int kLanes = kBytes / int(sizeof(A));

template <class A> inline Vec<A> load(const A* p) {
    Vec<A> v;
    std::memcpy(&v, p, kBytes);
    return v;
}

template <class A> inline void store(A* p, Vec<A> v) { std::memcpy(p, &v, kBytes); }

// n entries of a vector, 0 < n < lanes; the other lanes read as 0 and are not written.
#if defined(__AVX512F__)
inline FloatVec load_part(const float* p, int n) {
    return (FloatVec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
inline DoubleVec load_part(const double* p, int n) {
    return (DoubleVec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
inline void store_part(float* p, FloatVec v, int n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
inline void store_part(double* p, DoubleVec v, int n) {
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
inline void stream(float* p, FloatVec v) { _mm512_stream_ps(p, (__m512)v); }
inline void stream(double* p, DoubleVec v) { _mm512_stream_pd(p, (__m512d)v); }
inline void stream_fence() { _mm_sfence(); }
constexpr bool kCanStream = true;
#elif defined(__AVX2__)
inline __m256i part_mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i part_mask64(int n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
inline FloatVec load_part(const float* p, int n) {
    return (FloatVec)_mm256_maskload_ps(p, part_mask(n));
}
inline DoubleVec load_part(const double* p, int n) {
    return (DoubleVec)_mm256_maskload_pd(p, part_mask64(n));
}
inline void store_part(float* p, FloatVec v, int n) {
    _mm256_maskstore_ps(p, part_mask(n), (__m256)v);
}
inline void store_part(double* p, DoubleVec v, int n) {
    _mm256_maskstore_pd(p, part_mask64(n), (__m256d)v);
}
inline void stream(float* p, FloatVec v) { _mm256_stream_ps(p, (__m256)v); }
inline void stream(double* p, DoubleVec v) { _mm256_stream_pd(p, (__m256d)v); }
inline void stream_fence() { _mm_sfence(); }
constexpr bool kCanStream = true;
#else
template <class A> inline Vec<A> load_part(const A* p, int n) {
    Vec<A> v = {};
    for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
}
template <class A> inline void store_part(A* p, Vec<A> v, int n) {
    for (int i = 0; i < n; ++i) p[i] = v[i];
}
template <class A> inline void stream(A* p, Vec<A> v) { store(p, v); }
inline void stream_fence() {}
constexpr bool kCanStream = false;
#endif

template <class A> inline A horizontal_sum(Vec<A> v) {
    // Halving keeps the order of additions the same for every caller.
    A lanes[kLanes<A>];
    std::memcpy(lanes, &v, kBytes);
    for (int width = kLanes<A> / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    return lanes[0];
}

}  // namespace
