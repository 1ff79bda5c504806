"""Whether norms started alike, from records made by hand."""

from __future__ import annotations

from graphnorms.lab.equal_starts import Agreement, starts_of, starts_sentence
from graphnorms.training.record import Record


def record(norm: str, fold: int = 0, *, stage: str = "final", status: str = "done", **start):
    config = {
        "norm": norm, "stage": stage, "run": 0, "seed": 10 * fold,
        "split": {"kind": "fold", "folds": 2, "fold": fold}, "model": {"trial": "mine"},
    }  # fmt: skip
    return Record(key=f"{norm}{fold}{stage}", config=config, status=status, start=start)


def test_the_lab_s_own_trials_are_not_compared() -> None:
    ours = Record(key="", config={"norm": "graph", "model": {"name": "gin"}}, status="done")
    assert starts_of([ours]) is None
    assert starts_of([record("graph", weights="a")]) is None


def test_equal_and_different_starts_are_counted() -> None:
    found = starts_of(
        [
            record("none", 0, weights="a", order=["x", "y"]),
            record("graph", 0, weights="a", order=["x", "y", "z"]),
            record("layer", 0, weights="a", order=["x", "y"]),
            record("none", 1, weights="b", order=["x", "y"]),
            record("graph", 1, weights="c", order=["x", "w"]),
            record("layer", 1, weights="b", order=["x", "y"]),
            record("pair", 1, status="failed"),
        ]
    )
    assert found is not None
    half = Agreement(groups=2, equal=1, differing=1, norms=("graph",))
    assert found.weights == half
    assert found.order == half  # a trial that ends early has fewer passes
    assert "1 of 2 groups" in starts_sentence(found, str)


def test_what_was_not_seen_is_not_called_equal() -> None:
    found = starts_of([record("none", weights="a"), record("graph")])
    assert found is not None
    assert found.weights == found.order == Agreement(groups=1, equal=0, differing=0)
    text = starts_sentence(found, str)
    assert text.count("not seen") == 2
    part = starts_of(
        [
            *(record(norm, 0, weights="a", order=["x"]) for norm in ("none", "graph")),
            *(record(norm, 1, weights="a") for norm in ("none", "graph")),
        ]
    )
    assert part is not None
    assert part.weights == Agreement(groups=2, equal=2, differing=0)
    assert part.order == Agreement(groups=2, equal=1, differing=0)
