"""What is to be learned from a set of graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from graphnorms.errors import unknown_name

KINDS: Final = ("classification", "binary", "regression")
LEVELS: Final = ("graph", "node")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is predicted, for graphs or for nodes: the *items* of the task.

    | kind | target of an item | results per item |
    |---|---|---|
    | `"classification"` | a class, `(items,)` int64 | a logit per class |
    | `"binary"` | questions of yes or no, `(items, questions)` float32 | a logit per question |
    | `"regression"` | numbers, `(items, numbers)` float32 or float64 | a number each |

    A class is -1 where it is not known; an answer (1 for yes, 0 for no) or a number is NaN.

    Args:
        kind: One of the above.
        level: `"graph"` or `"node"`.
        targets: What the classes, questions or numbers are called.
        unit: Unit of the numbers, if known.

    Raises:
        ValueError: A word is unknown, or there are no targets.
    """

    kind: str
    level: str = "graph"
    targets: tuple[str, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        for what, given, known in (("task", self.kind, KINDS), ("level", self.level, LEVELS)):
            if given not in known:
                raise unknown_name(what, given, known)
        if not self.targets:
            raise ValueError(f"a {self.kind} task has no targets, expected one or more")

    @property
    def outputs(self) -> int:
        """Results of a model per item."""
        return len(self.targets)

    def __str__(self) -> str:
        count = len(self.targets)
        if self.kind == "classification":
            return f"{self.level} classification, {count} classes"
        if self.kind == "binary":
            few = "yes or no" if count == 1 else f"{count} questions of yes or no"
            return f"{self.level} classification, {few}"
        number = "a number" if count == 1 else f"{count} numbers"
        return f"{self.level} regression, {number}{f' in {self.unit}' if self.unit else ''}"
