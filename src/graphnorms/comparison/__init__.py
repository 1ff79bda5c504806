"""Compare normalizations on one data set: the facade over data, trials, verdict and report.

comparison = graphnorms.compare("MUTAG", norms=("none", "batch", "graph"))
print(comparison)
"""

from graphnorms.comparison.facade import compare, prepare
from graphnorms.comparison.outcome import (
    Comparison,
    ComparisonInterrupted,
    ReportError,
    open_comparison,
)
from graphnorms.comparison.prediction import Predictions, predict
from graphnorms.comparison.progress import Status
from graphnorms.comparison.several import report_several

__all__ = [
    "Comparison",
    "ComparisonInterrupted",
    "Predictions",
    "ReportError",
    "Status",
    "compare",
    "open_comparison",
    "predict",
    "prepare",
    "report_several",
]
