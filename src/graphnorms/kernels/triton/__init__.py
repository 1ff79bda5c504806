"""The backend for GPUs: Triton kernels (`device`) and their launchers.

triton is imported at the first call, not with this package.
"""
