#pragma once

namespace graphnorms {

// Storage of the features; the values are those of kernels/cpu/extension.py. Statistics, parameters
// and their gradients are in the accumulation dtype: double for double, float for the others.
enum Dtype : int { kFloat = 0, kDouble = 1, kBFloat16 = 2, kFloat16 = 3, kDtypes = 4 };

}  // namespace graphnorms
