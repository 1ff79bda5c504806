// The cells of a row's columns: equal groups, or the ranges of a layout.

// Calls step(column, lanes in use) for the vectors of a range of columns.
template <class A, class Step> inline void for_vectors(int64_t first, int64_t last, Step&& step) {
    constexpr int L = kLanes<A>;
    int64_t c = first;
    for (; c + L <= last; c += L) step.template operator()<false>(c, 0);
    if (c < last) step.template operator()<true>(c, int(last - c));
}

// The sum of a term over a range, in four sums that do not wait for each other.
template <class A, class Term> inline Vec<A> sum_of_vectors(int64_t first, int64_t last, Term&& term) {
    constexpr int L = kLanes<A>;
    Vec<A> sums[4] = {};
    int64_t c = first;
    for (; c + 4 * L <= last; c += 4 * L)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) sums[k] += term.template operator()<false>(c + k * L, 0);
    for_vectors<A>(c, last, [&]<bool Tail>(int64_t at, int tail) {
        sums[0] += term.template operator()<Tail>(at, tail);
    });
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// A range of columns in one cell of the centre, in one of the scale, and of one weight in s^2.
template <class A> struct Piece {
    int64_t first, last;
    int64_t center;  // -1 where the columns are not centred
    int64_t scale;
    A weight;
    bool whole;  // whether it is all of its cell of the centre
};

// A cell of the centre: its columns, and how many pieces they are.
struct CenterCell {
    int64_t first, last, pieces;
};

// The pieces of a row from left to right. Without a scale all columns are in one cell of it, whose
// factor is 1; without a centre in none.
template <class A> class Columns {
  public:
    explicit Columns(const Norm& p)
        : centers(p.center == kNone ? 0 : p.centers), scales(p.scale == kNone ? 1 : p.scales),
          most_(p.table ? p.channels : p.groups), pieces_(most_), cells_(centers), starts_(scales + 1) {
        const int64_t C = p.channels, width = C / p.groups;
        for (int64_t first = 0; first < C;) {
            Piece<A> piece{first, first + width, 0, 0, A(1), true};
            int64_t divisor = width;
            if (p.table) {
                const int64_t* at = p.table + first;
                divisor = at[2 * C];
                piece.center = at[0];
                piece.scale = at[C];
                piece.last = first + 1;
                const auto goes_on = [&](const int64_t* to) {
                    return (p.center == kNone || to[0] == at[0]) &&
                           (p.scale == kNone || (to[C] == at[C] && to[2 * C] == divisor));
                };
                while (piece.last < C && goes_on(p.table + piece.last)) ++piece.last;
            } else {
                piece.center = piece.scale = first / width;
            }
            if (p.center == kNone) piece.center = -1;
            if (p.scale == kNone) piece.scale = 0;
            else piece.weight = A(1) / A(divisor);
            aligned = aligned && (piece.last - first) % kLanes<A> == 0;
            pieces_.get()[count++] = piece;
            first = piece.last;
        }
        find_cells();
    }

    int64_t count = 0, centers, scales;
    bool aligned = true;  // whether every piece is made of whole vectors

    const Piece<A>* begin() const { return pieces_.get(); }
    const Piece<A>* end() const { return pieces_.get() + count; }
    // Those of a cell of the scale.
    const Piece<A>* begin(int64_t scale) const { return pieces_.get() + starts_.get()[scale]; }
    const Piece<A>* end(int64_t scale) const { return begin(scale + 1); }
    const CenterCell& center(int64_t cell) const { return cells_.get()[cell]; }

  private:
    void find_cells() {
        for (int64_t cell = 0; cell < centers; ++cell) cells_.get()[cell] = {0, 0, 0};
        starts_.get()[scales] = count;
        int64_t scale = scales;
        for (int64_t k = count; k-- > 0;) {
            const Piece<A>& piece = pieces_.get()[k];
            // A layout may skip a number: that cell is empty.
            while (scale > piece.scale) starts_.get()[--scale] = k + 1;
            starts_.get()[scale] = k;
            if (piece.center < 0) continue;
            CenterCell& cell = cells_.get()[piece.center];
            if (!cell.pieces) cell.last = piece.last;
            cell.first = piece.first;
            ++cell.pieces;
        }
        for (int64_t k = 0; k < count; ++k) {
            Piece<A>& piece = pieces_.get()[k];
            piece.whole = piece.center >= 0 && cells_.get()[piece.center].pieces == 1;
        }
        while (scale > 0) starts_.get()[--scale] = 0;
    }

    int64_t most_;
    Buffer<Piece<A>> pieces_;
    Buffer<CenterCell> cells_;
    Buffer<int64_t> starts_;
};

// The centre of a cell as a pair: hi is the centre in the precision of the sums, lo the rest.
template <class A> struct RowCenter {
    A hi, lo;
};

template <class A> inline RowCenter<A> row_center(A pivot, A shift) {
    const A hi = pivot + shift;
    return {hi, shift - (hi - pivot)};
}

template <class T> inline Accumulate<T> first_entry(const T* p) { return load_part(p, 1)[0]; }

