"""The studies: claims of the literature about normalization, each measured by one command."""

from graphnorms.studies.study import Case, Finding, Measurement, Settings, Study, Values
from graphnorms.studies.study_list import NAMES, study_named

__all__ = [
    "NAMES",
    "Case",
    "Finding",
    "Measurement",
    "Settings",
    "Study",
    "Values",
    "study_named",
]
