"""Preconditioning: the theorem on real graphs, the descent in closed form, and the rule."""

from __future__ import annotations

import pytest
import torch

from graphnorms.studies.claim_preconditioning import PARTS, STUDY, TARGET, _steps, distance
from graphnorms.studies.study import Case, Settings, Values
from tests.unit.studies.hand_made import judged, run_tiny


def test_end_to_end() -> None:
    for each in run_tiny(STUDY):
        values = each.values
        assert values["violations"] == 0
        assert len(values["ratios"]) == 5
        plain, centered = values["spectrum"]
        allowed = 1e-10 * plain[0]
        assert all(q >= qn - allowed for q, qn in zip(plain, centered, strict=True))
        assert all(qn >= q - allowed for q, qn in zip(plain[1:], centered, strict=False))
        assert abs(centered[-1]) < allowed


def test_distance_is_that_of_gradient_descent() -> None:
    gram = torch.diag(torch.tensor([1.0, 0.3, 0.01], dtype=torch.float64))
    teachers = torch.eye(3, dtype=torch.float64)
    found = torch.zeros_like(teachers)
    for _ in range(7):
        found -= gram @ (found - teachers)  # the step 1/λ₁ is 1
    far = torch.linalg.vector_norm(found - teachers) / torch.linalg.vector_norm(teachers)
    assert distance(gram.diagonal(), 7) == pytest.approx(float(far))


@pytest.mark.parametrize("condition", [1.0, 3.0, 500.0, 13193.0])
def test_steps_are_the_first_within_the_target(condition: float) -> None:
    eigenvalues = torch.tensor([1.0, 1 / condition], dtype=torch.float64)
    steps = _steps(eigenvalues)
    assert distance(eigenvalues, steps) <= TARGET
    assert steps == 1 or distance(eigenvalues, steps - 1) > TARGET


def test_parts_have_no_graph_in_common() -> None:
    cases = [case for case in STUDY.cases(Settings()) if case["set"] == "MUTAG"]
    numbers = [len(STUDY.measure(case, Settings())["ratios"]) for case in cases[:PARTS]]
    assert sum(numbers) == 188
    assert max(numbers) - min(numbers) <= 1


def values_with(
    part: int,
    ratio: float = 0.9,
    condition: float = 0.3,
    steps: float = 0.3,
    violations: int = 0,
    noise: float = 0.02,
) -> Values:
    wobble = 1 + noise * (part % 3 - 1)
    return {
        "ratios": [ratio * (1 + noise * each / 10) for each in (-1, 0, 1)],
        "violations": violations,
        "plain condition": 100.0,
        "centered condition": 100 * condition * wobble,
        "plain steps": 500,
        "centered steps": 500 * steps * wobble,
    }


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "confirmed"),
        ({"violations": 1}, "not confirmed"),
        ({"ratio": 1.01}, "not confirmed"),  # the largest does not shrink
        ({"condition": 1.2}, "not confirmed"),
        ({"steps": 1.2}, "not confirmed"),  # no faster
        ({"steps": 0.9}, "inconclusive"),
        ({"condition": 0.7, "noise": 0.9}, "inconclusive"),
    ],
)
def test_rule(changed: dict[str, float], verdict: str) -> None:
    def of(case: Case) -> Values:
        # One set decides against all the others.
        decides = case["set"] == "nci5k" and case["aggregation"] == "gcn"
        return values_with(int(case["part"]), **(changed if decides else {}))  # type: ignore[arg-type]

    assert judged(STUDY, of).verdict == verdict
