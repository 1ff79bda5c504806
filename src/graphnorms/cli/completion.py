"""Completions for the shell: norms, data sets, runs, and the words of an option."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Complete = Callable[[str], list[str]]


def one_of(*words: str) -> Complete:
    """Offer the words of an option."""

    def complete(incomplete: str) -> list[str]:
        return _beginning(incomplete, words)

    return complete


def norms(incomplete: str) -> list[str]:
    """Offer normalizations, each once, for a list with commas in between."""
    before, comma, last = incomplete.rpartition(",")
    there = before.split(",")
    rest = [name for name in norm("") if name not in there]
    return [f"{before}{comma}{name}" for name in _beginning(last, rest)]


def norm(incomplete: str) -> list[str]:
    """Offer one normalization."""
    from graphnorms.layers.catalog import CATALOG

    return _beginning(incomplete, CATALOG)


def datasets(incomplete: str) -> list[str]:
    """Offer the embedded data sets; the shell itself offers files where none fits."""
    from graphnorms.data.readers.embedded import embedded_names

    return _beginning(incomplete, embedded_names())


def designs(incomplete: str) -> list[str]:
    """Offer what scores of a table can be repeated over."""
    from graphnorms.lab.assumed_design import DESIGNS

    return _beginning(incomplete, DESIGNS)


def runs(incomplete: str) -> list[str]:
    """Offer the runs in the folder of runs; the shell itself offers folders where none fits."""
    from graphnorms.lab.run import CONFIG, RUNS

    if not RUNS.is_dir():
        return []
    return _beginning(incomplete, sorted(p.name for p in RUNS.iterdir() if (p / CONFIG).is_file()))


def _beginning(start: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(start)]
