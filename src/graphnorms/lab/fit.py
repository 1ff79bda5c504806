"""Fit a comparison into a time: what is cut, in which order, and what it then takes.

Cut is only what the user has not given, and first what costs the least:

1. *Runs* of a fold. The values that are tested are means over the runs of a fold; fewer runs leave
   the number of values as it is, and add the noise of seeds alone.
2. *Learning rates*, to the lowest, the middle and the highest: the grid is as wide as before. Of a
   search, *proposals*, to half.
3. *Epochs*, to half. The learning rate falls to 0 by the last one, so a shorter training is whole.
4. *Folds*, or seeds on one split, to the fewest that are judged. These are the values that are
   tested: here a comparison loses power.
5. *Epochs*, to an eighth, and
6. *Learning rates*, to the middle one, or *proposals*, to three. Both change the question (early
   training; one rate for all norms), so they come last, and the plan says so.

Where user code trains, a trial is measured whole (`graphnorms.lab.pilot`) and epochs are not cut.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from graphnorms.lab.detectable import expected_of
from graphnorms.lab.duration import Expectation, estimate, seconds_of_trials
from graphnorms.lab.phrases import duration, several
from graphnorms.lab.pilot import run_pilot

if TYPE_CHECKING:
    from graphnorms.lab.plan import Plan
    from graphnorms.lab.settings import Settings

SPARE: Final = 0.8
"""Share of the time that is planned for: trials that run at a time slow each other down."""

_FEWEST_EPOCHS: Final = 5
_FEWEST_PROPOSALS: Final = 3
_OPTIONS: Final = {"learning_rates": "learning_rate"}
"""Options whose setting has another name."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A comparison that was cut to fit into a time.

    Args:
        settings: What is left.
        limit: The time, in seconds.
        seconds: What the rest is expected to take.
        cuts: What was cut, in words: `epochs 100 → 50`.
        caveats: How the cuts change the question, in sentences.
    """

    settings: Settings
    limit: float
    seconds: float
    cuts: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it without the settings, as JSON-able data."""
        return {
            "limit": self.limit,
            "seconds": self.seconds,
            "cuts": list(self.cuts),
            "caveats": list(self.caveats),
        }


def fit(plan: Plan, limit: float, measured: Expectation | None = None) -> Fitted:
    """Cut a planned comparison until it fits into a time, see the module.

    Args:
        plan: The comparison; what its options say is not cut.
        limit: Seconds that it may take.
        measured: What `estimate` found for the plan; None measures.

    Raises:
        ValueError: The least that can be judged takes longer.
    """
    pilot = run_pilot(plan, limit) if plan.trainer is not None else None
    paces = (pilot or measured or estimate(plan)).paces
    spent = 0.0 if pilot is None else pilot.seconds
    given = plan.options.said().keys()

    def seconds(settings: Settings) -> float:
        return spent + seconds_of_trials(settings, paces, plan)

    found = _cut(plan, given, limit, seconds)
    if seconds(found) > SPARE * limit:
        raise ValueError(_too_long(plan, given, limit, found, seconds))
    before = plan.settings
    return Fitted(
        settings=found,
        limit=limit,
        seconds=seconds(found),
        cuts=tuple(_words(before, found)),
        caveats=tuple(_caveats(before, found, spent)),
    )


def _cut(plan: Plan, given: Collection[str], limit: float, seconds: Any) -> Settings:
    """Return the settings cut step by step until they fit, or as far as they can be."""
    settings = plan.settings
    for name, values in _steps(plan):
        for value in () if _OPTIONS.get(name, name) in given else values:
            if seconds(settings) <= SPARE * limit:
                return settings
            settings = replace(settings, **{name: value})
    return settings


