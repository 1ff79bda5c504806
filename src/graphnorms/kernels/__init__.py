"""The primitive: one equation, its definition in plain torch, and fast kernels that agree with
it."""

from graphnorms.kernels.aggregation.neighbour_sum import aggregate
from graphnorms.kernels.backend import BackendStatus, backends
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Over
from graphnorms.kernels.primitive import segment_normalize

__all__ = ["BackendStatus", "Layout", "Over", "aggregate", "backends", "segment_normalize"]
