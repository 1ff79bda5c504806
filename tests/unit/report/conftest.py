from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.records import synthetic_records

from graphnorms.training.record import Record


@pytest.fixture(scope="session")
def make_records() -> Callable[..., list[Record]]:
    return synthetic_records
