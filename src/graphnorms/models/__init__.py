"""GCN, GIN and GINE as H' = F(Norm(W · H · Q))."""

from graphnorms.models.config import MODELS, PRESETS, ModelConfig, preset
from graphnorms.models.convolutions import GCNConv, GINConv, GINEConv
from graphnorms.models.gnn import GNN
from graphnorms.models.initialize import derive_seed, initialize
from graphnorms.models.readout import readout

__all__ = [
    "GNN",
    "MODELS",
    "PRESETS",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "ModelConfig",
    "derive_seed",
    "initialize",
    "preset",
    "readout",
]
