"""Models with the normalization as an argument: on graphs, rows, images and sequences."""

from graphnorms.models.blocks import Blocks
from graphnorms.models.config import MODELS, PRESETS, ModelConfig, preset, preset_models
from graphnorms.models.convolutions import GCNConv, GINConv, GINEConv
from graphnorms.models.gnn import GNN
from graphnorms.models.graph_transformer import GraphTransformer
from graphnorms.models.images import ConvNet, ImageNorm
from graphnorms.models.initialize import derive_seed, initialize
from graphnorms.models.lstm import LSTM, LSTMCell, RecurrentNet, StepNorm
from graphnorms.models.mlp import MLP
from graphnorms.models.own import ModelFactory, NormMaker, OwnModel, OwnModelConfig, build_own
from graphnorms.models.placement import ACTIVATIONS, PlacedNorm
from graphnorms.models.random_filters import RandomFilters, gram_matrices
from graphnorms.models.readout import readout
from graphnorms.models.sequence_transformer import SequenceTransformer
from graphnorms.models.slot import GraphContext, NormSlot
from graphnorms.models.stylizer import Stylizer
from graphnorms.models.transformer import Attention, Transformer, TransformerLayer

__all__ = [
    "ACTIVATIONS",
    "GNN",
    "LSTM",
    "MLP",
    "MODELS",
    "PRESETS",
    "Attention",
    "Blocks",
    "ConvNet",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "GraphContext",
    "GraphTransformer",
    "ImageNorm",
    "LSTMCell",
    "ModelConfig",
    "ModelFactory",
    "NormMaker",
    "NormSlot",
    "OwnModel",
    "OwnModelConfig",
    "PlacedNorm",
    "RandomFilters",
    "RecurrentNet",
    "SequenceTransformer",
    "StepNorm",
    "Stylizer",
    "Transformer",
    "TransformerLayer",
    "build_own",
    "derive_seed",
    "gram_matrices",
    "initialize",
    "preset",
    "preset_models",
    "readout",
]
