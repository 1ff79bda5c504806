"""User-defined models: finding them, building them with a normalization, and running them."""

from graphnorms.models.own.build import NormMaker, build_own, call_with
from graphnorms.models.own.model import ModelFactory, OwnModel, OwnModelConfig, inputs_of, values_of

__all__ = [
    "ModelFactory",
    "NormMaker",
    "OwnModel",
    "OwnModelConfig",
    "build_own",
    "call_with",
    "inputs_of",
    "values_of",
]
