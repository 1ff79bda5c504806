"""User-defined models: finding them, building them with a normalization, and running them."""

from graphnorms.models.own.build import NormMaker, build_own
from graphnorms.models.own.model import ModelFactory, OwnModel, OwnModelConfig

__all__ = ["ModelFactory", "NormMaker", "OwnModel", "OwnModelConfig", "build_own"]
