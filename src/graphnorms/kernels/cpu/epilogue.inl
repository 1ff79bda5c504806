// What is fused behind a normalization: an activation and dropout, forward from the
// pre-activation, and backward, where both are recomputed instead of a mask being stored.
//
// NaN passes the activations: a comparison with NaN is false, and the false branch keeps it.

// f' and f'' at an entry.
template <class V> struct Curve {
    V slope, bend;
};

struct Identity {
    static constexpr bool needs_input = false, curved = false;
    template <class V> static V forward(V pre) { return pre; }
    template <class V> static V backward(V, V grad) { return grad; }
};

struct Relu {
    static constexpr bool needs_input = true, curved = false;
    template <class V> static V forward(V pre) { return pre < 0 ? V{} : pre; }
    template <class V> static V backward(V pre, V grad) { return pre <= 0 ? V{} : grad; }
};

// The slope of torch.nn.LeakyReLU unless told otherwise.
struct LeakyRelu {
    static constexpr bool needs_input = true, curved = false;
    static constexpr double slope = 0.01;
    template <class V> static V forward(V pre) { return pre < 0 ? pre * Lane<V>(slope) : pre; }
    template <class V> static V backward(V pre, V grad) { return pre <= 0 ? grad * Lane<V>(slope) : grad; }
};

// x Phi(x), Hendrycks & Gimpel 2016
struct Gelu {
    static constexpr bool needs_input = true, curved = true;
    template <class V> static V forward(V pre) { return pre * normal(pre).distribution; }
    template <class V> static V backward(V pre, V grad) {
        const Normal<V> at = normal(pre);
        return grad * (at.distribution + pre * at.density);
    }
    template <class V> static Curve<V> curve(V pre) {
        const Normal<V> at = normal(pre);
        return {at.distribution + pre * at.density, (Lane<V>(2) - pre * pre) * at.density};
    }
};

// x / (1 + exp(-x)), Elfwing et al. 2017
struct Silu {
    static constexpr bool needs_input = true, curved = true;
    template <class V> static V gate(V pre) { return Lane<V>(1) / (Lane<V>(1) + exponential(-pre)); }
    template <class V> static V forward(V pre) { return pre * gate(pre); }
    template <class V> static V backward(V pre, V grad) {
        const V g = gate(pre);
        return grad * (g + pre * g * (Lane<V>(1) - g));
    }
    template <class V> static Curve<V> curve(V pre) {
        const V g = gate(pre), rest = Lane<V>(1) - g;
        return {g + pre * g * rest, g * rest * (Lane<V>(2) + pre * (rest - g))};
    }
};

// An activation, then dropout.
//
// Which entries are dropped is a function of the seed and of the entry's row and channel alone:
// SplitMix64 (Steele et al. 2014) makes a key of seed and row, and a 32-bit finalizer of channel
// and key a number, which is compared with the share to drop. kernels/dropout.py has the same.
template <class A, class Act> class Epilogue {
  public:
    static constexpr bool needs_input = Act::needs_input, curved = Act::curved;
    // Curved functions take the registers that more vectors would need.
    static constexpr int kVectors = curved ? 2 : kMaxVectors;

    explicit Epilogue(const Norm& p) {
        if (!p.seed) return;
        threshold_ = uint32_t(p.dropout * 0x1p32);
        seed_ = uint64_t(*p.seed);
        scale_ = A(1 / (1 - p.dropout));
    }

    // What the entries of a row share.
    struct Row {
        uint32_t first, second;
    };
    Row row(int64_t i) const {
        if (!threshold_) return {0, 0};
        uint64_t key = seed_ + (uint64_t(i) + 1) * 0x9e3779b97f4a7c15u;
        key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u;
        key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
        key ^= key >> 31;
        return {uint32_t(key), uint32_t(key >> 32)};
    }

    // `c` is the channel of the first lane.
    Vec<A> forward(Vec<A> pre, Row row, int64_t c) const {
        return dropped(Act::forward(pre), row, c);
    }
    Vec<A> backward(Vec<A> pre, Vec<A> grad, Row row, int64_t c) const {
        return Act::backward(pre, dropped(grad, row, c));
    }
    Vec<A> dropped(Vec<A> v, Row row, int64_t c) const { return threshold_ ? drop(v, row, c) : v; }

    static Curve<Vec<A>> curve(Vec<A> pre) {
        if constexpr (curved) return Act::curve(pre);
        else return {Act::backward(pre, Vec<A>{} + A(1)), Vec<A>{}};
    }

  private:
    Vec<A> drop(Vec<A> v, Row row, int64_t c) const {
        Counters<A> bits = (lane_numbers<Counters<A>>() + uint32_t(c)) * 0x9e3779b9u + row.first;
        bits = (bits ^ (bits >> 16)) * 0x7feb352du;
        bits ^= row.second;
        bits = (bits ^ (bits >> 15)) * 0x846ca68bu;
        bits ^= bits >> 16;
        return __builtin_convertvector(bits >= threshold_, Integers<A>) ? v * scale_ : Vec<A>{};
    }

    uint64_t seed_ = 0;
    uint32_t threshold_ = 0;  // 0: nothing is dropped
    A scale_ = 1;
};

template <class A, class Call> inline void with_epilogue(const Norm& p, Call&& call) {
    switch (p.activation) {
        case kRelu: return call(Epilogue<A, Relu>(p));
        case kLeakyRelu: return call(Epilogue<A, LeakyRelu>(p));
        case kGelu: return call(Epilogue<A, Gelu>(p));
        case kSilu: return call(Epilogue<A, Silu>(p));
        default: return call(Epilogue<A, Identity>(p));
    }
}
