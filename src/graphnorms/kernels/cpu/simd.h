// The vector of one instruction set, as wide as a register. GCC's and clang's vector extension
// gives the arithmetic; masked access, 16-bit floats and streaming stores need names of the
// processor.
//
// load, store, load_part, store_part and stream exist for every storage type T and convert from
// and to vectors of its accumulation type Accumulate<T>.
//
// Everything is in an unnamed namespace: this header is compiled once per instruction set, and
// two versions of one inline function must never be merged by the linker.
#pragma once
#include <cmath>
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

// The bits of torch.bfloat16 and torch.float16.
struct BFloat16 { uint16_t bits; };
struct Float16 { uint16_t bits; };

template <class T> struct AccumulateOf { using type = float; };
template <> struct AccumulateOf<double> { using type = double; };
template <class T> using Accumulate = typename AccumulateOf<T>::type;

typedef float FloatVec __attribute__((vector_size(kBytes)));
typedef double DoubleVec __attribute__((vector_size(kBytes)));
typedef int32_t IntVec __attribute__((vector_size(kBytes)));
typedef uint32_t UintVec __attribute__((vector_size(kBytes)));

template <class A> struct VecOf;
template <> struct VecOf<float> { using type = FloatVec; };
template <> struct VecOf<double> { using type = DoubleVec; };
template <class A> using Vec = typename VecOf<A>::type;
template <class A> constexpr int kLanes = kBytes / int(sizeof(A));

inline FloatVec load(const float* p) {
    FloatVec v;
    std::memcpy(&v, p, kBytes);
    return v;
}
inline DoubleVec load(const double* p) {
    DoubleVec v;
    std::memcpy(&v, p, kBytes);
    return v;
}
inline void store(float* p, FloatVec v) { std::memcpy(p, &v, kBytes); }
inline void store(double* p, DoubleVec v) { std::memcpy(p, &v, kBytes); }

// Float to bfloat16 in the upper half of each lane: to nearest, ties to even; NaN stays NaN.
inline UintVec round_to_bfloat16(FloatVec v) {
    UintVec bits;
    std::memcpy(&bits, &v, kBytes);
    const UintVec rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const IntVec is_nan = v != v;
    return is_nan ? (bits | 0x400000u) : rounded;
}

