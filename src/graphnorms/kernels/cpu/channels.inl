// Statistics over nodes: the workspace of a segment, by channel, and which channels share a scale.
//
// A scale over nodes and channels has cells: `groups` of neighbours, or what a layout says, in which
// the entries of channel c weigh 1 / d_c. Everything else is by channel, so that ragged cells cost a few
// operations per channel and segment.

// Per-channel workspace of one segment.
template <class A> struct Channels {
    explicit Channels(const Norm& p)
        : channels(p.channels), alpha(static_cast<const A*>(p.mean_scale)), memory(10 * channels),
          wide(larger(2 * channels, p.scales) + channels), pivot(memory.get()), hi(pivot + channels),
          lo(hi + channels), a(lo + channels), b(a + channels), sum(b + channels), square(sum + channels),
          rstd(square + channels) {
        if (!p.table) return;
        const int64_t C = channels, *center_cells = p.table, *divisors = p.table + 2 * C;
        double* of_layout = wide.get() + larger(2 * C, p.scales);
        for (int64_t c = 0; c < C; ++c) of_layout[c] = 1 / double(divisors[c]);
        weights = of_layout;
        if (p.center == kNone) return;
        A *mask = rstd + C, *shares = mask + C;
        for (int64_t c = 0; c < C; ++c) {
            mask[c] = A(center_cells[c] >= 0);
            shares[c] = center_cells[c] < 0 || !alpha ? mask[c] : alpha[c];
        }
        centred = mask;
        alpha = shares;
    }
    // Values become 0 where nothing is subtracted.
    void clear_without_center(A* values) const {
        if (!centred) return;
        for (int64_t c = 0; c < channels; ++c) values[c] = centred[c] == 0 ? A(0) : values[c];
    }

    int64_t channels;
    const A* alpha;  // or null for 1
    // 1, or 0 for the channels of a layout without a centre, whose pivot and mean are 0; null where
    // there are none.
    const A* centred = nullptr;
    const double* weights = nullptr;  // 1 / d, of a layout
    Buffer<A> memory;
    Buffer<double> wide;  // sums over several blocks, or per cell
    A* pivot;             // the entries that sums are relative to
    A *hi, *lo;           // the centre
    A *a, *b;             // pre-activation = a (x - hi) + b
    A *sum, *square;      // the two sums of a pass, side by side
    A* rstd;              // per channel, whatever the scale domain
};

// Sum of n values, in vectors: one running sum would wait for each addition.
template <class A> inline A sum_of(const A* values, int64_t n) {
    constexpr int L = kLanes<A>;
    Vec<A> sum = {};
    int64_t i = 0;
    for (; i + L <= n; i += L) sum += load(values + i);
    if (i < n) sum += load_part(values + i, int(n - i));
    return horizontal_sum<A>(sum);
}

// Cells of the scale in a segment.
inline int64_t scales_of_segment(const Norm& p) {
    return p.scale == kBoth ? p.scales : p.scale == kNodes ? p.channels : 0;
}

// Calls each(channel, its cell of the scale within the segment).
template <class Each> inline void for_cells(const Norm& p, Each&& each) {
    const int64_t C = p.channels, G = p.groups, width = C / G;
    if (p.scale == kNodes) {
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) each(c, c);
    } else if (p.table) {
        const int64_t* cells = p.table + C;
        for (int64_t c = 0; c < C; ++c) each(c, cells[c]);
    } else {
        for (int64_t g = 0; g < G; ++g)
            for (int64_t c = g * width; c < (g + 1) * width; ++c) each(c, g);
    }
}

// From numbers that are equal within a cell to one per cell, and back; without a scale to 1.
template <class A> void keep_cells(const Norm& p, const A* values, A* kept) {
    for_cells(p, [=](int64_t c, int64_t cell) { kept[cell] = values[c]; });
}
template <class A> void spread_cells(const Norm& p, const A* kept, A* values) {
    if (p.scale != kNone) return for_cells(p, [=](int64_t c, int64_t cell) { values[c] = kept[cell]; });
    for (int64_t c = 0; c < p.channels; ++c) values[c] = 1;
}

// Replaces every entry by the mean over its group.
template <class A> void mean_of_groups(const Norm& p, A* values) {
    const int64_t width = p.channels / p.groups;
    for (int64_t first = 0; first < p.channels; first += width) {
        const A mean = sum_of(values + first, width) / A(width);
        for (int64_t c = first; c < first + width; ++c) values[c] = mean;
    }
}

// Replaces every entry v by the sum of v / d over its cell of a scale over nodes and channels.
template <class A> void mean_of_cells(const Norm& p, A* values, Channels<A>& w) {
    if (!p.table) return mean_of_groups(p, values);
    double* sums = w.wide.get();
    const double* weights = w.weights;
    for (int64_t i = 0; i < p.scales; ++i) sums[i] = 0;
    for_cells(p, [=](int64_t c, int64_t cell) { sums[cell] += weights[c] * double(values[c]); });
    for_cells(p, [=](int64_t c, int64_t cell) { values[c] = A(sums[cell]); });
}

// Backwards: replaces every entry by 1 / d times the sum over its cell.
template <class A> void share_in_cells(const Norm& p, A* values, Channels<A>& w) {
    if (!p.table) return mean_of_groups(p, values);
    double* sums = w.wide.get();
    const double* weights = w.weights;
    for (int64_t i = 0; i < p.scales; ++i) sums[i] = 0;
    for_cells(p, [=](int64_t c, int64_t cell) { sums[cell] += double(values[c]); });
    for_cells(p, [=](int64_t c, int64_t cell) { values[c] = A(weights[c] * sums[cell]); });
}
