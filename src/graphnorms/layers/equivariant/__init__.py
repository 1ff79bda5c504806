"""Norms of features that rotate: spherical harmonics, and irreps as in e3nn."""

from graphnorms.layers.equivariant.equivariant_layer_norm import EquivariantLayerNorm
from graphnorms.layers.equivariant.equivariant_rms_norm import EquivariantRMSNorm
from graphnorms.layers.equivariant.irreps_batch_norm import IrrepsBatchNorm
from graphnorms.layers.equivariant.irreps_graph_norm import IrrepsGraphNorm
from graphnorms.layers.equivariant.irreps_layer_norm import IrrepsLayerNorm
from graphnorms.layers.equivariant.layout import Block, Layout

__all__ = [
    "Block",
    "EquivariantLayerNorm",
    "EquivariantRMSNorm",
    "IrrepsBatchNorm",
    "IrrepsGraphNorm",
    "IrrepsLayerNorm",
    "Layout",
]
