"""One trial: its config, its loop, its record."""

from graphnorms.training.config import TrialConfig, content_hash
from graphnorms.training.defaults import TrainingDefaults, training_defaults
from graphnorms.training.record import Record
from graphnorms.training.trial import run_trial

__all__ = [
    "Record",
    "TrainingDefaults",
    "TrialConfig",
    "content_hash",
    "run_trial",
    "training_defaults",
]
