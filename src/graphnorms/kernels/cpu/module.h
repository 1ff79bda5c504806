// What the parts of the Python module share.
#pragma once
#include <nanobind/nanobind.h>

#include <cstdint>

#include "problem.h"

namespace nb = nanobind;

namespace graphnorms {

// The kernels of the instruction set in use.
extern Kernels current;

// As many threads as are wanted, or fewer where there is too little to do for them.
int usable_threads(int wanted, int64_t elements);

// The contents that become addresses; sizes and dtypes have been checked already.
void check_offsets(const int64_t* ptr, int64_t count, int64_t end);
void check_ids(const char* name, const int64_t* ids, int64_t count, int64_t end);

void bind_normalize(nb::module_& m);
void bind_aggregate(nb::module_& m);
void bind_gather(nb::module_& m);
void bind_linear(nb::module_& m);

}  // namespace graphnorms
