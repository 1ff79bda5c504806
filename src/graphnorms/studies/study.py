"""What a study is: a claim of the literature, a way to measure it, and a rule that judges it.

A study is data and four functions, all written before anything is measured:

    cases(settings)           → what is measured; each case is a small dictionary
    measure(case, settings)   → the numbers of one case; the case seeds everything random
    judge(measured, settings) → the finding, by the rule alone
    draw(measured)            → the figure, from the same numbers

Cases do not depend on each other: they are measured in any order and in any process, and an
interrupted study resumes. Two worlds calibrate the study: material on which the answer is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from graphnorms.report.text_table import TextTable

if TYPE_CHECKING:
    import matplotlib.figure

T = TypeVar("T")

Case = dict[str, str | int | float | bool]
"""What identifies one measurement, such as `{"norm": "batch", "seed": 0}`."""

Values = dict[str, Any]
"""What was measured: JSON-able; numbers that are not finite are `None`."""

Figure: TypeAlias = "matplotlib.figure.Figure"

Verdict = Literal["confirmed", "not confirmed", "inconclusive"]
VERDICTS: Final[tuple[Verdict, ...]] = ("confirmed", "not confirmed", "inconclusive")

Size = Literal["tiny", "planted", "default", "full"]
SIZES: Final[tuple[Size, ...]] = ("tiny", "planted", "default", "full")

CONFIDENCE: Final = 0.95
"""Coverage of the intervals of a study that is judged alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a study is run.

    Args:
        size: `"default"` takes minutes on two cores; `"full"` is larger and takes long; `"tiny"`
            runs everything in seconds, and its verdict means nothing; `"planted"` is small enough
            to measure each calibration world ten times.
        seed: The seeds of the cases count from here.
        data: A folder with larger data sets; `None` for embedded and generated ones.
        confidence: Coverage of the intervals that the rule looks at.
    """

    size: Size = "default"
    seed: int = 0
    data: Path | None = None
    confidence: float = CONFIDENCE

    def pick(self, *, tiny: T, default: T, full: T, planted: T | None = None) -> T:
        """Return the value for this size; `planted` defaults to `tiny`."""
        small = tiny if planted is None else planted
        return {"tiny": tiny, "planted": small, "default": default, "full": full}[self.size]

    def seeds(self, *, default: int, full: int, tiny: int = 1, planted: int = 4) -> range:
        """Return the seeds for this size; those of different `seed` do not overlap."""
        first = 1000 * self.seed
        number = self.pick(tiny=tiny, planted=planted, default=default, full=full)
        return range(first, first + number)

    def together(self, claims: int) -> Settings:
        """Return the settings that judge one of several claims at once.

        Bonferroni: with intervals of 1 - 0.05 / claims, the chance that any verdict of the list
        is an error stays below 0.05.
        """
        return replace(self, confidence=1 - (1 - CONFIDENCE) / claims)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One case and what was measured of it."""

    case: Case
    values: Values


Measured = Sequence[Measurement]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a study.

    Args:
        verdict: By the study's rule alone.
        statement: What follows, what was measured and the number that decided, in a few sentences.
        numbers: What the rule looked at, by name; `None` where there is no number.
        tables: All values with their intervals.
    """

    verdict: Verdict
    statement: str
    numbers: Mapping[str, float | None]
    tables: tuple[TextTable, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    """Material on which it is known whether the claim holds.

    Args:
        how: What makes the claim true or false here, in a sentence.
        measure: The study's own measure, applied to this material.
    """

    how: str
    measure: Callable[[Case, Settings], Values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A claim and everything needed to measure it.

    Args:
        name: The name on the command line.
        claim: The claim of the literature, in one sentence.
        source: Who claims it: authors, year, figure or theorem, address.
        prediction: What must be seen if the claim holds, with numbers, fixed beforehand.
        protocol: Data, model and measurement of the default size.
        rule: When the claim is confirmed and when not; anything between is inconclusive.
        seconds: Cost of the default size on two cores.
        cases, measure, judge, draw: See the head of this module.
        true, false: The worlds in which the claim holds and does not hold; `None` if the study
            is not calibrated.
        changed: What was changed after a first result, and why.
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
    judge: Callable[[Measured, Settings], Finding]
    draw: Callable[[Measured], Figure]
    true: World | None = None
    false: World | None = None
    changed: str = ""


def measure_case(
    study: Study,
    case: Case,
    settings: Settings,
    measure: Callable[[Case, Settings], Values] | None = None,
) -> Measurement:
    """Measure one case in the form in which it is kept.

    Args:
        study, case, settings: What to measure.
        measure: Replaces the study's own measure; used for calibration worlds.
    """
    return Measurement(case, _finite((measure or study.measure)(case, settings)))


def _finite(value: Any) -> Any:
    """Replace the numbers that JSON does not have by `None`."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
