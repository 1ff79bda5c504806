"""What a study is: one claim of the literature, a way to measure it, and a rule that judges it.

A study is data and four functions, written down before anything is measured:

    cases(settings)             → what is measured, each case a small dictionary
    measure(case, settings)     → numbers of one case; everything random follows from the case
    judge(measurements, settings) → the finding, by the rule alone
    draw(measurements)          → the figure, from the same numbers

`measure` is the only one that costs time. Cases do not know of each other, so they can be
measured in any order and in any process, and an interrupted study goes on where it stopped.

A study is an instrument, and is calibrated before it is believed: `graphnorms.studies.planted`
has material for its measure on which the answer is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

Case = dict[str, str | int | float | bool]
"""What one measurement is of, `{"norm": "batch", "seed": 0}` say."""

Values = dict[str, Any]
"""What was measured: JSON-able, numbers that are not finite as `None`."""

Verdict = Literal["confirmed", "not confirmed", "inconclusive"]
VERDICTS: Final[tuple[Verdict, ...]] = ("confirmed", "not confirmed", "inconclusive")

Size = Literal["tiny", "planted", "default", "full"]
SIZES: Final[tuple[Size, ...]] = ("tiny", "planted", "default", "full")

CONFIDENCE: Final = 0.95
"""Coverage of the intervals of a study that is told alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a study is run.

    Args:
        size: `"default"`: within minutes on two cores; `"full"`: at a larger scale, which takes
            long; `"tiny"`: all of the way in seconds, whose verdict means nothing; `"planted"`:
            on planted material, small enough to be measured ten times in each world.
        seed: The seeds of the cases count from here; another one gives other numbers and the
            same kind of statement.
        data: A folder with larger data sets; without it, embedded and generated ones are used.
        confidence: Coverage of the intervals by which it is judged.
    """

    size: Size = "default"
    seed: int = 0
    data: Path | None = None
    confidence: float = CONFIDENCE

    def pick(self, *, tiny: T, default: T, full: T, planted: T | None = None) -> T:
        """Return what belongs to the size; the planted one is tiny where nothing is said."""
        small = tiny if planted is None else planted
        return {"tiny": tiny, "planted": small, "default": default, "full": full}[self.size]

    def seeds(self, *, tiny: int = 1, planted: int = 4, default: int, full: int) -> range:
        """Return as many seeds as belong to the size, from `seed` on; 1000 apart per `seed`."""
        first = 1000 * self.seed
        number = self.pick(tiny=tiny, planted=planted, default=default, full=full)
        return range(first, first + number)

    def together(self, claims: int) -> Settings:
        """Return the settings that judge one of several claims that are told together.

        Bonferroni: with intervals of 1 - 0.05 / claims, the chance that any verdict of the list
        is an error stays below 0.05.
        """
        return replace(self, confidence=1 - (1 - CONFIDENCE) / claims)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One case and what was measured of it."""

    case: Case
    values: Values


@dataclass(frozen=True, slots=True)
class Finding:
    """What came out.

    Args:
        verdict: By the study's rule alone.
        statement: What was measured, with the number that decided, in one or two sentences.
        numbers: What the rule looked at, by name; `None` where there is no number.
    """

    verdict: Verdict
    statement: str
    numbers: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A claim and all that it takes to measure it.

    Args:
        name: What the command line takes.
        claim: As the literature has it, in one sentence.
        source: Who claims it: authors, year, figure or theorem, address.
        prediction: What must be seen if the claim holds, with numbers, fixed beforehand.
        protocol: Data, model and measurement of the default size, in sentences.
        rule: When it is confirmed and when not; between them lies inconclusive.
        seconds: What the default size costs on two cores.
        changed: What was changed after a first result, which, and why.
        cases, measure, judge, draw: See the head of the module.
    """

    name: str
    claim: str
    source: str
    prediction: str
    protocol: str
    rule: str
    seconds: int
    cases: Callable[[Settings], list[Case]]
    measure: Callable[[Case, Settings], Values]
    judge: Callable[[Sequence[Measurement], Settings], Finding]
    draw: Callable[[Sequence[Measurement]], Figure]
    changed: str = ""


def measured(
    study: Study,
    case: Case,
    settings: Settings,
    measure: Callable[[Case, Settings], Values] | None = None,
) -> Measurement:
    """Measure one case, in the form in which it is kept.

    Args:
        study, case, settings: What.
        measure: In place of the study's own, on planted material.
    """
    return Measurement(case, _finite((measure or study.measure)(case, settings)))


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def where(measurements: Sequence[Measurement], **chosen: object) -> list[Measurement]:
    """Return the measurements whose case has all the values given."""
    return [
        measurement
        for measurement in measurements
        if all(measurement.case.get(key) == value for key, value in chosen.items())
    ]


def decide(confirmed: bool, refuted: bool) -> Verdict:
    """Return the verdict of two conditions that exclude each other."""
    if confirmed and refuted:
        raise ValueError("a rule confirmed and refuted the same numbers, expected one of them")
    return "confirmed" if confirmed else "not confirmed" if refuted else "inconclusive"
