// What the parts of the Python module share.
#pragma once
#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>

#include "problem.h"
#include "tensors.h"

namespace nb = nanobind;

namespace graphnorms {

// The kernels of the instruction set in use.
extern Kernels current;

// As many threads as are wanted, or fewer where there is too little to do for them.
int usable_threads(int wanted, int64_t elements);

// The contents that become addresses; sizes and dtypes have been checked already.
void check_offsets(const int64_t* ptr, int64_t count, int64_t end);
void check_ids(const char* name, const int64_t* ids, int64_t count, int64_t end);

// One of a tuple's items, which outlive the call.
inline nb::handle item(const nb::tuple& of, size_t i) { return PyTuple_GET_ITEM(of.ptr(), Py_ssize_t(i)); }

// α, γ and β, or their gradients, or the cotangents of these.
struct Parameters {
    explicit Parameters(const nb::tuple& of) : mean_scale(item(of, 0)), weight(item(of, 1)), bias(item(of, 2)) {}
    Parameters(const View& mean_scale, const View& weight, const View& bias)
        : mean_scale(mean_scale), weight(weight), bias(bias) {}
    View mean_scale, weight, bias;
};

// The kernels with their checks. True: done. False: the tensors do not fit. None: a statistic left the range of its
// dtype, and the reference is asked.
using Answer = std::optional<bool>;

// How many numbers the statistics are, or -1 where the call does not fit.
int64_t statistics_size(const View& x, const Parameters& of, const nb::tuple& call, bool with_moment);
Answer normalize_forward(const View& x, const View& residual, const Parameters& of, const nb::tuple& call,
                         bool with_moment, int threads, const View& y, const View& statistics);
Answer normalize_backward(const View& grad_y, const View& x, const Parameters& of, const View& statistics,
                          const nb::tuple& call, int threads, const View& grad_x, const Parameters& grads);
bool normalize_by_averages(const View& x, const View& residual, const Parameters& of, const nb::tuple& call,
                           const View& mean, const View& var, int threads, const View& y);
bool update_running(const View& x, const View& statistics, const View& mean, const View& var, const View& batches,
                    int64_t rows, double momentum);
bool linear_forward(const View& x, const View& weight, const View& bias, int threads, const View& y);
bool linear_backward(const View& grad_y, const View& x, const View& weight, int threads, const View& grad_x,
                     const View& grad_weight, const View& grad_bias);
// Along the edges of a CSR pair, all of weight 1.
bool sum_neighbours(const View& x, const View& ptr, const View& index, const View& node_scale, double self_weight,
                    int threads, const View& y);

void bind_chain(nb::module_& m);
void bind_normalize(nb::module_& m);
void bind_aggregate(nb::module_& m);
void bind_gather(nb::module_& m);
void bind_linear(nb::module_& m);
void bind_read(nb::module_& m);

}  // namespace graphnorms
