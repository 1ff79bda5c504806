"""Verdicts on records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphnorms.lab.judge import Terms
from graphnorms.lab.judge import judge as judge_trials
from graphnorms.lab.trials import Trials, group_trials
from graphnorms.lab.verdict import Verdict
from graphnorms.training.record import Record


def judge(
    records: Iterable[Record], *, protocol: str, norms: Sequence[str] = (), **terms: Any
) -> Verdict:
    """Judge records, given the fields of `Terms`."""
    return judge_trials(group_trials(records, norms, protocol=protocol), Terms(**terms))


def judged(records: Sequence[Record], *, protocol: str, **terms: Any) -> tuple[Trials, Verdict]:
    """Return the trials of records, and the verdict on them."""
    verdict = judge(records, protocol=protocol, **terms)
    return trials_of(records, verdict), verdict


def trials_of(records: Iterable[Record], verdict: Verdict) -> Trials:
    """Group the records that a verdict was found for."""
    norms = [row.norm for row in verdict.rows]
    return group_trials(records, norms, protocol=verdict.protocol)
