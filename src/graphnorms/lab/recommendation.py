"""Which of the norms that cannot be told from the best to use, and by which numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnorms.lab.pairs import PairedTest, not_told_apart

if TYPE_CHECKING:
    from graphnorms.lab.verdict import NormSummary


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The norm to use, and what decided.

    Args:
        norm: Catalogue name.
        among: The norms that cannot be told from the best by score.
        soonest: Of these, those that cannot be told from the soonest to the target.
        decided_by: `"score"` (it is the only one), `"speed"`, `"robustness"`, `"simplicity"` or
            `"order"` (nothing told them apart, and the better mean score was taken).
        steps_to_target: Median; None if it has none.
        near, rates: Learning rates near its best, of how many, see `rates.Sensitivity`.
        extra_parameters: Parameters more than the baseline has; None if that is not known.
        needs: What it needs besides features and graphs.
    """

    norm: str
    among: tuple[str, ...]
    soonest: tuple[str, ...]
    decided_by: str
    steps_to_target: float | None
    near: int
    rates: int
    extra_parameters: int | None
    needs: tuple[str, ...]


def recommend(
    rows: Sequence[NormSummary],
    tied: Sequence[str],
    speed_order: Sequence[str],
    speed_differences: Sequence[PairedTest],
    baseline: str,
) -> Recommendation | None:
    """Choose among the norms that cannot be told from the best by score.

    First speed: those that cannot be told from the soonest of them. Of these, first those whose
    trials did not fail, then the least dependent on the learning rate: the most rates of the
    grid near the best. Then the simplest: the fewest needs, then the fewest parameters. What
    is equal in all stays in the order of the mean score.

    Args:
        rows: Summaries, best score first.
        tied: Norms that cannot be told from the best; empty if nothing was judged.
        speed_order: Norms by the steps to the target, soonest first.
        speed_differences: The tests of speed.
        baseline: The norm that parameters are counted from.
    """
    if not tied:
        return None
    candidates = [row for row in rows if row.norm in tied]
    running = [norm for norm in speed_order if norm in tied]
    soonest = not_told_apart(
        running[0] if running else None,
        [test for test in speed_differences if {test.first, test.second} <= set(tied)],
    )
    fast = [row for row in candidates if row.norm in soonest] or candidates
    decided_by = (
        "score" if len(candidates) == 1 else "speed" if len(fast) < len(candidates) else "order"
    )
    left = fast
    for name, key in (("robustness", _fragility), ("simplicity", _complexity)):
        least = min(key(row) for row in left)
        kept = [row for row in left if key(row) == least]
        if len(kept) < len(left):
            decided_by = name
        left = kept
    chosen = left[0]
    counted = {row.norm: row.parameters for row in rows}
    own, plain = chosen.parameters, counted.get(baseline)
    return Recommendation(
        norm=chosen.norm,
        among=tuple(tied),
        soonest=tuple(row.norm for row in fast),
        decided_by=decided_by,
        steps_to_target=chosen.steps_to_target,
        near=_near(chosen),
        rates=len(chosen.sensitivity.rates) if chosen.sensitivity else 0,
        extra_parameters=None if own is None or plain is None else own - plain,
        needs=chosen.needs,
    )


def _fragility(row: NormSummary) -> tuple[int, int]:
    return int(bool(row.failed + row.tried_failed)), -_near(row)


def _complexity(row: NormSummary) -> tuple[int, int]:
    return len(row.needs), row.parameters or 0


def _near(row: NormSummary) -> int:
    return row.sensitivity.near if row.sensitivity is not None else 0
