// Kernels one behind the other, each on the result of the one before, without Python between them.
//
// Everything is float32. What is kept for the backward lies in one piece of memory, the room: what every linear map and
// every normalization was given, and the statistics of the latter. Other results pass through two buffers in turns, and
// without a backward all of them do. The gradients of all parameters lie in another piece. As in module_normalize.cpp a
// call that does not fit is answered with false.
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "module.h"

namespace graphnorms {

namespace {

// The kinds of steps in graphnorms.kernels.chain_steps: a tuple of its number and of
//   the sum over neighbours:  node scale or None, self weight
//   the linear map:           weight, bias or None
//   a bias:                   bias
//   the normalization:        (α, γ, β), its Call, and None, or running mean, variance, counter and momentum, which it
//                             moves, or mean and variance alone, by which it normalizes
enum Kind : int { kSum, kLinear, kBias, kNormalization };

// How many tensors of a step may have a gradient, `None` among them.
size_t operands_of(int kind) { return kind == kLinear ? 2 : kind == kBias ? 1 : kind == kNormalization ? 3 : 0; }

constexpr int64_t kLine = 16;  // numbers in a cache line
int64_t whole_lines(int64_t size) { return (size + kLine - 1) / kLine * kLine; }

struct Step {
    int kind;
    nb::tuple of;
    int64_t in, out;                      // columns
    int64_t result = -1, statistics = 0;  // where they begin in the room; -1: the result is not kept
    int64_t size = 0;                     // of the statistics

    nb::handle operator[](size_t i) const { return item(of, i); }
    size_t averages() const { return kind == kNormalization && !(*this)[3].is_none() ? nb::len((*this)[3]) : 0; }
    bool moves_averages() const { return averages() == 4; }
    bool goes_by_averages() const { return averages() == 2; }
    Parameters normalized_by() const { return Parameters(nb::borrow<nb::tuple>((*this)[1])); }
    nb::tuple call() const { return nb::borrow<nb::tuple>((*this)[2]); }
};

// Memory for two tensors of features that are not kept, in turns.
class Passing {
   public:
    Passing(int64_t rows, int64_t widest)
        : half_(whole_lines(rows * widest)),
          memory_(static_cast<float*>(::operator new(size_t(2 * half_) * sizeof(float), std::align_val_t(64)))) {}
    float* next() {
        turn_ = 1 - turn_;
        return memory_.get() + turn_ * half_;
    }

   private:
    struct Release {
        void operator()(float* memory) const { ::operator delete(memory, std::align_val_t(64)); }
    };
    int64_t half_, turn_ = 0;
    std::unique_ptr<float, Release> memory_;
};

// Where everything lies.
struct Plan {
    // `keeps`: whether there will be a backward. Running averages are moved behind the last step and need as much.
    Plan(int64_t rows, int64_t columns, const nb::tuple& listed, bool keeps) : rows(rows), columns(columns) {
        for (nb::handle each : listed)
            if (!add(nb::borrow<nb::tuple>(each))) return;
        for (const Step& step : steps) keeps |= step.moves_averages();
        for (Step& step : steps) {
            step.statistics = keeps ? room : 0;
            room = std::max(room, step.statistics + whole_lines(step.size));
        }
        for (size_t s = 0; s + 1 < steps.size(); ++s) {
            widest = std::max(widest, steps[s].out);
            if (!keeps || (steps[s + 1].kind != kLinear && steps[s + 1].kind != kNormalization)) continue;
            steps[s].result = room;
            room += whole_lines(rows * steps[s].out);
        }
        room = std::max(room, kLine);  // an address, also where nothing is kept
        fits = !steps.empty();
    }

    bool add(const nb::tuple& of) {
        Step step{nb::cast<int>(item(of, 0)), of, columns, columns};
        if (step.kind == kLinear) {
            const View weight(step[1]);
            if (weight.dtype() != kFloat || weight.dims() != 2) return false;
            step.out = weight.size(0);
        } else if (step.kind == kNormalization) {
            static float somewhere;  // a tensor that is only described
            const Parameters by = step.normalized_by();
            step.size = statistics_size(View(&somewhere, rows, columns), by, step.call(), step.moves_averages());
            for (const View* parameter : {&by.mean_scale, &by.weight, &by.bias})
                if (!parameter->none() && !parameter->is_vector(kFloat, columns)) return false;
            if (step.size < 0) return false;
        }
        columns = step.out;
        steps.push_back(step);
        return true;
    }

