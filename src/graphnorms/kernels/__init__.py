"""The primitive: one equation, its definition in plain torch, and fast kernels that agree with
it."""

from graphnorms.kernels.aggregation.api import aggregate
from graphnorms.kernels.api import segment_normalize
from graphnorms.kernels.backend import BackendStatus, backends
from graphnorms.kernels.point import Over

__all__ = ["BackendStatus", "Over", "aggregate", "backends", "segment_normalize"]
