"""The normalizations, one per file, and the catalogue of them."""

from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.catalog import CATALOG, Normalization
from graphnorms.layers.factory import lookup, make_norm, names
from graphnorms.layers.graph_norm import GraphNorm
from graphnorms.layers.identity import Identity
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.layer_norm import LayerNorm

__all__ = [
    "CATALOG",
    "BatchNorm",
    "GraphNorm",
    "Identity",
    "InstanceNorm",
    "LayerNorm",
    "Normalization",
    "lookup",
    "make_norm",
    "names",
]