    bool fits = false;
    std::vector<Step> steps;
    int64_t rows, columns, room = 0, widest = 0;
};

nb::object chain_sizes(int64_t rows, int64_t columns, const nb::tuple& steps, bool keeps) {
    const Plan plan(rows, columns, steps, keeps);
    if (!plan.fits) return nb::none();
    return nb::make_tuple(plan.room, plan.columns);
}

bool add_bias(const View& x, const View& bias, const View& y) {
    if (!bias.is_vector(kFloat, x.size(1))) return false;
    const float *from = x.as<const float>(), *shift = bias.as<const float>();
    float* to = y.as<float>();
    for (int64_t i = 0; i < x.size(0); ++i, from += x.size(1), to += x.size(1))
        for (int64_t c = 0; c < x.size(1); ++c) to[c] = from[c] + shift[c];
    return true;
}

// In chunks of rows, and then over the chunks, as the linear map sums the gradient of its bias.
void sum_rows(const View& x, float* sums) {
    constexpr int64_t kChunk = 256;
    const int64_t rows = x.size(0), columns = x.size(1);
    std::vector<float> of_chunk(static_cast<size_t>(columns));
    std::fill(sums, sums + columns, 0.0f);
    for (int64_t first = 0; first < rows; first += kChunk) {
        std::fill(of_chunk.begin(), of_chunk.end(), 0.0f);
        for (int64_t i = first; i < std::min(rows, first + kChunk); ++i) {
            const float* row = x.as<const float>() + i * x.stride(0);
            for (int64_t c = 0; c < columns; ++c) of_chunk[size_t(c)] += row[c];
        }
        for (int64_t c = 0; c < columns; ++c) sums[c] += of_chunk[size_t(c)];
    }
}

Answer chain_forward(nb::handle x_, nb::handle residual_, const nb::tuple& listed, nb::handle ptr_, nb::handle index_,
                     bool keeps, int threads, nb::handle room_, nb::handle y_) {
    const View x(x_), residual(residual_), ptr(ptr_), index(index_), room(room_), y(y_), none{nb::none()};
    if (x.dtype() != kFloat || !x.has_whole_rows()) return false;
    const Plan plan(x.size(0), x.size(1), listed, keeps);
    if (!plan.fits || !room.is_vector(kFloat, plan.room) || !y.is_matrix(kFloat, plan.rows, plan.columns))
        return false;
    Passing passing(plan.rows, plan.widest);
    std::vector<View> inputs{x};
    for (const Step& step : plan.steps) {
        const bool last = &step == &plan.steps.back();
        const View from = inputs.back(), to = last ? y : View(step.result < 0 ? passing.next() : room.as<float>() + step.result,
                                                             plan.rows, step.out);
        if (last && step.kind != kNormalization && !residual.none()) return false;
        Answer done = true;
        switch (step.kind) {
            case kSum:
                done = sum_neighbours(from, ptr, index, View(step[1]), nb::cast<double>(step[2]), threads, to);
                break;
            case kLinear: done = linear_forward(from, View(step[1]), View(step[2]), threads, to); break;
            case kBias: done = inputs.size() > 1 && add_bias(from, View(step[1]), to); break;
            case kNormalization:
                if (step.goes_by_averages()) {
                    const nb::tuple by = nb::borrow<nb::tuple>(step[3]);
                    done = normalize_by_averages(from, last ? residual : none, step.normalized_by(), step.call(),
                                                 View(item(by, 0)), View(item(by, 1)), threads, to);
                    break;
                }
                done = normalize_forward(from, last ? residual : none, step.normalized_by(), step.call(),
                                         step.moves_averages(), threads, to,
                                         View(room.as<float>() + step.statistics, step.size));
                break;
            default: return false;
        }
        if (done != true) return done;
        inputs.push_back(to);
    }
    // Only now, as a chain that stops is run again by other means.
    for (size_t s = 0; s < plan.steps.size(); ++s) {
        const Step& step = plan.steps[s];
        if (!step.moves_averages()) continue;
        const nb::tuple running = nb::borrow<nb::tuple>(step[3]);
        if (!update_running(inputs[s], View(room.as<float>() + step.statistics, step.size), View(item(running, 0)),
                            View(item(running, 1)), View(item(running, 2)), plan.rows,
                            nb::cast<double>(item(running, 3))))
            return false;
    }
    return true;
}

// `places` has for each operand where its gradient begins in `grads`, or -1 where nobody needs it.
Answer chain_backward(nb::handle grad_y_, nb::handle x_, const nb::tuple& listed, nb::handle ptr_, nb::handle index_,
                      int threads, nb::handle room_, const nb::list& places, nb::handle grad_x_, nb::handle grads_) {
    const View grad_y(grad_y_), x(x_), ptr(ptr_), index(index_), room(room_), grad_x(grad_x_), grads(grads_);
    const View none{nb::none()};
    if (x.dtype() != kFloat || !x.has_whole_rows()) return false;
    const Plan plan(x.size(0), x.size(1), listed, true);
    if (!plan.fits || !room.is_vector(kFloat, plan.room) || grads.dtype() != kFloat || grads.dims() != 1 ||
        !grads.contiguous() || grad_y.dtype() != kFloat || !grad_y.has_whole_rows() || grad_y.size(0) != plan.rows ||
        grad_y.size(1) != plan.columns || (!grad_x.none() && !(grad_x.is_like(x) && grad_x.contiguous())))
        return false;
    Passing passing(plan.rows, plan.widest);
    std::optional<View> grad(grad_y);
    size_t operand = 0;
    for (const Step& step : plan.steps) operand += operands_of(step.kind);
    if (operand != nb::len(places)) return false;
    for (size_t s = plan.steps.size(); s-- > 0;) {
        const Step& step = plan.steps[s];
        const int64_t kept = s ? plan.steps[s - 1].result : -1;
        const View from = !s ? x : View(kept < 0 ? nullptr : room.as<float>() + kept, plan.rows, step.in);
        const View to = !s                     ? grad_x
                        : step.kind == kBias ? *grad
                                             : View(passing.next(), plan.rows, step.in);
        size_t next = operand -= operands_of(step.kind);
        bool fits = true;
        auto place = [&](int64_t size) -> float* {
            const int64_t first = nb::cast<int64_t>(places[next++]);
            fits = fits && first <= grads.size(0) - size;
            return first < 0 || !fits ? nullptr : grads.as<float>() + first;
        };
        Answer done = true;
        switch (step.kind) {
            case kSum:
                if (!to.none())
                    done = sum_neighbours(*grad, ptr, index, View(step[1]), nb::cast<double>(step[2]), threads, to);
                break;
            case kLinear: {
                const View of_weight(place(step.in * step.out), step.out, step.in);
                const View of_bias(place(step.out), step.out);
                done = fits && linear_backward(*grad, from, View(step[1]), threads, to, of_weight, of_bias);
                break;
            }
            case kBias:
                if (!s) return false;
                if (float* sums = place(step.out)) sum_rows(*grad, sums);
                break;
            case kNormalization: {
                if (step.goes_by_averages()) return false;
                const Parameters by = step.normalized_by();
                const View of_scale(place(step.in), step.in), of_weight(place(step.in), step.in);
                const View of_bias(place(step.in), step.in);
                done = normalize_backward(*grad, from, by, View(room.as<float>() + step.statistics, step.size),
                                          step.call(), threads, to, {of_scale, of_weight, of_bias});
                break;
            }
            default: return false;
        }
        if (!fits) return false;
        if (done != true) return done;
        grad.emplace(to);
    }
    return true;
}

}  // namespace

void bind_chain(nb::module_& m) {
    m.def("chain_sizes", chain_sizes, nb::arg("rows"), nb::arg("columns"), nb::arg("steps"),
          nb::arg("keeps"));
    m.def("chain_forward", chain_forward, nb::arg("x"), nb::arg("residual").none(), nb::arg("steps"),
          nb::arg("ptr"), nb::arg("index"), nb::arg("keeps"), nb::arg("threads"), nb::arg("room"), nb::arg("y"));
    m.def("chain_backward", chain_backward, nb::arg("grad_y"), nb::arg("x"), nb::arg("steps"), nb::arg("ptr"),
          nb::arg("index"), nb::arg("threads"), nb::arg("room"), nb::arg("places"), nb::arg("grad_x").none(),
          nb::arg("grads"));
}

}  // namespace graphnorms
