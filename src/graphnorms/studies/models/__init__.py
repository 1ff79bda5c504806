"""Models that only studies use."""

from graphnorms.studies.models.images import ConvNet, ImageNorm
from graphnorms.studies.models.lstm import LSTM, LSTMCell, RecurrentNet, StepNorm
from graphnorms.studies.models.random_filters import RandomFilters, gram_matrices
from graphnorms.studies.models.sequence_transformer import SequenceTransformer
from graphnorms.studies.models.stylizer import Stylizer

__all__ = [
    "LSTM",
    "ConvNet",
    "ImageNorm",
    "LSTMCell",
    "RandomFilters",
    "RecurrentNet",
    "SequenceTransformer",
    "StepNorm",
    "Stylizer",
    "gram_matrices",
]
