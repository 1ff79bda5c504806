#define GRAPHNORMS_KERNELS kernels_avx512
#include "kernels.inl"
