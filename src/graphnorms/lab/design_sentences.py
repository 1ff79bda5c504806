"""Which design the judgement of a table assumes, in sentences, and what follows if it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from graphnorms.lab.assumed_design import DESIGNS, TEST_SHARE, Assumed
from graphnorms.lab.phrases import MOST_NAMED, called_by, listing, percent, several
from graphnorms.lab.score_entries import Entry, Reading

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict

ALARMS: Final = {10: 0.195, 30: 0.441}
"""False alarms of sign flips on so many splits drawn anew, a fifth tested: docs/statistics.md."""

Judge = Callable[[Assumed], Mapping[str, "Verdict"]]
"""Judges the table as another design."""


def design_sentences(
    assumed: Assumed, reading: Reading, verdicts: Mapping[str, Verdict], judge: Judge
) -> tuple[str, ...]:
    """Say which design is assumed and why, and what follows if it is another.

    Args:
        assumed: The design.
        reading: The scores.
        verdicts: What was found, by data set.
        judge: Judges the same scores as another design.
    """
    about = f"Design: {DESIGNS[assumed.name]} ({assumed.reason}{_share(assumed)})."
    conclusive = any(verdict.conclusive for verdict in verdicts.values())
    if assumed.name == "datasets":
        return (
            about,
            "If that is wrong: sets that are variants of one another, or one set under several "
            "splits, count as several, and the ranks look surer than they are.",
        )
    if assumed.certain or not conclusive:
        return (about,)
    return about, f"If that is wrong: {_otherwise(assumed, reading, verdicts, judge)}"


def _share(assumed: Assumed) -> str:
    if assumed.test_share is None:
        return ""
    if assumed.test_share == 0:
        return "; each has data of its own, and nothing is corrected"
    tested = f"; {percent(assumed.test_share, 0)} of the data tested"
    return f"{tested}, which --test-share corrects" if assumed.share_assumed else tested


def _otherwise(
    assumed: Assumed, reading: Reading, verdicts: Mapping[str, Verdict], judge: Judge
) -> str:
    """Say what another design would be, and what it would change here."""
    seeds = Assumed(name="seeds", reason="")
    if assumed.name == "seeds":
        alarms = listing(
            f"{percent(rate, 0)} of tables of {count}" for count, rate in ALARMS.items()
        )
        other = Assumed(name="resampled", reason="", test_share=TEST_SHARE)
        changed = _changes(verdicts, judge(other), "with a fifth of the data tested, ")
        return (
            "if every seed drew a split of its own, training sets overlap, and this test tells "
            f"equal methods apart too often (in {alarms} such splits, where 5% are allowed): "
            f"--design resampled. Then {changed}"
        )
    changed = _changes(verdicts, judge(seeds), "")
    if assumed.name == "resampled":
        return (
            "if all share one split, nothing overlaps that is not the same for all, and the test "
            f"is more careful than it need be: --design seeds. Then {changed}"
        )
    folds = max(verdict.design.folds for verdict in verdicts.values())
    within = ""
    if "fold" in reading.roles.columns and any(entry.seed for entry in reading.entries):
        within = (
            " If each seed cut other folds, they are repeats: --repeat names their column. Taken "
            "for runs on the same folds, as here, they count for less."
        )
    return (
        f"each of the {folds} folds is taken to test 1 item of {folds}. Where repeats are numbered "
        "through (25 for 5 × 5) they test more, and differences look surer here than they are: "
        f"--test-share 0.2. Splits that are drawn anew each: --design resampled.{within}"
    )


def _changes(verdicts: Mapping[str, Verdict], others: Mapping[str, Verdict], when: str) -> str:
    """Say which pairs another design tells apart, and this one does not, or the other way."""
    one, other = _told(verdicts), _told(others)
    lost, more = one - other, other - one
    parts = []
    if lost:
        parts.append(f"{when}{_pairs(lost)} would not be told apart")
    if more:
        parts.append(f"{when}{_pairs(more)} would be told apart as well")
    if parts:
        return f"{'; '.join(parts)}."
    same = "the same pairs" if one else "no pair"
    return f"{when}{same} would be told apart."


def _told(verdicts: Mapping[str, Verdict]) -> set[tuple[str, frozenset[str]]]:
    return {
        (name, frozenset((test.first, test.second)))
        for name, verdict in verdicts.items()
        for test in verdict.differences
        if test.told_apart
    }


def _pairs(found: set[tuple[str, frozenset[str]]]) -> str:
    """Name pairs of methods, with their data set where there are several."""
    if len(found) > MOST_NAMED:
        return f"{len(found)} pairs"
    name = called_by(str)
    return listing(
        " from ".join(map(name, sorted(pair))) + (f" on {dataset}" if dataset else "")
        for dataset, pair in sorted(found, key=lambda each: (each[0], sorted(each[1])))
    )


def unpaired_sentences(
    reading: Reading, assumed: Assumed, verdicts: Mapping[str, Verdict]
) -> list[str]:
    """Name the repeats that some methods lack: scores without a partner are left out."""
    if assumed.name == "datasets":
        return []
    found = []
    for dataset, verdict in verdicts.items():
        entries = [entry for entry in reading.entries if entry.dataset == dataset]
        places = dict.fromkeys(entry.place for entry in entries)
        lacking: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
        for method in reading.methods:
            own = {entry.place for entry in entries if entry.method == method}
            missing = tuple(place for place in places if place not in own)
            if missing and own:
                lacking.setdefault(missing, []).append(method)
        on = f" on {dataset}" if dataset else ""
        for missing, methods in lacking.items():
            names = listing(map(called_by(str), methods))
            verb = "lacks" if len(methods) == 1 else "lack"
            aside = all(method not in verdict.contenders for method in methods)
            what = (
                f"and {'is' if len(methods) == 1 else 'are'} not ranked with the others"
                if aside
                else "where the others are left out as well"
            )
            found.append(f"Unpaired{on}: {names} {verb} {_places(missing)}, {what}.")
        absent = [method for method in reading.methods if method not in _there(entries)]
        if absent:
            found.append(f"Without a score{on}: {listing(map(called_by(str), absent))}.")
    return found


def _there(entries: Sequence[Entry]) -> set[str]:
    return {entry.method for entry in entries}


def _places(places: tuple[tuple[str, str, str], ...]) -> str:
    """Name repeats: `seed 3 and 4`, `fold 2, seed 1`, `12 of the repeats`."""
    if len(places) > MOST_NAMED:
        return several(len(places), "repeat")
    roles = ("repeat", "fold", "seed")
    used = [
        role for role, labels in zip(roles, zip(*places, strict=True), strict=True) if any(labels)
    ]
    if len(used) == 1:
        at = roles.index(used[0])
        return f"{used[0]} {listing(place[at] for place in places)}"
    return listing(
        " ".join(f"{role} {label}" for role, label in zip(roles, place, strict=True) if label)
        for place in places
    )
