"""The studies: claims of the literature about normalization, each measured by one command."""

from graphnorms.studies.catalog import NAMES, study_named
from graphnorms.studies.study import Case, Finding, Measurement, Settings, Study, Values

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
