// What is fused behind a normalization: forward from the pre-activation, and backward, where the
// pre-activation is recomputed instead of a mask being stored.
//
// NaN passes: a comparison with NaN is false, and the false branch keeps the value.

struct Identity {
    static constexpr bool needs_input = false;
    template <class V> static V forward(V pre) { return pre; }
    template <class V> static V backward(V, V grad) { return grad; }
};

struct Relu {
    static constexpr bool needs_input = true;
    template <class V> static V forward(V pre) { return pre < 0 ? V{} : pre; }
    template <class V> static V backward(V pre, V grad) { return pre <= 0 ? V{} : grad; }
};

// The slope of torch.nn.LeakyReLU unless told otherwise.
struct LeakyRelu {
    static constexpr bool needs_input = true;
    static constexpr double slope = 0.01;
    template <class V> static V scaled(V v) { return v * (decltype(V{}[0] + 0))slope; }
    template <class V> static V forward(V pre) { return pre < 0 ? scaled(pre) : pre; }
    template <class V> static V backward(V pre, V grad) { return pre <= 0 ? scaled(grad) : grad; }
};

template <class Call> inline void with_activation(int activation, Call&& call) {
    switch (activation) {
        case kRelu: return call(Relu{});
        case kLeakyRelu: return call(LeakyRelu{});
        default: return call(Identity{});
    }
}
