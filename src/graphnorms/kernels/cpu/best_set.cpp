// Prints the best instruction set of this processor (GRAPHNORMS_SETS=native, see CMakeLists.txt).
#include <cstdio>

#include "processor.h"

int main() {
    std::fputs(graphnorms::has_avx512() ? "avx512" : graphnorms::has_avx2() ? "avx2" : "baseline", stdout);
}
