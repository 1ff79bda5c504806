"""The normalization layers, one per file, and their catalogue.

A module is loaded when one of its names is used: tables need the titles of norms, and no torch.
"""

from typing import TYPE_CHECKING, Any

from graphnorms.late import attribute

if TYPE_CHECKING:
    from graphnorms.layers.ada_norm import AdaNorm
    from graphnorms.layers.adja_norm import AdjaNorm
    from graphnorms.layers.base import Norm
    from graphnorms.layers.batch_norm import BatchNorm
    from graphnorms.layers.catalog import CATALOG
    from graphnorms.layers.conditional_norm import ConditionalNorm
    from graphnorms.layers.contra_norm import ContraNorm
    from graphnorms.layers.custom_norm import CustomNorm
    from graphnorms.layers.derf import Derf
    from graphnorms.layers.diff_group_norm import DiffGroupNorm
    from graphnorms.layers.dyt import DyT
    from graphnorms.layers.equivariant import (
        EquivariantLayerNorm,
        EquivariantRMSNorm,
        IrrepsBatchNorm,
        IrrepsGraphNorm,
        IrrepsLayerNorm,
    )
    from graphnorms.layers.factory import lookup, make_norm, names
    from graphnorms.layers.granola import Granola
    from graphnorms.layers.graph_norm import GraphNorm
    from graphnorms.layers.graph_size_norm import GraphSizeNorm
    from graphnorms.layers.group_norm import GroupNorm
    from graphnorms.layers.hetero_batch_norm import HeteroBatchNorm
    from graphnorms.layers.hetero_layer_norm import HeteroLayerNorm
    from graphnorms.layers.identity import Identity
    from graphnorms.layers.instance_norm import InstanceNorm
    from graphnorms.layers.layer_norm import LayerNorm
    from graphnorms.layers.mean_subtraction_norm import MeanSubtractionNorm
    from graphnorms.layers.message_norm import MessageNorm
    from graphnorms.layers.node_norm import NodeNorm
    from graphnorms.layers.normalization import Normalization
    from graphnorms.layers.pair_norm import PairNorm
    from graphnorms.layers.power_norm import PowerNorm
    from graphnorms.layers.qk_norm import QKNorm
    from graphnorms.layers.recalibration import recalibrate
    from graphnorms.layers.rms_norm import RMSNorm
    from graphnorms.layers.super_norm import SuperNorm
    from graphnorms.layers.united_norm import UnitedNorm

__all__ = [
    "CATALOG",
    "AdaNorm",
    "AdjaNorm",
    "BatchNorm",
    "ConditionalNorm",
    "ContraNorm",
    "CustomNorm",
    "Derf",
    "DiffGroupNorm",
    "DyT",
    "EquivariantLayerNorm",
    "EquivariantRMSNorm",
    "Granola",
    "GraphNorm",
    "GraphSizeNorm",
    "GroupNorm",
    "HeteroBatchNorm",
    "HeteroLayerNorm",
    "Identity",
    "InstanceNorm",
    "IrrepsBatchNorm",
    "IrrepsGraphNorm",
    "IrrepsLayerNorm",
    "LayerNorm",
    "MeanSubtractionNorm",
    "MessageNorm",
    "NodeNorm",
    "Norm",
    "Normalization",
    "PairNorm",
    "PowerNorm",
    "QKNorm",
    "RMSNorm",
    "SuperNorm",
    "UnitedNorm",
    "lookup",
    "make_norm",
    "names",
    "recalibrate",
]

_MODULES = (
    "catalog",
    "ada_norm",
    "adja_norm",
    "base",
    "batch_norm",
    "conditional_norm",
    "contra_norm",
    "custom_norm",
    "derf",
    "diff_group_norm",
    "dyt",
    "equivariant",
    "factory",
    "granola",
    "graph_norm",
    "graph_size_norm",
    "group_norm",
    "hetero_batch_norm",
    "hetero_layer_norm",
    "identity",
    "instance_norm",
    "layer_norm",
    "mean_subtraction_norm",
    "message_norm",
    "node_norm",
    "pair_norm",
    "power_norm",
    "qk_norm",
    "recalibration",
    "rms_norm",
    "super_norm",
    "united_norm",
)
"""The modules that define these names."""


def __getattr__(name: str) -> Any:
    return attribute(__name__, name, _MODULES)
