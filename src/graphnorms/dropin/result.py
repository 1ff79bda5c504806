"""What `replace_norms` returns: the model, a table of what was done, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class Change:
    """What became of one norm.

    Args:
        name: Its qualified name, and those of other places where the same module stood.
        old: The module that stood there.
        new: The module that stands there now; `None` where it was left.
        note: What the new one has taken over, or why the old one was left.
    """

    name: str
    old: nn.Module
    new: nn.Module | None
    note: str
    also: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether another module stands there now."""
        return self.new is not None


@dataclass
class Replacement:
    """A model whose norms were exchanged; printed, a table of what was done.

    Args:
        model: The model: the one given, or its copy.
        changes: What became of every norm, in the order of the model.
        notes: What else is to be known, in words.
    """

    model: nn.Module
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    _undo: Callable[[], nn.Module] | None = field(default=None, repr=False)

    @property
    def changed(self) -> tuple[Change, ...]:
        """The norms that were exchanged."""
        return tuple(change for change in self.changes if change.changed)

    @property
    def left(self) -> tuple[Change, ...]:
        """The norms that were left, each with the reason in its note."""
        return tuple(change for change in self.changes if not change.changed)

    def undo(self) -> nn.Module:
        """Put the old norms back, as they were, take the hooks away, and return the model.

        Raises:
            ValueError: It was done already, or the norms were exchanged again since.
        """
        if self._undo is None:
            raise ValueError("undo was called already: the old norms stand in the model")
        model = self._undo()
        self._undo = None
        self.model = model
        return model

    def __str__(self) -> str:
        header = ("norm", "was", "is", "kept, or why it was left")
        rows = [
            (change.name, _title(change.old), _title(change.new), change.note)
            for change in self.changes
        ]
        widths = [max(len(line[i]) for line in (header, *rows)) for i in range(3)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True))
            for line in (header, *rows)
        ]
        total = f"{len(self.changed)} of {len(self.changes)} norms exchanged"
        return "\n".join([*(line.rstrip() for line in lines), total, *self.notes])


def _title(module: nn.Module | None) -> str:
    return "left" if module is None else " ".join(repr(module).split())
