"""The sentences on trials that failed or were not run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphnorms.lab.phrases import Name, listing

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict

LONGEST_REASON = 90


def failures(verdict: Verdict, name: Name) -> str:
    """Name what failed, with the reason, and what was not run; empty if all went well."""
    sentences = []
    final = _failed(
        [(name(row.norm), row.failed, row.planned, row.reasons) for row in verdict.rows], "trials"
    )
    if final:
        sentences.append(
            f"Failed: {final}; a failed trial counts as missing the target and is left out of "
            "the scores."
        )
    # In protocol "paper" the trials of the chosen rate are among those that choose it.
    tried = _failed(
        [
            (name(row.norm), row.tried_failed, row.tried, row.tried_reasons)
            for row in verdict.rows
            if not (verdict.optimistic and row.tried_failed == row.failed)
        ],
        "trials that choose the learning rate",
    )
    if tried:
        sentences.append(f"Failed: {tried}.")
    planned = verdict.planned_of_norm
    missing = sum(max(0, planned - verdict.ended(row)) for row in verdict.rows)
    if missing:
        short = [
            f"{name(row.norm)} has {row.trials}"
            for row in verdict.rows
            if row.trials < row.planned and not row.judged
        ]
        # Where every norm falls short the sentence on scores has said so.
        told = 0 < len(short) < len(verdict.rows)
        scored = "" if planned == verdict.planned else "of those with a score "
        why = f" ({scored}{listing(short)} of {verdict.planned}: too few to judge)" if told else ""
        sentences.append(f"Not run: {missing} of {planned * len(verdict.rows)} trials{why}.")
    return " ".join(sentences)


def _failed(rows: Sequence[tuple[str, int, int, tuple[tuple[str, int], ...]]], what: str) -> str:
    alike: dict[tuple[str, str], list[str]] = {}
    for norm, failed, of, reasons in rows:
        if failed:
            count = f"{'all' if failed == of else f'{failed} of'} {of}"
            alike.setdefault((count, _reason(reasons)), []).append(norm)
    return listing(
        f"{listing(norms)} failed in {count} {what}{' each' if len(norms) > 1 else ''} ({why})"
        for (count, why), norms in alike.items()
    )


def _reason(reasons: tuple[tuple[str, int], ...]) -> str:
    reason = reasons[0][0]
    if len(reason) > LONGEST_REASON:
        reason = reason[: LONGEST_REASON - 1] + "…"
    others = len(reasons) - 1
    return f"{reason}, and {others} other reason{'s' * (others > 1)}" if others else reason
