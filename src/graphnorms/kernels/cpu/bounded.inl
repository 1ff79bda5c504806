// A bounded function in place of the statistics: y = weight f(a x + s) + bias, of DyT and Derf.
//
// One pass forward and one backward. A row of f, and of its slope, stays in the L1 cache between
// the function and the epilogue, so that each is compiled once and not each with each other. The
// gradients of a and s are summed over blocks of rows in the features' own precision, over blocks
// and tasks in double.

// The function at a x + s; a and s are 1 and 0 unless given.
template <class A> struct Function {
    explicit Function(const Norm& p) : number(p.function) {
        const A* given = static_cast<const A*>(p.mean_scale);
        if (p.arguments > 0) slope = given[0];
        if (p.arguments > 1) shift = given[1];
    }

    // Writes a row of f and, unless it is null, one of f'.
    template <class T> void at(const T* row, int64_t channels, A* values, A* slopes) const {
        if (number == kTanh) write<Tanh>(row, channels, values, slopes);
        else write<Erf>(row, channels, values, slopes);
    }

    // f'' / f' at an argument with value f.
    Vec<A> bend(Vec<A> argument, Vec<A> value) const { return (number == kTanh ? value : argument) * A(-2); }

    int number;
    A slope = 1, shift = 0;

  private:
    template <class F, class T>
    __attribute__((noinline)) void write(const T* row, int64_t channels, A* values, A* slopes) const {
        for_vectors<A>(0, channels, [&]<bool Tail>(int64_t c, int tail) {
            const Bounded<Vec<A>> found = F::at(get<Tail>(row + c, tail) * slope + shift);
            put<Tail>(values + c, found.value, tail);
            if (slopes) put<Tail>(slopes + c, found.slope, tail);
        });
    }
};

template <class T> void bounded_forward(const NormForward& p) {
    using A = Accumulate<T>;
    const int64_t C = p.channels, R = chunk_rows<T>(C);
    const bool streaming = streams<T>(p, p.y) && C % kLanes<A> == 0;
    const RowSegments segments(p);
    const Rows<const T> x{static_cast<const T*>(p.x), p.x_stride, segments.order};
    const Rows<const T> residual{static_cast<const T*>(p.residual), p.residual_stride, segments.order};
    const Rows<T> y{static_cast<T*>(p.y), C, segments.order};
    const int64_t tasks = (segments.end + R - 1) / R;
    const Function<A> function(p);
    pass_masked<T>(p, x, residual, y);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        const auto write_row = [&](int64_t position, const A* weight, const A* bias, A* values) {
            const T* added = residual.base ? residual[position] : nullptr;
            T* out = y[position];
            const auto key = epilogue.row(x.row(position));
            function.at(x[position], C, values, static_cast<A*>(nullptr));
            for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
                Vec<A> v = get<Tail>(values + c, tail);
                if (weight) v *= get<Tail>(weight + c, tail);
                if (bias) v += get<Tail>(bias + c, tail);
                v = epilogue.forward(v, key, c);
                if (added) v += get<Tail>(added + c, tail);
                put_result<Tail>(out + c, v, tail, streaming);
            });
        };
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
        for (int64_t task = 0; task < tasks; ++task) {
            Buffer<A> values(C);
            for_runs(segments, task * R, smaller(segments.end, (task + 1) * R),
                     [&](int64_t s, int64_t begin, int64_t end) {
                const A *weight = weight_of<A>(p, s), *bias = bias_of<A>(p, s);
                for (int64_t i = begin; i < end; ++i) write_row(i, weight, bias, values.get());
            });
            if (streaming) stream_fence();
        }
    });
}

// Adds up the tasks' sums for the gradients of a and s.
template <class A> void write_argument_gradients(const NormBackward& p, const double* sums, int64_t tasks) {
    A* out = static_cast<A*>(p.grad_mean_scale);
    if (!out) return;
    for (int64_t which = 0; which < p.arguments; ++which) {
        double total = 0;
        for (int64_t task = 0; task < tasks; ++task) total += sums[2 * task + which];
        out[which] = A(total);
    }
}

