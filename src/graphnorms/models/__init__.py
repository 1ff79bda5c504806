"""GCN, GIN and GINE as H' = F(Norm(W · H · Q))."""

from graphnorms.models.config import MODELS, PRESETS, ModelConfig, preset, preset_models
from graphnorms.models.convolutions import GCNConv, GINConv, GINEConv
from graphnorms.models.gnn import GNN
from graphnorms.models.initialize import derive_seed, initialize
from graphnorms.models.readout import readout
from graphnorms.models.slot import GraphContext, NormSlot

__all__ = [
    "GNN",
    "MODELS",
    "PRESETS",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "GraphContext",
    "ModelConfig",
    "NormSlot",
    "derive_seed",
    "initialize",
    "preset",
    "preset_models",
    "readout",
]
