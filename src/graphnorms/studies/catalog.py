"""The studies by name, in the order in which they are listed; each is imported at first use."""

from __future__ import annotations

import importlib
from typing import Final

from graphnorms.errors import unknown_name
from graphnorms.studies.study import Study

NAMES: Final = (
    "activations",
    "convergence",
    "learning-rate",
    "initialization",
    "gradient-flow",
    "regularization",
    "covariate-shift",
    "landscape",
    "sequence-length",
    "batch-size",
    "residual-gradients",
    "warmup",
    "stylization",
    "preconditioning",
    "batch-noise",
    "mean-information",
    "alpha",
    "placement",
    "depth",
)


def study_named(name: str) -> Study:
    """Return a study by name: the `STUDY` of the module of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in NAMES:
        raise unknown_name("study", name, NAMES)
    module = importlib.import_module(f"graphnorms.studies.{name.replace('-', '_')}")
    study: Study = module.STUDY
    return study
