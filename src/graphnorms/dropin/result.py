"""What `replace_norms` returns: the model, a table of what was done, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from graphnorms.dropin.norms import Place, recognize


@dataclass(frozen=True)
class Change:
    """What became of one norm.

    Args:
        names: Its qualified name; several where it stands in several places.
        old: The norm.
        new: What stands there now; `None` where it was left.
        note: What was carried over, or why it was left.
    """

    names: tuple[str, ...]
    old: nn.Module
    new: nn.Module | None
    note: str

    @property
    def name(self) -> str:
        """The name of its first place."""
        return self.names[0]


class Replacement:
    """A model whose norms were exchanged; printed, a table of what was done.

    Args:
        model: The model: the one given, or its copy.
        changes: What became of every norm, in the order of the model: `name` (`names`, where it
            stands in several places), `old`, `new` (`None` where it was left) and `note`, what
            was carried over or why it was left.
        notes: What else there is to know, in sentences.
        exchanged: The places of norms, with what stood there before and what stands there now.
        steps: How to take back what was done besides, in order.

    Attributes:
        model, changes, notes: As given.
    """

    def __init__(
        self,
        model: nn.Module,
        changes: Sequence[Change],
        notes: Sequence[str],
        exchanged: Sequence[tuple[Place, nn.Module, nn.Module]],
        steps: Sequence[Callable[[], None]],
    ) -> None:
        self.model = model
        self.changes = tuple(changes)
        self.notes = tuple(notes)
        self._exchanged = exchanged
        self._steps = steps
        self._undone = False

    @property
    def changed(self) -> tuple[Change, ...]:
        """The norms that were exchanged."""
        return tuple(change for change in self.changes if change.new is not None)

    @property
    def left(self) -> tuple[Change, ...]:
        """The norms that were left, each with the reason in its note."""
        return tuple(change for change in self.changes if change.new is None)

    def undo(self) -> nn.Module:
        """Put the old norms back, with the values they had, and take the hooks away.

        Returns:
            The model; the old norm, where the model was one itself.

        Raises:
            ValueError: It was done already, or norms were exchanged again since.
        """
        if self._undone:
            raise ValueError("undo was called before, and the old norms stand in the model")
        for place, _, new in self._exchanged:
            if place.module is not new:
                raise ValueError(
                    f"{place.name} was exchanged again since; undo the later one first"
                )
        for place, old, new in self._exchanged:
            place.put(old)
            if new is self.model:
                self.model = old
        for step in reversed(self._steps):
            step()
        self._undone = True
        return self.model

    def __str__(self) -> str:
        lines = [("norm", "was", "is", "kept, or why it was left")]
        for change in self.changes:
            new = "left" if change.new is None else _title(change.new)
            lines.append((", ".join(change.names), _title(change.old), new, change.note))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        total = f"{len(self.changed)} of {len(self.changes)} norms exchanged."
        return "\n".join([*table, total, *self.notes])

    def __repr__(self) -> str:
        return f"Replacement({len(self.changed)} of {len(self.changes)} norms exchanged)"


def _title(module: nn.Module) -> str:
    known = recognize(module)
    name = type(module).__name__
    if known is None:
        return name
    width = "" if known.channels is None else known.channels
    return f"{known.library}: {name}({width})"
