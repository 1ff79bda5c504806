"""One trial: its config, its loop, its record.

A module is loaded when one of its names is used: the list of runs reads records without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphnorms.training.metrics import (
        DEFAULT_METRICS,
        METRICS,
        Metric,
        metric_for,
        metric_named,
        score,
    )
    from graphnorms.training.pace import Pace, measure_pace
    from graphnorms.training.predictor import Predictor, load_model, save_checkpoint
    from graphnorms.training.record import Record
    from graphnorms.training.trial import run_trial, threads, train
    from graphnorms.training.trial_config import (
        TrainingDefaults,
        TrialConfig,
        content_hash,
        training_defaults,
        treatment_of,
    )

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Metric",
    "Pace",
    "Predictor",
    "Record",
    "TrainingDefaults",
    "TrialConfig",
    "content_hash",
    "load_model",
    "measure_pace",
    "metric_for",
    "metric_named",
    "run_trial",
    "save_checkpoint",
    "score",
    "threads",
    "train",
    "training_defaults",
    "treatment_of",
]

_MODULES = ("trial_config", "record", "metrics", "pace", "predictor", "trial")
"""The modules that define these names; those that need no torch come first."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:
        for module in map(__getattr__, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
