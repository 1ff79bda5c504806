"""Models of energies and forces of atoms."""

from graphnorms.models.force.force_config import FORCE_MODELS, ForceModelConfig
from graphnorms.models.force.force_model import ForceModel
from graphnorms.models.force.force_norms import EQUIVARIANT_NORMS, make_equivariant_norm
from graphnorms.models.force.harmonics import SelfProduct, spherical_harmonics

__all__ = [
    "EQUIVARIANT_NORMS",
    "FORCE_MODELS",
    "ForceModel",
    "ForceModelConfig",
    "SelfProduct",
    "make_equivariant_norm",
    "spherical_harmonics",
]
