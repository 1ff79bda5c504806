"""The values among which options are searched: intervals, or a few values each.

`dropout=0:0.5,layers=2|4|8,weight_decay` names options with what they are searched among; one
without has the range below. An interval of whole numbers is its numbers, of `hidden` and
`batch_size` its doublings: 16:128 is 16|32|64|128.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from graphnorms.errors import unknown_name
from graphnorms.lab.option_kinds import About

RANGES: Final[Mapping[str, str]] = {
    "dropout": "0:0.6",
    "weight_decay": "1e-06:0.01",
    "layers": "2:8",
    "hidden": "32:128",
    "batch_size": "16:128",
}
"""The options that are searched, in the order of a proposal, and their ranges by default."""

ADAMW_DECAY: Final = "0.0001:0.1"
"""The default range of AdamW's decay, which unlike a penalty is multiplied by the step size."""

RATE: Final = "learning_rate"
"""Searched as well, between the ends of its grid."""

MOST_FIXED: Final = 10
"""Proposals of a norm that are fixed beforehand, at most: what Optuna draws before it adapts."""

_LOGARITHMIC: Final = (RATE, "weight_decay")
_WHOLE: Final = ("layers", "hidden", "batch_size")
_DOUBLED: Final = ("hidden", "batch_size")
_DIGITS: Final = 3
"""Significant digits of a proposed number: enough to search by, and no matter of a last bit."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """What one option is searched among.

    Args:
        values: The values, ascending; empty for an interval.
        low, high: Ends of the interval, which are possible values.
        logarithmic: Whether equal ratios count alike in the interval, not equal differences.
    """

    values: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False

    @classmethod
    def of(cls, name: str, text: str) -> Self:
        """Read the text of a range: `0:0.6`, `2|4|8`.

        Raises:
            ValueError: It is none for this option; the message says what was expected.
        """
        by = "|" if "|" in text else ":"
        try:
            ends = [(int if name in _WHOLE else float)(part) for part in text.split(by)]
        except ValueError:
            ends = []
        if len(ends) < 2 or (by == ":" and len(ends) > 2) or ends != sorted({*ends}):
            raise ValueError(
                f"search has {name}={text!r:.60}, expected low:high, as in {RANGES.get(name, '')}, "
                f"or {'whole numbers' if name in _WHOLE else 'numbers'} ascending, as in a|b|c"
            )
        if by == "|":
            return cls(values=tuple(ends))
        low, high = ends
        if name in _WHOLE:
            step = 2 if name in _DOUBLED else 1
            values = _doublings(low, high) if step == 2 else range(int(low), int(high) + 1)
            if len(values) < 2:
                raise ValueError(
                    f"search has {name}={text}, where doublings of {low} leave one value; name "
                    "the values, as in a|b|c"
                )
            return cls(values=tuple(values))
        if name in _LOGARITHMIC and low <= 0:
            raise ValueError(
                f"search has {name}={text}, but its scale is logarithmic; begin above 0, or name "
                "the values, as in 0|0.0001|0.01"
            )
        return cls(low=low, high=high, logarithmic=name in _LOGARITHMIC)

    def __str__(self) -> str:
        if not self.values:
            return f"{self.low:g}:{self.high:g}"
        first, last = self.values[0], self.values[-1]
        if len(self.values) > 2 and list(self.values) == list(range(int(first), int(last) + 1)):
            return f"{first}:{last}"
        return "|".join(f"{value:g}" for value in self.values)

    @property
    def size(self) -> float:
        """How many values there are; an interval has as many as one likes."""
        return len(self.values) or math.inf

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return (self.values[0], self.values[-1]) if self.values else (self.low, self.high)

    def at(self, share: float) -> float:
        """Return the value at a share of the range, from 0 to below 1."""
        if self.values:
            return self.values[int(share * len(self.values))]
        if self.logarithmic:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low)
        return self.rounded(value)

    def rounded(self, value: float) -> float:
        """Return a number with few digits, moved into the interval where it is outside."""
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def nearest(self, value: float) -> float:
        """Return the value of the range that is the nearest to a number."""
        if self.values:
            return min(self.values, key=lambda one: abs(one - value))
        return self.rounded(value)


def _doublings(low: float, high: float) -> list[int]:
    return [int(low) << power for power in range(64) if 0 < int(low) << power <= high]


Space = Mapping[str, Range]
"""Ranges by the name of the option."""


def points(space: Space) -> float:
    """Return how many points a space has, which may be infinity."""
    return math.prod(one.size for one in space.values())


def count_of(space: Space, proposals: int) -> int:
    """Return how many proposals there are: no more than the space has points."""
    return int(min(proposals, points(space)))


def fixed_of(space: Space, proposals: int) -> int:
    """Return how many of them are fixed beforehand: half, or all of a space that is tried whole."""
    whole = points(space) <= proposals
    return count_of(space, proposals) if whole else min(MOST_FIXED, math.ceil(proposals / 2))


def ranges_of(given: Any, decay: str = RANGES["weight_decay"]) -> dict[str, Range]:
    """Read what is searched: one text, a list of them, or texts of ranges by option.

    Args:
        given: `"dropout=0:0.5,layers"`, `["dropout", "layers=2|4"]` or `{"layers": "2|4"}`.
        decay: The range of `weight_decay` by default.

    Raises:
        ValueError: An option cannot be searched, is named twice, or has no such range.
    """
    found: dict[str, Range] = {}
    for name, text in _named(given):
        if name == RATE:
            raise ValueError(
                "search has the learning rate, which is searched with every option, between the "
                "ends of --lr; leave it out"
            )
        if name not in RANGES:
            raise unknown_name("option to search", name, RANGES)
        if name in found:
            raise ValueError(f"search has {name} more than once; name it once")
        default = decay if name == "weight_decay" else RANGES[name]
        found[name] = Range.of(name, text or default)
    if not found:
        raise ValueError("search is empty; name options, as in dropout,weight_decay,layers")
    return {name: found[name] for name in RANGES if name in found}


def _named(given: Any) -> Iterator[tuple[str, str]]:
    """Yield the options that are named, each with the text of its range, which may be empty."""
    if isinstance(given, Mapping):
        given = [f"{name}={text}" for name, text in given.items()]
    parts: Sequence[Any] = given.split(",") if isinstance(given, str) else given
    for part in parts:
        name, equals, text = (each.strip() for each in str(part).partition("="))
        if equals and not text:
            raise ValueError(f"search has {part!r:.60}, expected a range behind the =")
        if name:
            yield {"lr": RATE}.get(name, name.replace("-", "_")), text


def check_search(
    ranges: Space, about: Mapping[str, About], given: Container[str], varied: Container[str]
) -> None:
    """Check the values of the ranges, and that the other options leave them free.

    Args:
        ranges: What is searched.
        about: The descriptions of all options.
        given, varied: Options that are given a value, or several to compare.

    Raises:
        ValueError: A value is not possible, or an option has another one beside.
    """
    for name, one in ranges.items():
        if name in given or name in varied:
            how = "varied" if name in varied else "given"
            raise ValueError(f"{name} is {how}, and searched as well; leave one of them out")
        for value in (*one.ends, *one.values):
            about[name].kind.require(name, value)
