"""Whether norms started alike in training that is not the lab's: weights, and order of batches.

The lab's own trials of one seed share both. In user code they are what they are: here they are
compared, and what was seen is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphnorms.lab.phrases import Name, listing, several

if TYPE_CHECKING:
    from graphnorms.training.record import Record


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often something was the same for every norm.

    Args:
        groups: Groups of trials that are compared with each other: same stage, split and seed.
        equal: Groups in which it was seen for every norm, and was the same.
        differing: Groups in which it was seen to differ between norms.
        norms: The norms that differ from most others, in any group.
    """

    groups: int
    equal: int
    differing: int
    norms: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Starts:
    """What norms had in common in training that is not the lab's.

    Args:
        weights: Initial weights apart from those of the norms.
        order: Order of the training items.
    """

    weights: Agreement
    order: Agreement


def starts_of(records: Iterable[Record]) -> Starts | None:
    """Compare the starts of trials that differ only in the norm; None if the lab trained them."""
    groups: dict[tuple[Any, ...], dict[str, Record]] = defaultdict(dict)
    for record in records:
        config = record.config
        if "trial" in (config.get("model") or {}) and record.status == "done":
            split = sorted(config["split"].items())
            rate = config.get("learning_rate") if config["stage"] == "select" else None
            values = rate, str(config.get("varied")), str(config.get("searched"))
            place = (config["stage"], str(split), config["run"], config["seed"], *values)
            groups[place][config["norm"]] = record
    several_norms = [group for group in groups.values() if len(group) > 1]
    if not several_norms:
        return None
    weights = [
        {norm: record.start.get("weights", "") for norm, record in group.items()}
        for group in several_norms
    ]
    return Starts(weights=_agreement(weights), order=_agreement(map(_orders, several_norms)))


def _orders(group: dict[str, Record]) -> dict[str, str]:
    """Return the order of each norm's batches, over the passes that all norms have.

    A trial that ends early has fewer.
    """
    orders = {norm: record.start.get("order", []) for norm, record in group.items()}
    shared = min(map(len, orders.values()))
    return {norm: " ".join(order[:shared]) for norm, order in orders.items()}


def _agreement(groups: Iterable[dict[str, str]]) -> Agreement:
    number = equal = differing = 0
    odd: dict[str, None] = {}
    for group in groups:
        number += 1
        seen = [value for value in group.values() if value]
        if len(set(seen)) > 1:
            differing += 1
            usual = max(dict.fromkeys(seen), key=seen.count)
            others = (norm for norm, found in group.items() if found not in ("", usual))
            odd.update(dict.fromkeys(others))
        elif len(seen) == len(group):
            equal += 1
    return Agreement(groups=number, equal=equal, differing=differing, norms=tuple(odd))


def starts_sentence(starts: Starts, name: Name) -> str:
    """Say what norms had in common."""
    weights = _said(
        starts.weights,
        "Initial weights apart from the norms' were",
        "Initial weights were not seen; report(0, model=model) before the first step shows them.",
        name,
    )
    order = _said(
        starts.order,
        "The order of the training items was",
        "The order of the training items was not seen; a DataLoader that shuffles shows it.",
        name,
    )
    return f"{weights} {order}"


def _said(found: Agreement, what: str, hidden: str, name: Name) -> str:
    groups = several(found.groups, "group") + " of trials that differ only in the norm"
    if found.differing:
        return (
            f"{what} not the same for every norm in {found.differing} of {groups} "
            f"({listing(map(name, found.norms))}): part of a difference can come from there."
        )
    if not found.equal:
        return hidden
    unseen = found.groups - found.equal
    return (
        f"{what} the same for every norm in {found.equal if unseen else 'all'}"
        f"{' of' * bool(unseen)} {groups}{'; the others could not be seen' * bool(unseen)}."
    )
