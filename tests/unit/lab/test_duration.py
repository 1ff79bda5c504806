"""How long a comparison would take: what is measured and what is added up, not how long it is."""

from __future__ import annotations

import pytest
import torch

from graphnorms import training
from graphnorms.data import load_dataset
from graphnorms.lab.duration import estimate
from graphnorms.lab.options import Options
from graphnorms.lab.plan import Plan
from graphnorms.lab.resolve import resolve
from graphnorms.lab.schedule import Schedule, code_versions
from graphnorms.training import Pace


@pytest.fixture(scope="module")
def mutag():
    return load_dataset("MUTAG")


@pytest.fixture
def make(mutag, tmp_path):
    def make(workers: int = 1, **changes) -> Plan:
        choices = {"norms": "none,graph", "learning_rate": (0.001, 0.01), "folds": 3, **changes}
        settings = resolve(Options(**choices), mutag, "MUTAG")
        schedule = Schedule(
            settings=settings, fingerprint=mutag.fingerprint, versions=code_versions()
        )
        return Plan(
            schedule=schedule,
            dataset=mutag,
            options=Options(workers=workers),
            folder=tmp_path / "run",
            command="",
        )

    return make


@pytest.fixture
def paces(monkeypatch):
    """Norms with paces that are known; the configs that were measured."""
    measured = []

    def measure(config, dataset, *, factory=None, norms=None):
        measured.append(config)
        assert torch.get_num_threads() == 1, "as in a worker"
        step = {"none": 0.5, "graph": 0.25}[config.norm]
        return Pace(start=2.0, step=step, evaluation=1.0, steps=3, steps_per_epoch=4, scoring=0.125)

    monkeypatch.setattr(training, "measure_pace", measure)
    return measured


def test_the_trials_of_every_norm_are_added_up(make, paces):
    plan = make(epochs=10)
    found = estimate(plan)
    trials = 3 * 2 + 3  # selecting and reported; the latter score their training items
    steps = trials * (2 + 10 * (4 * 0.5 + 1)) + trials * (2 + 10 * (4 * 0.25 + 1))
    assert found.seconds == steps + 2 * 3 * 10 * 0.125
    assert (found.steps, found.quickest, found.slowest) == (3, 0.25, 0.5)
    assert sorted(config.norm for config in paces) == ["graph", "none"], "each norm once"
    assert {config.epochs for config in paces} == {10}
    assert estimate(make(workers=2, epochs=10)).seconds == found.seconds / 2


@pytest.mark.parametrize(
    "choices", [{"protocol": "paper"}, {"protocol": "split", "folds": None}, {"learning_rate": 1.0}]
)
def test_every_protocol_has_an_estimate(make, paces, choices):
    plan = make(epochs=1, **choices)
    found = estimate(plan)
    steps = plan.settings.planned / 2 * ((2 + 4 * 0.5 + 1) + (2 + 4 * 0.25 + 1))
    assert found.seconds == steps + 2 * plan.settings.reported_trials * 0.125


def test_a_measurement_leaves_threads_and_disk_as_they_were(make, threads, tmp_path):
    torch.set_num_threads(2)
    found = estimate(make(epochs=2))
    assert torch.get_num_threads() == 2
    assert found.seconds > 0
    assert 0 < found.quickest <= found.slowest
    assert found.steps >= 1
    assert list(tmp_path.iterdir()) == []
