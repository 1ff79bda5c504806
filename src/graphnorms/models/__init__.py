"""Graph neural networks with the normalization as an argument."""

from graphnorms.models.convolutions import GCNConv, GINConv, GINEConv
from graphnorms.models.gnn import GNN
from graphnorms.models.initialize import derive_seed, initialize
from graphnorms.models.model_config import MODELS, PRESETS, ModelConfig, preset, preset_models
from graphnorms.models.norm_slot import ACTIVATIONS, GraphContext, NormSlot, PlacedNorm
from graphnorms.models.own import ModelFactory, NormMaker, OwnModel, OwnModelConfig, build_own
from graphnorms.models.readout import readout

__all__ = [
    "ACTIVATIONS",
    "GNN",
    "MODELS",
    "PRESETS",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "GraphContext",
    "ModelConfig",
    "ModelFactory",
    "NormMaker",
    "NormSlot",
    "OwnModel",
    "OwnModelConfig",
    "PlacedNorm",
    "build_own",
    "derive_seed",
    "initialize",
    "preset",
    "preset_models",
    "readout",
]
