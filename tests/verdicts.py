"""Verdicts on records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphnorms.lab.judge import Terms
from graphnorms.lab.judge import judge as judge_trials
from graphnorms.lab.trials import group_trials
from graphnorms.lab.verdict import Verdict
from graphnorms.training.record import Record


def judge(
    records: Iterable[Record], *, protocol: str, norms: Sequence[str] = (), **terms: Any
) -> Verdict:
    """Judge records, given the fields of `Terms`."""
    return judge_trials(group_trials(records, norms, protocol=protocol), Terms(**terms))
