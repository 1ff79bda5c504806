"""The ranks over several data sets in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphnorms.lab.phrases import MOST_NAMED, Name, called_by, listing
from graphnorms.lab.statistics import SIGNIFICANCE

if TYPE_CHECKING:
    from graphnorms.lab.across_datasets import AcrossDatasets


def ranks_sentence(found: AcrossDatasets, name: Name = str) -> str:
    """Say which norms rank higher, as far as the tests tell.

    Friedman's test says whether the ranks differ, Wilcoxon's which pairs do; where there are too
    few data sets for it, Nemenyi's critical difference. Friedman's test of two norms is a sign
    test, approximated: of two Wilcoxon's says all.

    Args:
        found: The numbers.
        name: What a norm is called, given its catalogue name.
    """
    called = called_by(name)
    left_out = f" Left out, as unfinished: {listing(found.left_out)}." if found.left_out else ""
    tested = len(found.datasets) >= found.minimum
    said = _by_pairs(found, called) if tested else _by_ranks(found, called)
    return f"Over {len(found.datasets)} data sets {said}.{left_out}{_stability(found, called)}"


def _stability(found: AcrossDatasets, name: Name) -> str:
    """Say whether the best in rank stays so, whichever data set is left out."""
    if not found.without:
        return ""
    first = listing(map(name, sorted(found.winners)))
    if not found.decisive:
        one = len(found.winners) == 1
        stays = f"{first} stays best in rank" if one else f"none but {first} ranks best"
        return f" Whichever set is dropped, {stays}."
    alike: dict[frozenset[str], list[str]] = {}
    for each in found.decisive:
        alike.setdefault(each.best, []).append(each.dataset)
    changes = []
    for best, datasets in alike.items():
        shown = datasets[:MOST_NAMED]
        more = [f"{len(datasets) - MOST_NAMED} others"] if len(datasets) > MOST_NAMED else []
        winners = listing(map(name, sorted(best)))
        together = " together" if len(best) > 1 else ""
        *others, last = [*shown, *more]
        sets = f"{', '.join(others)} or {last}" if others else last
        changes.append(f"without {sets} {winners} {'rank' if together else 'ranks'} best{together}")
    total = len(found.without)
    return (
        f" Dropping one set changes the winner in {len(found.decisive)} of {total} cases: "
        f"{'; '.join(changes)}."
    )


def _by_pairs(found: AcrossDatasets, name: Name) -> str:
    """Say what Wilcoxon's test tells of the best norm, and Friedman's of all."""
    best, differ = found.best, found.friedman_p <= SIGNIFICANCE
    worse = [test for test in found.tests if test.first == best and test.told_apart]
    if worse:
        others = listing(
            f"{name(test.second)} (better in {test.losses}, worse in {test.wins})" for test in worse
        )
        also = f"{_tied_with(found.tied[1:], name)}{_friedman(found)}"
        return f"{_ranks_best(found, name)}, better than {others}{also}"
    unknown = f"no {found.noun} can be told apart from {name(best)}, the best"
    if not differ:
        return f"{unknown}{_friedman(found)}"
    apart = [f"{name(t.first)} from {name(t.second)}" for t in found.tests if t.told_apart]
    which = f", only {listing(apart)}" if 0 < len(apart) <= MOST_NAMED else ""
    return f"the ranks differ (Friedman's test, {_p_text(found.friedman_p)}), but {unknown}{which}"


def _by_ranks(found: AcrossDatasets, name: Name) -> str:
    """Say what Friedman's test tells and Nemenyi's, of too few data sets to test pairs."""
    of_pairs = "" if len(found.ranks) == 2 else " of all pairs"
    takes = f"Wilcoxon's test{of_pairs} takes {found.minimum} data sets"
    so_far = f"so far {_ranks_best(found, name)}"
    if len(found.ranks) == 2:
        return f"the comparison is inconclusive: {takes}; {so_far}"
    if found.friedman_p > SIGNIFICANCE:
        return (
            f"the comparison is inconclusive: the ranks are not shown to differ (Friedman's test, "
            f"{_p_text(found.friedman_p)}), and {takes}; {so_far}"
        )
    tests = [test for test in found.tests if test.first == found.best]
    worse = [test.second for test in tests if test.nemenyi_p <= SIGNIFICANCE]
    near = [test.second for test in tests if test.nemenyi_p > SIGNIFICANCE]
    limit = f"Nemenyi's critical difference of {found.critical_difference:.2f}"
    friedmans = f"Friedman's test, {_p_text(found.friedman_p)}"
    head = f"the ranks differ ({friedmans}): {_ranks_best(found, name)}"
    if not worse:
        return f"{head}, but no other lies further off than {limit}; {takes}"
    named = listing(f"{name(norm)} ({found.ranks[norm]:.2f})" for norm in worse)
    return f"{head}, better than {named} by more than {limit}{_tied_with(near, name)}; {takes}"


def _ranks_best(found: AcrossDatasets, name: Name) -> str:
    return f"{name(found.best)} ranks best ({found.ranks[found.best]:.2f} on average)"


def _tied_with(norms: Iterable[str], name: Name) -> str:
    named = listing(map(name, norms))
    return f"; {named} cannot be told apart from it" if named else ""


def _friedman(found: AcrossDatasets) -> str:
    """Say whether the ranks differ at all; of two norms their test has said so."""
    if len(found.ranks) == 2:
        return ""
    differ = "differ" if found.friedman_p <= SIGNIFICANCE else "are not shown to differ"
    return f"; the ranks {differ} (Friedman's test, {_p_text(found.friedman_p)})"


def _p_text(value: float) -> str:
    return "p < .001" if value < 0.001 else f"p = {value:.3f}".replace("0.", ".")
