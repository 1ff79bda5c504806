"""Conformance checks for normalizations and backends, awkward inputs, computed tolerances."""

from graphnorms.testing.awkward import AwkwardCase, awkward_cases
from graphnorms.testing.backend_checks import check_backend
from graphnorms.testing.norm_checks import check_norm
from graphnorms.testing.tolerance import tolerance
from graphnorms.testing.violations import ConformanceError

__all__ = [
    "AwkwardCase",
    "ConformanceError",
    "awkward_cases",
    "check_backend",
    "check_norm",
    "tolerance",
]
