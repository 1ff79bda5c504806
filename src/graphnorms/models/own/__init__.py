"""Models of the user's own: found, made with a normalization, and run on the lab's batches."""

from graphnorms.models.own.build import NormMaker, build_own
from graphnorms.models.own.model import ModelFactory, OwnModel, OwnModelConfig

__all__ = ["ModelFactory", "NormMaker", "OwnModel", "OwnModelConfig", "build_own"]
