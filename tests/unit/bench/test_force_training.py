"""Training steps of a model: what is timed computes the same, and a wrong formula is not timed."""

from __future__ import annotations

import pytest

from graphnorms.bench import force_training
from graphnorms.bench.bench_settings import Settings
from graphnorms.bench.number_checks import WrongNumbersError
from graphnorms.bench.session import Session

QUICK = Settings(quick=True, rounds=1, dtypes=("float64", "bfloat16"))


def test_ours_and_the_formula() -> None:
    session = Session(QUICK)
    (case,) = force_training.measure_training(session)
    assert set(case.values) == {"EquivariantRMSNorm", "no norm", "fairchem's formula"}
    assert case.baselines == ("fairchem's formula",)
    (check,) = session.checks
    assert check.error < 1e-12
    assert not list(force_training.measure_training(Session(Settings(norms=("graph",)))))


def test_wrong_numbers_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    init = force_training.PlainRMSNorm.__init__

    def unbalanced(self: force_training.PlainRMSNorm, norm: object) -> None:
        init(self, norm)  # type: ignore[arg-type]
        self.balance.fill_(1 / 9)

    monkeypatch.setattr(force_training.PlainRMSNorm, "__init__", unbalanced)
    with pytest.raises(WrongNumbersError, match="training step"):
        list(force_training.measure_training(Session(QUICK)))
