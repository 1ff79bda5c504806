// exp, the normal distribution function and bounded functions, in vectors.

// Moves x to the vector's own lanes; constants are written in double.
template <class V> using Lane = decltype(V{}[0] + 0);

// Coefficients from the highest power down.
template <class V, int N> inline V polynomial(V x, const double (&coefficients)[N]) {
    V sum = V{} + Lane<V>(coefficients[0]);
#pragma GCC unroll 32
    for (int i = 1; i < N; ++i) sum = sum * x + Lane<V>(coefficients[i]);
    return sum;
}

// exp(x) = 2^n exp(r) with |r| <= ln 2 / 2. Results below the normal numbers are the smallest
// normal number, those above the largest power of two.
template <class V> struct Exponent {
    V power, rest;  // 2^n and r
};

inline Exponent<FloatVec> exponent(FloatVec x) {
    constexpr float round = 0x1.8p23f;  // adding it leaves the nearest integer in the last bits
    x = x < -87.0f ? FloatVec{} - 87.0f : x;
    x = x > 88.0f ? FloatVec{} + 88.0f : x;
    const FloatVec shifted = x * 0x1.715476p+0f + round, n = shifted - round;
    UintVec bits;
    std::memcpy(&bits, &shifted, kBytes);
    bits = (bits + 127u) << 23;
    FloatVec power;
    std::memcpy(&power, &bits, kBytes);
    return {power, (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f};
}

inline Exponent<DoubleVec> exponent(DoubleVec x) {
    constexpr double round = 0x1.8p52;
    x = x < -708.0 ? DoubleVec{} - 708.0 : x;
    x = x > 709.0 ? DoubleVec{} + 709.0 : x;
    const DoubleVec shifted = x * 0x1.71547652b82fep+0 + round, n = shifted - round;
    typedef uint64_t Bits __attribute__((vector_size(kBytes)));
    Bits bits;
    std::memcpy(&bits, &shifted, kBytes);
    bits = (bits + 1023u) << 52;
    DoubleVec power;
    std::memcpy(&power, &bits, kBytes);
    return {power, (x - n * 0x1.62e42fefa38p-1) - n * 0x1.ef35793c7673p-45};
}

// (exp(r) - 1) / r by its Taylor series.
template <class V> inline V exponential_quotient(V r) {
    if constexpr (sizeof(Lane<V>) == 4) {
        static constexpr double taylor[] = {1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1};
        return polynomial(r, taylor);
    } else {
        static constexpr double taylor[] = {
            1. / 6227020800, 1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
            1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1};
        return polynomial(r, taylor);
    }
}

template <class V> inline V exponential(V x) {
    const Exponent<V> e = exponent(x);
    return (exponential_quotient(e.rest) * e.rest + Lane<V>(1)) * e.power;
}

// exp(z^2) erfc(z) / t for z >= 0 and t = 1 / (1 + z / 2): a Chebyshev fit in 2 t - 1 over all z,
// written in powers. Its error is 5e-9 in float and 5e-17 in double.
template <class V> inline V scaled_tail(V t) {
    const V s = Lane<V>(2) * t - Lane<V>(1);
    if constexpr (sizeof(Lane<V>) == 4) {
        static constexpr double fit[] = {
            -1.32739552e-6, 4.21611972e-5, -3.29515393e-5, -2.99382712e-4, 4.27020151e-4, 1.52915716e-3,
            -3.2418549e-3, -1.07516262e-2, 1.82213842e-2, 1.39735734e-1, 3.43580333e-1, 5.10791357e-1};
        return polynomial(s, fit);
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
        return polynomial(s, fit);
    }
}

// The distribution function of the normal distribution and its density.
//
// With z = |x| / sqrt 2, the tail is exp(-z^2) t scaled_tail(t) / 2. The tails are right in
// proportion, as 1 + erf is not.
template <class V> struct Normal {
    V distribution, density;
};

template <class V> inline Normal<V> normal(V x) {
    using A = Lane<V>;
    const V z = (x < 0 ? -x : x) * A(0.70710678118654752440);
    const V t = A(1) / (A(1) + A(0.5) * z);
    const V e = exponential(z * -z);
    const V tail = e * t * scaled_tail(t) * A(0.5);
    return {x < 0 ? tail : A(1) - tail, e * A(0.39894228040143267794)};
}

// A bounded function and its slope.
template <class V> struct Bounded {
    V value, slope;
};

// With t = exp(-2 |x|): (1 - t) / (1 + t), where 1 - t does not cancel near 0.
struct Tanh {
    template <class V> static Bounded<V> at(V x) {
        using A = Lane<V>;
        const Exponent<V> e = exponent((x < 0 ? x : -x) * A(2));
        const V rest = exponential_quotient(e.rest) * e.rest;
        const V t = e.power + e.power * rest, distance = (A(1) - e.power) - e.power * rest;
        const V share = A(1) / (A(1) + t), value = distance * share;
        return {x < 0 ? -value : value, A(4) * t * share * share};
    }
};

// Below 1 a Chebyshev fit of erf(z) / z in z^2, written in powers: its relative error is 1e-9 in
// float and 1e-19 in double. From 1 on 1 - erfc(z).
struct Erf {
    template <class V> static Bounded<V> at(V x) {
        using A = Lane<V>;
        const V z = x < 0 ? -x : x, square = z * z;
        const V e = exponential(-square), t = A(1) / (A(1) + A(0.5) * z);
        V quotient;
        if constexpr (sizeof(A) == 4) {
            static constexpr double fit[] = {7.87587506e-5, -8.01686429e-4, 5.18908742e-3, -2.6854212e-2,
                                             1.12835947e-1, -3.76126267e-1, 1.12837917};
            quotient = polynomial(square, fit);
        } else {
            static constexpr double fit[] = {
                5.9571761477489114e-11, -1.1372848856791674e-9, 1.4659775274047436e-8, -1.6350312701054695e-7,
                1.6461000484121368e-6, -1.4925595266831182e-5, 1.2055331111642711e-4, -8.5483269808337899e-4,
                5.2239776248180145e-3, -2.6866170645076793e-2, 1.1283791670954879e-1, -3.7612638903183748e-1,
                1.1283791670955126};
            quotient = polynomial(square, fit);
        }
        const V value = z < 1 ? z * quotient : A(1) - e * t * scaled_tail(t);
        return {x < 0 ? -value : value, e * A(1.12837916709551257390)};
    }
};
