"""The figures of a comparison, each defined once for page, files and notebooks.

They show what the verdict and its trials hold. Names, colours and order come from `style` and
the verdict, what a figure is from `chart`. Scores that are fractions are shown in percent, others
in the target's unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from graphnorms.errors import unknown_name
from graphnorms.lab.speed import times_to_target
from graphnorms.report.chart import Figure
from graphnorms.report.curve_figures import learning_curves, rate_sensitivity
from graphnorms.report.pair_figures import pairwise
from graphnorms.report.trial_figures import score_by_pair, time_to_target

if TYPE_CHECKING:
    from graphnorms.lab.trials import Trials
    from graphnorms.lab.verdict import Verdict

FIGURES: Final = (
    "learning_curves",
    "learning_curves_by_second",
    "score_by_pair",
    "rate_sensitivity",
    "time_to_target",
    "pairwise",
)
"""What can be drawn; not every comparison has all."""


def figures_of(trials: Trials, verdict: Verdict) -> dict[str, Figure]:
    """Return every figure that a comparison has, by name.

    Args:
        trials: Those of the comparison.
        verdict: What `graphnorms.lab.judge.judge` says of them.
    """
    if verdict.best is None:
        return {}
    found = [learning_curves(trials, verdict)]
    if any(of_norm.seconds().size for of_norm in trials.values()):
        found.append(learning_curves(trials, verdict, "seconds"))
    found.append(score_by_pair(trials, verdict))
    if any(row.sensitivity is not None and row.sensitivity.judged for row in verdict.rows):
        found.append(rate_sensitivity(verdict))
    if verdict.target is not None:
        found.append(time_to_target(times_to_target(trials, verdict.target), verdict))
    if verdict.differences:
        found.append(pairwise(verdict))
    return {figure.name: figure for figure in found}


def draw(name: str, trials: Trials, verdict: Verdict) -> Figure:
    """Return one of `FIGURES`; arguments as for `figures_of`.

    Raises:
        ValueError: There is no such figure, or not of this comparison.
    """
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES)
    found = figures_of(trials, verdict)
    if name not in found:
        raise ValueError(
            f"this comparison has no figure {name!r}; it has {', '.join(found) or 'none'}"
        )
    return found[name]
