"""Replaces the norms of existing models by ours, and passes them the batch."""

from graphnorms.dropin.batch_of import batch
from graphnorms.dropin.folding import Folding, fold
from graphnorms.dropin.known_norms import resolve_norm
from graphnorms.dropin.replace import convert_sync, replace_norms
from graphnorms.dropin.result import Change, Replacement

__all__ = [
    "Change",
    "Folding",
    "Replacement",
    "batch",
    "convert_sync",
    "fold",
    "replace_norms",
    "resolve_norm",
]