def _steps(plan: Plan) -> Iterator[tuple[str, Iterable[Any]]]:
    """Yield the settings to cut, and their smaller values, in the order in which they are cut."""
    settings = plan.settings
    rates, epochs = settings.learning_rates, settings.epochs
    middle = rates[len(rates) // 2] if rates else None
    if not settings.by_seed:
        yield "runs", range(settings.runs - 1, 0, -1)
    proposals = settings.proposals or 0
    if settings.search:
        yield "proposals", range(proposals - 1, max(_FEWEST_PROPOSALS, proposals // 2) - 1, -1)
    elif len(rates) > 3:
        yield "learning_rates", [(rates[0], middle, rates[-1])]
    fewest = max(_FEWEST_EPOCHS, settings.warmup + 1)
    half = max(fewest, math.ceil(epochs / 2))
    if plan.trainer is None:
        yield "epochs", range(epochs - 1, half - 1, -1)
    design = expected_of(settings, plan.dataset).design
    least = design.least(math.comb(len(settings.treatments), 2))
    if settings.by_seed:
        yield "runs", range(settings.runs - 1, least - 1, -1)
    elif settings.protocol != "split":
        yield "folds", range(settings.folds - 1, least - 1, -1)
    eighth = max(fewest, math.ceil(epochs / 8))
    if plan.trainer is None:
        yield "epochs", range(min(half, epochs) - 1, eighth - 1, -1)
    if settings.search:
        yield "proposals", range(proposals // 2 - 1, _FEWEST_PROPOSALS - 1, -1)
    elif len(rates) > 1:
        yield "learning_rates", [(middle,)]


def _words(before: Settings, after: Settings) -> Iterator[str]:
    """Say what was cut."""
    if before.runs != after.runs:
        what = "seeds" if before.by_seed else "runs per fold"
        yield f"{what} {before.runs} → {after.runs}"
    if before.learning_rates != after.learning_rates:
        rates = ", ".join(f"{rate:g}" for rate in after.learning_rates)
        yield f"learning rates {len(before.learning_rates)} → {len(after.learning_rates)} ({rates})"
    for name in ("proposals", "epochs", "folds"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name} {old} → {new}"


def _caveats(before: Settings, after: Settings, spent: float) -> Iterator[str]:
    """Say how the cuts change the question, and what it took to find them."""
    if spent:
        yield (
            f"A whole trial of every {after.noun} was run to measure this, in {duration(spent)} "
            "of that time."
        )
    if 2 * after.epochs < before.epochs:
        yield (
            f"{after.epochs} epochs compare early training: a norm that learns fast gains by that."
        )
    if len(before.learning_rates) > len(after.learning_rates) == 1:
        yield (
            f"One learning rate, {after.learning_rates[0]:g}, for all norms: a norm that needs "
            "another one loses by that."
        )
    if 2 * (after.proposals or 0) < (before.proposals or 0):
        yield (
            f"{after.proposals} proposals search {len(after.space)} options hardly at all: a norm "
            "that needs unusual values loses by that."
        )


def _too_long(
    plan: Plan, given: Collection[str], limit: float, least: Settings, seconds: Any
) -> str:
    """Say what the least takes, and which of the given options has the largest part in it."""
    start = f"time {duration(limit)} is too short: "
    needed = seconds(least) / SPARE
    shorter = {}
    for setting in ("runs", "learning_rates", "proposals", "epochs", "folds"):
        name = _OPTIONS.get(setting, setting)
        if name in given:
            without = _cut(plan, set(given) - {name}, limit, seconds)
            shorter[seconds(without) / SPARE] = name, getattr(least, setting)
    least_words = f"{least.planned} trials"
    if plan.trainer is None:
        tried = several(least.tries, "proposal" if least.search else "learning rate")
        least_words += f" of {least.epochs} epochs with {tried}"
    if shorter and min(shorter) < 0.9 * needed:
        name, value = shorter[min(shorter)]
        shown = ",".join(f"{each:g}" for each in value) if isinstance(value, tuple) else value
        return (
            f"{start}with {name} {shown} as given, the least that can be judged takes "
            f"{duration(needed)} ({least_words}); without it, {duration(min(shorter))}"
        )
    return (
        f"{start}the least that can be judged takes {duration(needed)} ({least_words}); give "
        "more time, name fewer norms, or use more machines (--engine)"
    )
