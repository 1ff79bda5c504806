"""Preconditioning: the theorem on real graphs, the descent in closed form, and the rule."""

from __future__ import annotations

import pytest
import torch

from graphnorms.studies.preconditioning import STUDY, TARGET, _descend
from graphnorms.studies.study import Case, Values
from tests.unit.studies.hand_made import judged, run_tiny


def test_end_to_end() -> None:
    for each in run_tiny(STUDY):
        values = each.values
        assert values["violations"] == 0
        assert sum(values["histogram"]) == values["graphs"] == 20
        plain, centered = values["plain"], values["centered"]
        allowed = 1e-10 * plain[0]
        assert all(q >= qn - allowed for q, qn in zip(plain, centered, strict=True))
        assert all(qn >= q - allowed for q, qn in zip(plain[1:], centered, strict=False))
        assert abs(centered[-1]) < allowed


def test_descent_is_that_of_the_eigenvalues() -> None:
    # Along an eigenvector the error shrinks by 1 - λ/λ₁ at every step, and the loss by its square.
    gram = torch.diag(torch.tensor([1.0, 0.1], dtype=torch.float64))
    curve, steps = _descend(gram, torch.eye(2, dtype=torch.float64)[:, [1, 0]])
    assert curve[0] == (0, 1.0)
    assert [loss for _, loss in curve] == pytest.approx([0.9 ** (2 * step) for step, _ in curve])
    assert steps[0] == next(k for k in range(99) if 0.9 ** (2 * k) <= TARGET)
    assert steps[1] == 1  # the largest eigenvalue's own direction takes one step


def values_with(
    ratio: float = 0.9, speed: float = 0.5, violations: int = 0, noise: float = 0.1
) -> Values:
    spread = [1 + noise * (k % 3 - 1) for k in range(20)]
    return {
        "graphs": 100, "violations": violations,
        "mean": ratio, "low": ratio - noise / 10, "high": ratio + noise / 10,
        "plain steps": [100.0] * 20, "centered steps": [100 * speed * each for each in spread],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (values_with(), "confirmed"),
        (values_with(violations=1), "not confirmed"),
        (values_with(ratio=1.01, noise=0.01), "not confirmed"),  # the largest does not shrink
        (values_with(speed=1.2), "not confirmed"),  # no faster
        (values_with(speed=0.9), "inconclusive"),
        (values_with(noise=0.95), "inconclusive"),
    ],
)
def test_rule(values: Values, verdict: str) -> None:
    def of(case: Case) -> Values:
        # One set decides against all the others.
        return values if case["set"] == "nci5k" and case["aggregation"] == "gcn" else values_with()

    assert judged(STUDY, of).verdict == verdict
