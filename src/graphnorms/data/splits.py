"""Which items train, which choose the settings, and which test what was chosen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from torch import Tensor

from graphnorms.errors import unknown_name

SPLITS: Final = ("fold", "given", "random", "paper")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """One division of a set, as data: equal configs divide equal sets alike.

    | kind | test | validation | training |
    |---|---|---|---|
    | `"fold"` | fold number `fold` of `folds` | a share `holdout` of the rest | what is left |
    | `"given"` | as the set says | as the set says | as the set says |
    | `"random"` | a share `holdout` | as large | what is left |
    | `"paper"` | nothing | fold number `fold` of `folds` | what is left |

    Classes are about as frequent in every part as in the whole. Where nodes of several graphs
    are predicted, whole graphs are divided; nodes of one graph, and given splits, by the node.

    Args:
        kind: One of the above.
        folds, fold: How many folds, and which is held out.
        seed: Seeds the shuffling; the folds of one seed are one cross-validation.
        holdout: A share, between 0 and 1/2.

    Raises:
        ValueError: A value is not possible.
    """

    kind: str
    folds: int = 0
    fold: int = 0
    seed: int = 0
    holdout: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in SPLITS:
            raise unknown_name("split", self.kind, SPLITS)
        if self.kind in ("fold", "paper") and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"fold {self.fold} of {self.folds}: expected two folds or more, counted from 0"
            )
        if not 0 < self.holdout < 0.5:
            raise ValueError(f"holdout is {self.holdout}, expected a share between 0 and 1/2")

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data; `SplitConfig(**data)` reads it back."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Split:
    """Ids of the items of each part, ascending int64 on the CPU; graphs or nodes."""

    train: Tensor
    validation: Tensor
    test: Tensor
