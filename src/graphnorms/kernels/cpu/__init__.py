"""The C++ backend: float32 and float64 on the CPU."""