#if defined(__AVX512F__)
inline FloatVec widen(__m256i v, BFloat16) {
    return (FloatVec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16);
}
inline FloatVec widen(__m256i v, Float16) { return (FloatVec)_mm512_cvtph_ps(v); }
inline __m256i narrow(FloatVec v, BFloat16) {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)round_to_bfloat16(v), 16));
}
inline __m256i narrow(FloatVec v, Float16) {
    return _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
template <class H> inline FloatVec load(const H* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), H{});
}
template <class H> inline void store(H* p, FloatVec v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v, H{}));
}
template <class H> inline FloatVec load_part(const H* p, int n) {
    return widen(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p), H{});
}
template <class H> inline void store_part(H* p, FloatVec v, int n) {
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), narrow(v, H{}));
}
template <class H> inline void stream(H* p, FloatVec v) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow(v, H{}));
}
// n entries of a vector, 0 < n < lanes; the other lanes read as 0 and are not written.
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
inline FloatVec widen(__m128i v, BFloat16) {
    return (FloatVec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16);
}
inline FloatVec widen(__m128i v, Float16) { return (FloatVec)_mm256_cvtph_ps(v); }
inline __m128i narrow(FloatVec v, BFloat16) {
    const __m256i upper = _mm256_srli_epi32((__m256i)round_to_bfloat16(v), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
}
inline __m128i narrow(FloatVec v, Float16) {
    return _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
template <class H> inline FloatVec load(const H* p) {
    return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), H{});
}
template <class H> inline void store(H* p, FloatVec v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(v, H{}));
}
template <class H> inline FloatVec load_part(const H* p, int n) {
    H lanes[kLanes<float>] = {};
    std::memcpy(lanes, p, size_t(n) * sizeof(H));
    return load(lanes);
}
template <class H> inline void store_part(H* p, FloatVec v, int n) {
    H lanes[kLanes<float>];
    store(lanes, v);
    std::memcpy(p, lanes, size_t(n) * sizeof(H));
}
template <class H> inline void stream(H* p, FloatVec v) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), narrow(v, H{}));
}
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
inline float widen(BFloat16 h) {
    const uint32_t bits = uint32_t(h.bits) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
// 2^112 moves the exponent of a half to that of a float; it is exact for subnormal halves too.
inline float widen(Float16 h) {
    const uint32_t magnitude = uint32_t(h.bits & 0x7fffu) << 13;
    const uint32_t special = (h.bits & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
    float f;
    std::memcpy(&f, &magnitude, 4);
    f *= 0x1p112f;
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    if (special) bits = special | magnitude;
    bits |= uint32_t(h.bits & 0x8000u) << 16;
    std::memcpy(&f, &bits, 4);
    return f;
}
inline uint16_t narrow_to_float16(float f) {
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    const uint16_t sign = uint16_t(bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return sign | 0x7e00u;   // NaN
    if (bits >= 0x477ff000u) return sign | 0x7c00u;  // rounds past the largest half
    if (bits < 0x38800000u) {
        // Subnormal: adding 1/2 leaves the rounded multiple of 2^-24 in the lowest bits.
        float magnitude;
        std::memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        std::memcpy(&bits, &magnitude, 4);
        return sign | uint16_t(bits - 0x3f000000u);
    }
    bits += 0xfffu + ((bits >> 13) & 1u);
    return sign | uint16_t((bits - 0x38000000u) >> 13);
}
template <class H> inline FloatVec load_part(const H* p, int n) {
    FloatVec v = {};
    for (int i = 0; i < n; ++i) v[i] = widen(p[i]);
    return v;
}
inline void store_part(BFloat16* p, FloatVec v, int n) {
    const UintVec rounded = round_to_bfloat16(v);
    for (int i = 0; i < n; ++i) p[i].bits = uint16_t(rounded[i] >> 16);
}
inline void store_part(Float16* p, FloatVec v, int n) {
    for (int i = 0; i < n; ++i) p[i].bits = narrow_to_float16(v[i]);
}
inline FloatVec load(const BFloat16* p) { return load_part(p, kLanes<float>); }
inline FloatVec load(const Float16* p) { return load_part(p, kLanes<float>); }
inline void store(BFloat16* p, FloatVec v) { store_part(p, v, kLanes<float>); }
inline void store(Float16* p, FloatVec v) { store_part(p, v, kLanes<float>); }
inline FloatVec load_part(const float* p, int n) {
    FloatVec v = {};
    for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
}
inline DoubleVec load_part(const double* p, int n) {
    DoubleVec v = {};
    for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
}
inline void store_part(float* p, FloatVec v, int n) {
    for (int i = 0; i < n; ++i) p[i] = v[i];
}
inline void store_part(double* p, DoubleVec v, int n) {
    for (int i = 0; i < n; ++i) p[i] = v[i];
}
template <class T, class V> inline void stream(T* p, V v) { store(p, v); }
inline void stream_fence() {}
constexpr bool kCanStream = false;
#endif

// The sum of all lanes, by halves.
#if defined(__AVX2__)
inline float sum_lanes(__m128 v) {
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
inline double sum_lanes(__m128d v) { return _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v))); }
inline float sum_lanes(__m256 v) {
    return sum_lanes(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}
inline double sum_lanes(__m256d v) {
    return sum_lanes(_mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1)));
}
#if defined(__AVX512F__)
inline float sum_lanes(__m512 v) {
    return sum_lanes(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
inline double sum_lanes(__m512d v) {
    return sum_lanes(_mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1)));
}
inline FloatVec square_root(FloatVec v) { return (FloatVec)_mm512_sqrt_ps((__m512)v); }
inline DoubleVec square_root(DoubleVec v) { return (DoubleVec)_mm512_sqrt_pd((__m512d)v); }
template <class A> inline A horizontal_sum(Vec<A> v) {
    if constexpr (sizeof(A) == 4) return sum_lanes((__m512)v);
    else return sum_lanes((__m512d)v);
}
#else
inline FloatVec square_root(FloatVec v) { return (FloatVec)_mm256_sqrt_ps((__m256)v); }
inline DoubleVec square_root(DoubleVec v) { return (DoubleVec)_mm256_sqrt_pd((__m256d)v); }
template <class A> inline A horizontal_sum(Vec<A> v) {
    if constexpr (sizeof(A) == 4) return sum_lanes((__m256)v);
    else return sum_lanes((__m256d)v);
}
#endif
#else
template <class V> inline V square_root(V v) {
    for (int i = 0; i < int(sizeof(V) / sizeof(v[0])); ++i) v[i] = std::sqrt(v[i]);
    return v;
}
template <class A> inline A horizontal_sum(Vec<A> v) {
    A sum = v[0];
    for (int i = 1; i < kLanes<A>; ++i) sum += v[i];
    return sum;
}
#endif

// Integers beside the lanes of Vec<A>: of the same width, and of 32 bits.
template <class A> struct IntegersOf;
template <> struct IntegersOf<float> { using type = IntVec; };
template <> struct IntegersOf<double> {
    typedef int64_t type __attribute__((vector_size(kBytes)));
};
template <class A> using Integers = typename IntegersOf<A>::type;
template <class A> struct CountersOf {
    typedef uint32_t type __attribute__((vector_size(kBytes / (sizeof(A) / 4))));
};
template <class A> using Counters = typename CountersOf<A>::type;

// 0, 1, 2, … by lane.
template <class V> inline V lane_numbers() {
    V numbers;
    for (int i = 0; i < int(sizeof(V) / sizeof(numbers[0])); ++i) numbers[i] = i;
    return numbers;
}

// The first n lanes of v, and 0 in the others.
template <class A> inline Vec<A> first_lanes(Vec<A> v, int n) {
    return lane_numbers<Integers<A>>() < n ? v : Vec<A>{};
}

}  // namespace