// With e = f'(a x + s) weight g: grad_x = a e, grad_a = sum x e, grad_s = sum e, equation (18) of
// docs/maths.md.
template <class T> void bounded_backward(const NormBackward& p) {
    using A = Accumulate<T>;
    constexpr int64_t kSummedRows = 16;
    const int64_t C = p.channels, R = chunk_rows<T>(C);
    const bool streaming = streams<T>(p, p.grad_x) && C % kLanes<A> == 0;
    const RowSegments segments(p);
    const Rows<const T> x{static_cast<const T*>(p.x), p.x_stride, segments.order};
    const Rows<const T> grad_y{static_cast<const T*>(p.grad_y), p.grad_y_stride, segments.order};
    const Rows<T> grad_x{static_cast<T*>(p.grad_x), C, segments.order};
    const int64_t tasks = (segments.end + R - 1) / R;
    const Function<A> function(p);
    RowShares<A> shares(p, segments, tasks, R);
    Buffer<double> sums(2 * tasks);
    pass_masked<T>(p, grad_y, {}, grad_x);
    with_epilogue<A>(p, [&]<class E>(const E& epilogue) {
        // `kept` holds a row of f and one of f'.
        const auto differentiate_row = [&](int64_t position, const A* weight, const A* bias,
                                           const RowShare<A>& share, A* kept, Vec<A>& sum_e, Vec<A>& sum_xe) {
            const T *row = x[position], *grad_row = grad_y[position];
            T* out = grad_x.base ? grad_x[position] : nullptr;
            const A *values = kept, *slopes = kept + C;
            const auto key = epilogue.row(x.row(position));
            function.at(row, C, kept, kept + C);
            for_vectors<A>(0, C, [&]<bool Tail>(int64_t c, int tail) {
                const Vec<A> value = get<Tail>(values + c, tail);
                Vec<A> pre = {};
                if constexpr (E::needs_input) {
                    pre = value;
                    if (weight) pre *= get<Tail>(weight + c, tail);
                    if (bias) pre += get<Tail>(bias + c, tail);
                }
                Vec<A> g = only<A, Tail>(epilogue.backward(pre, get<Tail>(grad_row + c, tail), key, c), tail);
                add_to<Tail>(share.weight, g * value, c, tail);
                add_to<Tail>(share.bias, g, c, tail);
                if (weight) g *= get<Tail>(weight + c, tail);
                const Vec<A> e = g * get<Tail>(slopes + c, tail);
                sum_e += e;
                sum_xe += e * get<Tail>(row + c, tail);
                if (out) put_result<Tail>(out + c, e * function.slope, tail, streaming);
            });
        };
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
        for (int64_t task = 0; task < tasks; ++task) {
            Buffer<A> kept(2 * C);
            double total_e = 0, total_xe = 0;
            int64_t run = 0;
            for_runs(segments, task * R, smaller(segments.end, (task + 1) * R),
                     [&](int64_t s, int64_t begin, int64_t end) {
                const A *weight = weight_of<A>(p, s), *bias = bias_of<A>(p, s);
                const RowShare<A> share = shares.of(task, run, s, begin, end);
                for (int64_t first = begin; first < end; first += kSummedRows) {
                    Vec<A> sum_e = {}, sum_xe = {};
                    const int64_t last = smaller(end, first + kSummedRows);
                    for (int64_t i = first; i < last; ++i)
                        differentiate_row(i, weight, bias, share, kept.get(), sum_e, sum_xe);
                    total_e += double(horizontal_sum<A>(sum_e));
                    total_xe += double(horizontal_sum<A>(sum_xe));
                }
            });
            sums.get()[2 * task] = total_xe;
            sums.get()[2 * task + 1] = total_e;
            if (streaming) stream_fence();
        }
    });
    write_row_gradients<A>(p, segments, tasks, R, shares);
    write_argument_gradients<A>(p, sums.get(), tasks);
}
