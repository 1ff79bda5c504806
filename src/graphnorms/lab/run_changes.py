"""How the run in a folder may change: it can grow, or be judged otherwise. Its trials stay.

A trial is identified by the hash of its config. More norms, runs (seeds) or repeats add trials and
leave the others as they are, so a larger comparison continues a smaller one. The margin, and how
reasons are found, are not part of a trial. Every other setting is: another value makes every trial
a different one.
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

SIZES: Final = ("norms", "vary", "repeats", "runs")
_JUDGING: Final = ("margin", "reasons")
_DERIVED: Final = ("trivial", "fitted", "facts")
"""Entries that follow from the settings and the data, or tell how the settings came about."""

_OWN: Final = "own_norms"
"""The sources of the user's own norms, by name."""

_DEFAULTS: Final = {
    each.name: each.default for each in fields(Settings) if each.default is not MISSING
}
"""Settings that configs of earlier versions lack."""

_ARCHITECTURES: Final = "architectures"
"""Those of varied options, by the values of these."""

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
    old, new = _vary(there), _vary(here)
    free = {*SIZES, *_JUDGING, *_DERIVED, _OWN, _ARCHITECTURES}
    if old and old.keys() == new.keys():
        free |= {"architecture", *new}  # those of the first values
    if there.get("model") != here.get("model"):
        free.add("architecture")  # of course that differs as well
    other = [*_differences(there, here, free), *_changed(there, here)]
    if old.keys() != new.keys():
        other.append(_difference("vary", old or None, new or None))
    shrunk = [name for name in SIZES if _shrinks(name, there, here)]
    lost = [name for name in shrunk if any(_left_out(name, here, record) for record in records)]
    found = [_difference(name, there[name], here.get(name)) for name in lost]
    if other:
        return Change(
            refusal=f"{folder} holds a run with other settings ({_first([*other, *found])}); "
            f"choose another folder, e.g. --out {_free(folder)}"
        )
    if lost:
        ways = listing(way for name in lost for way in _both(name, there, here))
        return Change(
            refusal=f"{folder} holds a run with more ({_first(found)}), and a run can grow but not "
            f"shrink; ask for {ways}, or choose another folder, e.g. --out {_free(folder)}"
        )
    words = [word for name in (*SIZES, *_JUDGING) for word in _words(name, there, here)]
    return Change(words=tuple(words))


def _changed(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Say which own norms, or architectures, have changed since the trials in the folder."""
    for entry in (_OWN, _ARCHITECTURES):
        old, new = there.get(entry) or {}, here.get(entry) or {}
        for name in old:
            for difference in _differences(old[name], new.get(name, old[name])):
                yield f"{name}, {difference}"


def _vary(config: Mapping[str, Any]) -> dict[str, Any]:
    return dict(config.get("vary") or {})


def _shrinks(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    if name == "norms":
        return not set(there.get(name, ())) <= set(here.get(name, ()))
    if name == "vary":
        new = _vary(here)
        return any(value not in new.get(n, ()) for n, old in _vary(there).items() for value in old)
    return bool(there.get(name, 0) > here.get(name, 0))


def _left_out(name: str, here: Mapping[str, Any], record: Record) -> bool:
    """Whether a trial that has an outcome is not part of a comparison of this size."""
    config = record.config
    if name == "norms":
        return config["norm"] not in here[name]
    if name == "vary":
        new, varied = _vary(here), config.get("varied") or {}
        return any(value not in new.get(option, ()) for option, value in varied.items())
    place = config["run"] if name == "runs" else config["split"]["seed"] - here["split_seed"]
    return bool(place >= here[name])


def _both(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Give the options for the least size that includes what the folder has and what is wanted."""
    if name == "norms":
        yield f"--norms {_shown(list(dict.fromkeys([*there[name], *here[name]])))}"
    elif name == "vary":
        old, new = _vary(there), _vary(here)
        for option in old:
            values = list(dict.fromkeys([*old[option], *new[option]]))
            yield f"--vary {option.replace('_', '-')}={_shown(values)}"
    else:
        yield f"--{name} {there[name]} or more"


def _words(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Say how a size, or the margin, changes; nothing if it does not."""
    old, new = there.get(name), here.get(name)
    if old == new:
        return
    if name == "vary":
        for option, values in _vary(here).items():
            yield from _of_list(option, _vary(there).get(option), values)
    elif name == "norms":
        yield from _of_list(name, old, new)
    else:
        yield f"{name} {_shown(old)} → {_shown(new)}"


def _of_list(name: str, old: list[Any] | None, new: list[Any] | None) -> Iterator[str]:
    """Say what is added to a list, and what is gone."""
    if old == new:
        return
    parts = [f"+ {value}" for value in new or () if value not in (old or ())]
    parts += [f"− {value}" for value in old or () if value not in (new or ())]
    yield f"{name} {', '.join(parts)}" if parts else f"{name} in the order {_shown(new)}"


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
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_shown(values)}" for name, values in value.items())
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _free(folder: Path) -> Path:
    number = 2
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate
