"""Awkward inputs and computed tolerances, for testing normalizations."""

from graphnorms.testing.awkward import AwkwardCase, awkward_cases
from graphnorms.testing.tolerance import tolerance

__all__ = ["AwkwardCase", "awkward_cases", "tolerance"]
