#define GRAPHNORMS_KERNELS kernels_baseline
#include "kernels.inl"
