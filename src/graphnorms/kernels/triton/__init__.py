"""The backend for GPUs: Triton kernels (`device`) and what launches them.

Importing it does not import triton, which is loaded by the first call.
"""
