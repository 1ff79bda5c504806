"""How much a comparison may cost: three sizes, the same for every norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from graphnorms.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a comparison of one size tries.

    Args:
        learning_rates: The grid, the same for every norm.
        proposals: What a search tries in its place.
        epochs: Of the preset's epochs, the share that a trial gets.
        runs: In a nested cross-validation, the trials of a fold with the chosen rate.
        seeds: On a given split, the seeds that are reported, each with a rate chosen for it.
    """

    learning_rates: tuple[float, ...]
    proposals: int
    epochs: float
    runs: int
    seeds: int


QUICK: Final = "quick"
"""The budget that is meant when none is named."""

# The grids surround the 3e-3 to 5e-3 at which Adam trains small graph networks, widely enough that
# the best rate is seldom the last. Six seeds are the fewest that can tell norms apart at all; with
# ten a difference of five points is seldom missed (docs/checked.md).
BUDGETS: Final = {
    "quick": Budget(learning_rates=(1e-3, 5e-3, 2e-2), proposals=10, epochs=0.5, runs=1, seeds=10),
    "standard": Budget(
        learning_rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2), proposals=20, epochs=1.0, runs=3, seeds=15
    ),
    "full": Budget(
        learning_rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2), proposals=30, epochs=2.0, runs=5, seeds=30
    ),
}


def budget_named(name: str) -> Budget:
    """Return a budget by name.

    Raises:
        ValueError: There is no such budget.
    """
    if name not in BUDGETS:
        raise unknown_name("budget", name, BUDGETS)
    return BUDGETS[name]
