"""What the tests of the studies have in common: a tiny run, and measurements made by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

from graphnorms.studies.drawing import drawn
from graphnorms.studies.study import (
    VERDICTS,
    Case,
    Finding,
    Measurement,
    Settings,
    Study,
    Values,
    measure_case,
)


def run_tiny(study: Study) -> list[Measurement]:
    """Measure, keep, judge and draw at the tiny size; one case twice, to the same numbers."""
    settings = Settings(size="tiny")
    cases = study.cases(settings)
    assert len({json.dumps(case, sort_keys=True) for case in cases}) == len(cases)
    measurements = [measure_case(study, case, settings) for case in cases]
    assert measure_case(study, cases[0], settings) == measurements[0]
    kept = [
        Measurement(**json.loads(json.dumps({"case": one.case, "values": one.values})))
        for one in measurements
    ]
    assert kept == measurements
    finding = study.judge(kept, settings)
    assert finding.verdict in VERDICTS
    json.dumps(dict(finding.numbers), allow_nan=False)
    drawn(study.draw, kept).savefig(io.BytesIO(), format="svg")
    return measurements


def judged(study: Study, values: Callable[[Case], Values]) -> Finding:
    """Judge what would be measured if every case had these values, at the default size."""
    settings = Settings()
    return study.judge(
        [Measurement(case, values(case)) for case in study.cases(settings)], settings
    )


def scatter(case: Case, size: float = 0.01) -> float:
    """A factor around 1 that depends on the seed and on nothing else."""
    return 1 + size * (int(case["seed"]) % 3 - 1)
