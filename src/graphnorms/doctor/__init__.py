"""A doctor for the norms of a model: facts on real batches, and findings ordered by harm."""

from graphnorms.doctor.inspection import Finding, Inspection, inspect
from graphnorms.doctor.rules import RANKS, RULES

__all__ = ["RANKS", "RULES", "Finding", "Inspection", "inspect"]
