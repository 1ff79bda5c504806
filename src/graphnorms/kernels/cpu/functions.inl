// exp and the normal distribution function, in vectors.

// Moves x to the vector's own lanes; constants are written in double.
template <class V> using Lane = decltype(V{}[0] + 0);

// Coefficients from the highest power down.
template <class V, int N> inline V polynomial(V x, const double (&coefficients)[N]) {
    V sum = V{} + Lane<V>(coefficients[0]);
#pragma GCC unroll 32
    for (int i = 1; i < N; ++i) sum = sum * x + Lane<V>(coefficients[i]);
    return sum;
}

// exp(x) = 2^n exp(r) with |r| <= ln 2 / 2, and exp(r) by its Taylor series. Results below the
// normal numbers are the smallest normal number, those above the largest power of two.
inline FloatVec exponential(FloatVec x) {
    constexpr float round = 0x1.8p23f;  // adding it leaves the nearest integer in the last bits
    x = x < -87.0f ? FloatVec{} - 87.0f : x;
    x = x > 88.0f ? FloatVec{} + 88.0f : x;
    const FloatVec shifted = x * 0x1.715476p+0f + round, n = shifted - round;
    const FloatVec r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    static constexpr double taylor[] = {1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1, 1};
    UintVec bits;
    std::memcpy(&bits, &shifted, kBytes);
    bits = (bits + 127u) << 23;
    FloatVec power;
    std::memcpy(&power, &bits, kBytes);
    return polynomial(r, taylor) * power;
}

inline DoubleVec exponential(DoubleVec x) {
    constexpr double round = 0x1.8p52;
    x = x < -708.0 ? DoubleVec{} - 708.0 : x;
    x = x > 709.0 ? DoubleVec{} + 709.0 : x;
    const DoubleVec shifted = x * 0x1.71547652b82fep+0 + round, n = shifted - round;
    const DoubleVec r = (x - n * 0x1.62e42fefa38p-1) - n * 0x1.ef35793c7673p-45;
    static constexpr double taylor[] = {
        1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
        1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1, 1};
    typedef uint64_t Bits __attribute__((vector_size(kBytes)));
    Bits bits;
    std::memcpy(&bits, &shifted, kBytes);
    bits = (bits + 1023u) << 52;
    DoubleVec power;
    std::memcpy(&power, &bits, kBytes);
    return polynomial(r, taylor) * power;
}

// The distribution function of the normal distribution and its density.
//
// With z = |x| / sqrt 2, the tail is exp(-z^2) erfcx(z) / 2, and erfcx(z) = t p(2 t - 1) with
// t = 1 / (1 + z / 2). p is a Chebyshev fit over all z >= 0, written in powers: its error is
// 5e-9 in float and 5e-17 in double. The tails are right in proportion, as 1 + erf is not.
template <class V> struct Normal {
    V distribution, density;
};

template <class V> inline Normal<V> normal(V x) {
    using A = Lane<V>;
    const V z = (x < 0 ? -x : x) * A(0.70710678118654752440);
    const V t = A(1) / (A(1) + A(0.5) * z), s = A(2) * t - A(1);
    const V e = exponential(z * -z);
    V p;
    if constexpr (sizeof(A) == 4) {
        static constexpr double fit[] = {
            -1.32739552e-6, 4.21611972e-5, -3.29515393e-5, -2.99382712e-4, 4.27020151e-4, 1.52915716e-3,
            -3.2418549e-3, -1.07516262e-2, 1.82213842e-2, 1.39735734e-1, 3.43580333e-1, 5.10791357e-1};
        p = polynomial(s, fit);
    } else {
        static constexpr double fit[] = {
            -1.9111737286078939e-9, 6.5973673029002745e-9, 6.5204346144015396e-9,
            -5.1456294343577354e-8, 3.6000845292079934e-8, 1.4971435260223121e-7,
            -3.262460935296672e-7, 1.5720540066794158e-8, 1.0305699215291105e-6,
            -1.835078540898153e-6, -5.7764236115114268e-7, 8.0671062112202289e-6,
            -1.084298532996441e-5, -1.707663814507957e-5, 7.2234188295048068e-5,
            -1.7185254170406898e-5, -3.3153657669014612e-4, 4.1864797106605077e-4,
            1.5453060141013287e-3, -3.2395925295271532e-3, -1.0755330944036531e-2,
            1.8221115753294919e-2, 1.3973604627801475e-1, 3.4358034220690671e-1,
            5.1079135262101153e-1};
        p = polynomial(s, fit);
    }
    const V tail = e * t * p * A(0.5);
    return {x < 0 ? tail : A(1) - tail, e * A(0.39894228040143267794)};
}
