"""Successive halving: learning rates are told apart by short trials, and the better half goes on.

All rates are tried in trials of a fraction of the epochs; the better half of them, rounded up, in
trials twice as long; and so on, until the better of the last two is chosen by trials of half the
epochs. Every trial is a whole one, whose schedule ends with it: a rate that needs its decay is not
judged in the middle of it. Five rates at E epochs take 5 · E/8 + 3 · E/4 + 2 · E/2 = 2.4 E epochs
in place of 5 E, three rates 1.75 E in place of 3 E.

Source: Karnin, Koren & Somekh, ICML 2013; Jamieson & Talwalkar, AISTATS 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from graphnorms.training import Record

HALVING: Final = "halving"
"""What `--search` calls it."""


def sizes(rates: int) -> list[int]:
    """Return how many rates each round tries: of five 5, 3, 2."""
    found = []
    while rates > 1:
        found.append(rates)
        rates = -(-rates // 2)
    return found


def lengths(epochs: int, rates: int, least: int = 1) -> list[int]:
    """Return how many epochs a trial of each round has: E/8, E/4, E/2 of five rates.

    Args:
        epochs: Those of a reported trial.
        rates: How many rates there are.
        least: The fewest that a trial can have.
    """
    rounds = len(sizes(rates))
    return [max(least, round(epochs / 2 ** (rounds - each))) for each in range(rounds)]


def survivors(ended: Sequence[Record]) -> list[float]:
    """Return the rates of the better half of a round, ascending; see `place_of`.

    Args:
        ended: A trial for each rate.
    """
    # Imported here, as the options need no NumPy.
    from graphnorms.lab.learning_rate import place_of

    places = sorted((*place_of([record]), record.config["learning_rate"]) for record in ended)
    return sorted(place[-1] for place in places[: -(-len(places) // 2)])
