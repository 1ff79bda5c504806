from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.records import synthetic_records
from tests.verdicts import judge, trials_of

from graphnorms.lab.verdict import Verdict
from graphnorms.report.page import render_page
from graphnorms.training.record import Record

SMALL = {"folds": 8, "epochs": 5, "rates": (0.003, 0.01, 0.03)}


@pytest.fixture(scope="session")
def make_records() -> Callable[..., list[Record]]:
    """Make the records of a comparison that is as small as one that can be judged."""

    def make(*norms, **choice) -> list[Record]:
        return synthetic_records(*norms, **{**SMALL, **choice})

    return make


@pytest.fixture(scope="session")
def records(make_records: Callable[..., list[Record]]) -> list[Record]:
    """A comparison of five norms, every trial done."""
    return make_records()


@pytest.fixture(scope="session")
def verdict(records: list[Record]) -> Verdict:
    return judge(records, protocol="nested")


@pytest.fixture(scope="session")
def html(records: list[Record], verdict: Verdict) -> str:
    settings = {"dataset": "MUTAG", "model": "gin", "norms": ["none", "graph"], "epochs": 30}
    command = "graphnorms compare MUTAG --norms none,graph"
    return render_page(trials_of(records, verdict), verdict, settings, command)
