"""One trial: its config, its loop, its record.

A module is loaded when one of its names is used: the list of runs reads records without torch.
"""

from typing import TYPE_CHECKING, Any

from graphnorms.late import attribute

if TYPE_CHECKING:
    from graphnorms.training.metrics import (
        DEFAULT_METRICS,
        METRICS,
        Metric,
        metric_for,
        metric_named,
    )
    from graphnorms.training.pace import Pace, measure_pace
    from graphnorms.training.predictor import Predictor, load_model, save_checkpoint
    from graphnorms.training.record import Record
    from graphnorms.training.scores import score
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

_MODULES = ("trial_config", "record", "metrics", "scores", "pace", "predictor", "trial")
"""The modules that define these names; those that need no torch come first."""


def __getattr__(name: str) -> Any:
    return attribute(__name__, name, _MODULES)
