// Running averages of BatchNorm: one call where torch needs a dozen small ones.
template <class T> void update_running(const Running& p) {
    using A = Accumulate<T>;
    const T* pivot = static_cast<const T*>(p.pivot);
    const A *shift = static_cast<const A*>(p.shift), *moment = static_cast<const A*>(p.moment);
    A *mean = static_cast<A*>(p.mean), *var = static_cast<A*>(p.var);
    const A momentum = A(p.momentum), unbiased = A(double(p.rows) / double(p.rows - 1));
    for_strips<A, 1>(p.channels, [&]<int K, bool Tail>(int64_t c, int tail) {
        const Vec<A> old_mean = get<Tail>(mean + c, tail), old_var = get<Tail>(var + c, tail);
        const Vec<A> new_mean = get<Tail>(pivot + c, tail) + get<Tail>(shift + c, tail);
        const Vec<A> new_var = get<Tail>(moment + c, tail) * unbiased;
        // A sum of shares, not old + momentum (new - old): that is NaN once both are infinite.
        put<Tail>(mean + c, (A(1) - momentum) * old_mean + momentum * new_mean, tail);
        put<Tail>(var + c, (A(1) - momentum) * old_var + momentum * new_var, tail);
    });
}
