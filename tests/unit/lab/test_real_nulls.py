"""Comparisons of a norm with itself, drawn from a bank of trials: the design, without training."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from graphnorms.data import random_graphs, save_npz
from graphnorms.training.record import Record
from graphnorms.training.trial_config import TrialConfig

SCRIPT = Path(__file__).parents[3] / "scripts" / "real_nulls.py"
SEEDS, PLACES, COPIES = 6, 9, 3


@pytest.fixture
def nulls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("real_nulls", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "real_nulls", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.resampling, "RESAMPLES", module.resampling.RESAMPLES)
    monkeypatch.chdir(tmp_path)
    save_npz(random_graphs(60, 8, 3), tmp_path / "made.npz")
    yield module
    module.resampling._weights.cache_clear()  # those of few resamples


def made_up(better: str | None = None):
    """Return what stands for training: scores from the seed; one rate may be far better."""

    def run(config: TrialConfig, graphs: object) -> Record:
        rng = np.random.default_rng(config.seed)
        score = 0.7 + 0.05 * rng.standard_normal()
        if better == "rate":
            score += 0.2 * (config.learning_rate == 0.005)
        curve = [0.6, 0.7, 0.8 + 0.01 * rng.integers(0, 5), 0.9]
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="done",
            history={"train_score": curve, "train_loss": [1.0] * 4},
            outcome={"test_score": score, "validation_score": score, "validation_loss": 1.0},
            counts={"train_items": 48, "test_items": 6, "steps_per_epoch": 2},
        )

    return run


def run(nulls: ModuleType, *more: str) -> list[dict]:
    nulls.main(
        [
            "made.npz",
            "--norms",
            "2,3",
            "--copies",
            str(COPIES),
            "--places",
            str(PLACES),
            "--seeds",
            str(SEEDS),
            "--comparisons",
            "20",
            "--bank",
            "bank.jsonl",
            "--out",
            "rows.json",
            *more,
        ]
    )
    return json.loads(Path("rows.json").read_text())


@pytest.mark.parametrize("protocol", ["split", "nested"])
def test_a_row_for_every_number_of_norms(
    nulls: ModuleType, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    trained: list[str] = []
    train = made_up()

    def counted(config: TrialConfig, graphs: object) -> Record:
        trained.append(config.key)
        return train(config, graphs)

    monkeypatch.setattr(nulls, "run_trial", counted)
    two, three = run(nulls, "--protocol", protocol)
    # A place and copy takes a trial per rate to choose; on a split all rates are reported too.
    places, reported = (PLACES, 3) if protocol == "split" else (10, 1)
    assert len(trained) == len(set(trained)) == two["trials"] == places * COPIES * (3 + reported)
    assert (two["norms"], three["norms"], two["comparisons"]) == (2, 3, 20)
    assert two["alarms"]["timed"] == 20
    assert two["alarms"]["score"] <= 4  # a chance of 0.3% at a level of 5%
    assert ("score, one rate" in two["alarms"]) == (protocol == "split")
    trained.clear()
    assert run(nulls, "--protocol", protocol) == [two, three]
    assert not trained


def bank_of(nulls: ModuleType, tmp_path: Path, **choices: object):
    from graphnorms.data import load_dataset
    from graphnorms.lab.journal import Journal
    from graphnorms.lab.options import Options
    from graphnorms.lab.prepare import prepare

    plan, _ = prepare(load_dataset("made.npz"), Options(norms=("none", "graph"), **choices))
    sets = [plan.dataset] * COPIES
    return nulls.Bank(plan, "graph", COPIES, sets, Journal(tmp_path / "b.jsonl"))


def test_copies_are_paired_as_norms_are(
    nulls: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nulls, "run_trial", made_up("rate"))
    bank = bank_of(nulls, tmp_path, protocol="split", runs=PLACES)
    one, other = (bank.trial("final", 2, copy, 0.005) for copy in (0, 1))
    assert (one.split, one.run, one.seed_of_order) == (other.split, other.run, other.seed_of_order)
    assert one.seed != other.seed
    chose = bank.trial("select", 2, 0, 0.005)
    assert len({one.seed, other.seed, chose.seed, bank.trial("final", 3, 0, 0.005).seed}) == 4

    judged, once = bank.draw(np.random.default_rng(0), 2, SEEDS, noisy=False)
    for treatments in (judged, once):
        finals = [
            {r.config["run"]: r.config for r in records if r.config["stage"] == "final"}
            for records in treatments
        ]
        assert finals[0].keys() == finals[1].keys()
        assert len(finals[0]) == SEEDS
        for run, config in finals[0].items():
            assert config["seed"] != finals[1][run]["seed"]
            assert config["order_seed"] == finals[1][run]["order_seed"]
            assert config["learning_rate"] == 0.005  # it is better by four deviations


def test_a_difference_is_counted(nulls: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that see noise of their own, one of which scores far better in every fold."""
    train = made_up()
    of_copy: dict[str, int] = {}

    def unequal(config: TrialConfig, graphs: object) -> Record:
        copy = of_copy.setdefault(config.fingerprint, len(of_copy))
        record = train(config, graphs)
        record.outcome["test_score"] += 0.25 * (copy == 0)
        return record

    monkeypatch.setattr(nulls, "run_trial", unequal)
    two, three = run(nulls, "--protocol", "nested", "--noise", "0.5")
    assert len(of_copy) == COPIES
    assert three["alarms"]["score"] == three["alarms"]["score, paired t"] == 20
    assert 0 < two["alarms"]["score"] < 20  # where that copy was drawn