// The statistics of one row, by cell, and its entries o_hat.
template <class T, class A = Accumulate<T>> class RowCells {
  public:
    explicit RowCells(const Columns<A>& columns) : centers_(larger<int64_t>(columns.centers, 1)), rstds_(columns.scales) {}

    RowCenter<A>& center(int64_t cell) { return centers_.get()[cell]; }
    RowCenter<A> center_of(const Piece<A>& piece) const {
        return piece.center < 0 ? RowCenter<A>{0, 0} : centers_.get()[piece.center];
    }
    A& rstd(int64_t cell) { return rstds_.get()[cell]; }

    // Take over what the forward saved of row i.
    void recall(const Norm& p, const Columns<A>& columns, const T* row, int64_t i) {
        const A *shift = static_cast<const A*>(p.shift) + i * columns.centers;
        for (int64_t cell = 0; cell < columns.centers; ++cell)
            center(cell) = row_center(first_entry(row + columns.center(cell).first), shift[cell]);
        const A* saved = static_cast<const A*>(p.rstd) + i * columns.scales;
        for (int64_t cell = 0; cell < columns.scales; ++cell) rstd(cell) = p.scale == kNone ? A(1) : saved[cell];
    }

  private:
    Buffer<RowCenter<A>> centers_;
    Buffer<A> rstds_;
};

// Where the only piece of a row ends: known when loops are compiled, unless the width is 0.
template <int Width> struct RowEnd {
    explicit RowEnd(int64_t) {}
    static constexpr int64_t last = Width;
};
template <> struct RowEnd<0> {
    int64_t last;
};

template <class A, int Width> struct WholeRow : RowEnd<Width> {
    explicit WholeRow(const Piece<A>& piece) : RowEnd<Width>{piece.last}, center(piece.center), weight(piece.weight) {}
    static constexpr int64_t first = 0, scale = 0;
    static constexpr bool whole = true;
    int64_t center;
    A weight;
};

// All columns as one piece, as in LayerNorm: that there is one is known when loops are compiled.
template <class A, int Width> class OnePiece {
  public:
    explicit OnePiece(const Columns<A>& columns)
        : centers(columns.centers), aligned(columns.aligned), piece_(*columns.begin()) {
        if (centers) cell_ = columns.center(0);
    }

    static constexpr int64_t count = 1, scales = 1;
    int64_t centers;  // 0 or 1
    bool aligned;

    const WholeRow<A, Width>* begin(int64_t = 0) const { return &piece_; }
    const WholeRow<A, Width>* end(int64_t = 0) const { return &piece_ + 1; }
    const CenterCell& center(int64_t) const { return cell_; }

  private:
    WholeRow<A, Width> piece_;
    CenterCell cell_{0, 0, 0};
};

// Its statistics: numbers that stay in registers.
template <class T, class A = Accumulate<T>> class OneCell {
  public:
    template <class Division> explicit OneCell(const Division&) {}

    RowCenter<A>& center(int64_t) { return center_; }
    template <class AnyPiece> RowCenter<A> center_of(const AnyPiece& piece) const {
        return piece.center < 0 ? RowCenter<A>{0, 0} : center_;
    }
    A& rstd(int64_t) { return rstd_; }

    template <class Division> void recall(const Norm& p, const Division& columns, const T* row, int64_t i) {
        if (columns.centers) center_ = row_center(first_entry(row + columns.center(0).first), static_cast<const A*>(p.shift)[i]);
        if (p.scale != kNone) rstd_ = static_cast<const A*>(p.rstd)[i];
    }

  private:
    RowCenter<A> center_{0, 0};
    A rstd_ = 1;
};

// The width of most GNNs. Loops of its own cost time to compile, so only float32 has them.
template <class T> constexpr int kUsualWidth = sizeof(T) == 4 ? 64 : 0;

// Calls call<Cells>(columns): what divides the columns of a row, and what holds the statistics of a row.
// Rows of one piece have loops of their own where they are as wide as `Width`.
template <class T, int Width = 0, class Call> inline void with_columns(const Norm& p, Call&& call) {
    using A = Accumulate<T>;
    const Columns<A> columns(p);
    if (columns.count != 1 || columns.centers > 1 || columns.scales != 1)
        return call.template operator()<RowCells<T>>(columns);
    if (Width && p.channels == Width) call.template operator()<OneCell<T>>(OnePiece<A, Width>(columns));
    else call.template operator()<OneCell<T>>(OnePiece<A, 0>(columns));
}

template <bool Tail, class T, class A = Accumulate<T>>
inline Vec<A> deviation(const T* row, int64_t c, int tail, RowCenter<A> m) {
    return (get<Tail>(row + c, tail) - m.hi) - m.lo;
}

// v times the parameters of a strip, or v where there are none.
template <bool Tail, class A> inline Vec<A> times(Vec<A> v, const A* parameter, int64_t c, int tail) {
    return parameter ? v * get<Tail>(parameter + c, tail) : v;
}
// Add to a row of sums, unless nobody asks for it.
template <bool Tail, class A> inline void add_to(A* sums, Vec<A> v, int64_t c, int tail) {
    if (sums) put<Tail>(sums + c, get<Tail>(sums + c, tail) + v, tail);
}

// Where the gradient of an entry of the pre-activation is read from: the features' own row if it
// is grad_y itself, or a row of scratch.
template <class E, class T, class A> inline const A* row_of_gradient(const Norm& p, const T* grad_row, const A* scratch) {
    if constexpr (!E::needs_input && sizeof(T) == sizeof(A)) return p.seed ? scratch : grad_row;
    else return scratch;
}
