"""The C++ backend: float64, float32, bfloat16 and float16 on the CPU."""
