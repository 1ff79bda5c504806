"""Norms of features that rotate: spherical harmonics, and irreps as in e3nn."""

from graphnorms.layers.equivariant.equivariant_layer_norm import EquivariantLayerNorm
from graphnorms.layers.equivariant.equivariant_rms_norm import EquivariantRMSNorm
from graphnorms.layers.equivariant.irreps import Block, Irreps
from graphnorms.layers.equivariant.irreps_batch_norm import IrrepsBatchNorm
from graphnorms.layers.equivariant.irreps_graph_norm import IrrepsGraphNorm
from graphnorms.layers.equivariant.irreps_layer_norm import IrrepsLayerNorm

__all__ = [
    "Block",
    "EquivariantLayerNorm",
    "EquivariantRMSNorm",
    "Irreps",
    "IrrepsBatchNorm",
    "IrrepsGraphNorm",
    "IrrepsLayerNorm",
]
