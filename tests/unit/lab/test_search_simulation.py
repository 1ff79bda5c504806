"""False alarms of equal learners whose options are searched: the short form of the table."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scipy import stats

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("simulate_search", SCRIPTS / "simulate_search.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "simulate_search", module)
    spec.loader.exec_module(module)
    return module


def most(rounds: int) -> float:
    """So many alarms have a chance of one in a thousand at a level of 5%."""
    return float(stats.binom.ppf(0.999, rounds, 0.05))


@pytest.mark.parametrize("protocol", ["nested", "split"])
def test_false_alarms_are_rare_where_every_fold_or_seed_is_searched(
    simulation: ModuleType, protocol: str
) -> None:
    assert simulation.count_alarms(protocol, 2, 15, anew=True) <= most(15)


def test_on_a_split_they_are_not_where_one_search_serves_all_seeds(simulation: ModuleType) -> None:
    assert simulation.count_alarms("split", 2, 60, anew=False) > most(60)
