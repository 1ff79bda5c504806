"""Graph neural networks with the normalization as an argument."""

from graphnorms.models.attention import Attention, Blocks
from graphnorms.models.convolutions import GCNConv, GINConv, GINEConv, SAGEConv
from graphnorms.models.edge_rows import EdgeRows
from graphnorms.models.force import FORCE_MODELS, ForceModel, ForceModelConfig
from graphnorms.models.gat import GATConv
from graphnorms.models.gated_gcn import GatedGCNConv
from graphnorms.models.gnn import GNN
from graphnorms.models.gps import GPSLayer
from graphnorms.models.initialize import derive_seed, initialize
from graphnorms.models.linear import Linear
from graphnorms.models.model_config import (
    EDGE_MODELS,
    MODELS,
    PRESETS,
    ModelConfig,
    preset,
    preset_models,
)
from graphnorms.models.norm_slot import ACTIVATIONS, GraphContext, NormSlot, PlacedNorm
from graphnorms.models.own import ModelFactory, NormMaker, OwnModel, OwnModelConfig, build_own
from graphnorms.models.readout import readout

__all__ = [
    "ACTIVATIONS",
    "EDGE_MODELS",
    "FORCE_MODELS",
    "GNN",
    "MODELS",
    "PRESETS",
    "Attention",
    "Blocks",
    "EdgeRows",
    "ForceModel",
    "ForceModelConfig",
    "GATConv",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "GPSLayer",
    "GatedGCNConv",
    "GraphContext",
    "Linear",
    "ModelConfig",
    "ModelFactory",
    "NormMaker",
    "NormSlot",
    "OwnModel",
    "OwnModelConfig",
    "PlacedNorm",
    "SAGEConv",
    "build_own",
    "derive_seed",
    "initialize",
    "preset",
    "preset_models",
    "readout",
]
