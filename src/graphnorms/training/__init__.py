"""One trial: its config, training loop, metrics, record and model file."""

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
]
