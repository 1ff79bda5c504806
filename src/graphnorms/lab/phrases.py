"""Parts of sentences: numbers with their noun, lists, names of data sets and models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

Name: TypeAlias = Callable[[str], str]
"""What a norm is called in text, given its catalogue name."""

MOST_NAMED = 6


_LAYOUT = ("raw", "processed")
"""Names of folders, as PyG lays them out, that do not name the data set."""


def dataset_title(dataset: str) -> str:
    """Call a data set as a person would, given its name or path: MUTAG for `data/MUTAG/raw`."""
    path = Path(dataset)
    if path.name in _LAYOUT and path.parent.name:
        path = path.parent
    return (
        path.stem if path.suffix.lower() in (".npz", ".txt", ".xyz", ".extxyz") else path.name
    ) or dataset


def model_title(name: str) -> str:
    """Write the name of a model: `GIN`; the name of the user's own model stays as it is."""
    from graphnorms.models.model_config import MODELS

    special = {"gatedgcn": "GatedGCN", "sage": "GraphSAGE", "painn": "PaiNN"}
    others = name.upper() if name.lower() in MODELS else name
    return special.get(name.lower(), others)


def called_by(name: Name) -> Name:
    """Put quotes around a norm called "none": "none is worse" would say the opposite."""
    return lambda norm: f"'{name(norm)}'" if name(norm) == "none" else name(norm)


def percent(fraction: float, digits: int = 1) -> str:
    """Format a fraction as percent: 0.912 is 91.2%."""
    return f"{100 * fraction:.{digits}f}%"


def points(fraction: float) -> str:
    """Format a difference of fractions in percentage points: 0.063 is 6.3 points."""
    return f"{100 * fraction:.1f} points"


def seconds(value: float) -> str:
    """Format seconds, without the unit, in the digits that a stopwatch of the kind deserves."""
    return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}"


def duration(seconds: float) -> str:
    """Write a time in its two largest units: `20 s`, `1 min 5 s`, `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(round(seconds / 60) if seconds >= 3600 else minutes, 60)
    large, small = (f"{hours} h", f"{minutes} min") if hours else (f"{minutes} min", f"{rest} s")
    return large if small.startswith("0 ") else f"{large} {small}"


def listing(words: Iterable[str]) -> str:
    """Join words: `a`, `a and b`, `a, b and c`."""
    items = list(words)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def first_of(words: Iterable[str], most: int = MOST_NAMED) -> str:
    """Join the first of some words, and say how many more there are: `a, b and 4 more`."""
    items = list(words)
    return listing([*items[:most], *([f"{len(items) - most} more"] if len(items) > most else [])])


def several(number: float, noun: str) -> str:
    """Write how many of something: `1 step`, `12 steps`; numbers are rounded to whole ones."""
    return f"{number:.0f} {noun}{'' if f'{number:.0f}' == '1' else 's'}"


def be(count: int) -> str:
    """Return `is` or `are`."""
    return "is" if count == 1 else "are"


def rough(number: float) -> str:
    """Write a number that is only an estimate, with two significant digits: 1400, 43, 2.5."""
    return f"{float(f'{number:.2g}'):g}" if number < 1e6 else f"{number:.1e}"
