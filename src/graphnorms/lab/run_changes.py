"""How the run in a folder may change: it can grow, or get another margin. Its trials stay.

A trial is identified by the hash of its config. More norms, runs (seeds) or repeats add trials and
leave the others as they are, so a larger comparison continues a smaller one. The margin is not part
of a trial. Every other setting is: another value makes every trial a different one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.lab.phrases import listing
from graphnorms.lab.settings import Settings

if TYPE_CHECKING:
    from graphnorms.training import Record

SIZES: Final = ("norms", "repeats", "runs")
_JUDGING: Final = ("margin",)
_DERIVED: Final = ("trivial", "fitted")
"""Entries that follow from the settings and the data, or tell how the settings came about."""

_OWN: Final = "own_norms"
"""The sources of the user's own norms, by name."""

_DEFAULTS: Final = {
    each.name: each.default for each in fields(Settings) if each.default is not MISSING
}
"""Settings that configs of earlier versions lack."""

_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Change:
    """How another config changes the run in a folder.

    Args:
        words: The changes, such as `repeats 1 → 3`.
        refusal: Why the change is not possible, on one line; empty if it is.
    """

    words: tuple[str, ...] = ()
    refusal: str = ""


def change_of(
    folder: Path, there: Mapping[str, Any], here: Mapping[str, Any], records: Iterable[Record] = ()
) -> Change:
    """Compare the config of a run in its folder with another one.

    Fewer norms, runs or repeats are refused if a trial left out has an outcome: the part of a run
    that is judged must not be chosen after it was seen.

    Args:
        folder: The run's folder, for the message.
        there, here: The config in the folder, and the new one.
        records: Outcomes in the folder.
    """
    there, here = {**_DEFAULTS, **there}, {**_DEFAULTS, **here}
    free = {*SIZES, *_JUDGING, *_DERIVED, _OWN}
    if there.get("model") != here.get("model"):
        free.add("architecture")  # of course that differs as well
    other = [*_differences(there, here, free), *_changed_sources(there, here)]
    shrunk = [name for name in SIZES if _shrinks(name, there, here)]
    lost = [name for name in shrunk if any(_left_out(name, here, record) for record in records)]
    found = [_difference(name, there[name], here[name]) for name in lost]
    if other:
        return Change(
            refusal=f"{folder} holds a run with other settings ({_first([*other, *found])}); "
            f"choose another folder, e.g. --out {_free(folder)}"
        )
    if lost:
        ways = listing(f"--{name} {_both(name, there, here)}" for name in lost)
        return Change(
            refusal=f"{folder} holds a run with more ({_first(found)}), and a run can grow but not "
            f"shrink; ask for {ways}, or choose another folder, e.g. --out {_free(folder)}"
        )
    words = [_changed(name, there, here) for name in (*SIZES, *_JUDGING)]
    return Change(words=tuple(word for word in words if word))


def _changed_sources(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Say which of the user's own norms have changed since the trials in the folder."""
    old, new = there.get(_OWN) or {}, here.get(_OWN) or {}
    for name in old:
        for difference in _differences(old[name], new.get(name, old[name])):
            yield f"{name}, {difference}"


def _shrinks(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    if name == "norms":
        return not set(there.get(name, ())) <= set(here.get(name, ()))
    return bool(there.get(name, 0) > here.get(name, 0))


def _left_out(name: str, here: Mapping[str, Any], record: Record) -> bool:
    """Whether a trial that has an outcome is not part of a comparison of this size."""
    config = record.config
    if name == "norms":
        return config["norm"] not in here[name]
    place = config["run"] if name == "runs" else config["split"]["seed"] - here["split_seed"]
    return bool(place >= here[name])


def _both(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return the least size that includes what the folder has and what is asked for."""
    if name == "norms":
        return ",".join(dict.fromkeys([*there[name], *here[name]]))
    return f"{there[name]} or more"


def _changed(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    old, new = there.get(name), here.get(name)
    if old == new:
        return ""
    if name == "norms":
        parts = [f"+ {norm}" for norm in new or () if norm not in (old or ())]
        parts += [f"− {norm}" for norm in old or () if norm not in (new or ())]
        return f"norms {', '.join(parts)}" if parts else f"norms in the order {_shown(new)}"
    return f"{name} {_shown(old)} → {_shown(new)}"


def _differences(
    there: Mapping[str, Any], here: Mapping[str, Any], free: Iterable[str] = ()
) -> Iterator[str]:
    """Say in words where two configs differ, apart from the names that may."""
    for name in dict.fromkeys([*here, *there]):
        old, new = there.get(name), here.get(name)
        if name in free or old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new)
        else:
            yield _difference(name, old, new)


def _difference(name: str, old: Any, new: Any) -> str:
    return f"{name.replace('_', ' ')}: {_shown(old)} there, {_shown(new)} here"


def _first(differences: list[str]) -> str:
    more = len(differences) - _MOST_NAMED
    return "; ".join(differences[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _free(folder: Path) -> Path:
    number = 2
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate
