"""Replaces the norms of a model, lists the changes, and can undo them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from graphnorms.dropin.call_watch import Detach
from graphnorms.dropin.known_norms import KnownNorm, Place, Recognizer, find_norms, recognize
from graphnorms.dropin.norm_hook import NormHook, withdraw
from graphnorms.dropin.rotating_norms import recognize_any
from graphnorms.dropin.transfer import owners_in, transfer


@dataclass(frozen=True)
class Change:
    """The change of one norm.

    Args:
        names: Its qualified names; several if it is used in several places.
        old: The norm.
        new: Its replacement; `None` if the old norm was kept.
        note: What was transferred, or why the old norm was kept.
    """

    names: tuple[str, ...]
    old: nn.Module
    new: nn.Module | None
    note: str

    @property
    def name(self) -> str:
        """The name at its first place."""
        return self.names[0]


class Replacement:
    """A model with replaced norms; prints as a table of the changes.

    Args:
        model: The model.
        known_as: Recognizes the norms.

    Attributes:
        model: The model; if it was itself a norm, its replacement.
        changes: The change of every norm in the order of the model: `name` (`names` if used in
            several places), `old`, `new` (`None` if kept) and `note`: what was transferred, or why
            the norm was kept.
        notes: Further remarks for the user, in sentences.
        norms: The norms of the original model.
        unknown: The names of modules that are named like norms but not known.
        steps: Functions that `undo` calls in reverse order.

    Raises:
        ValueError: The model has no norm.
    """

    def __init__(self, model: nn.Module, known_as: Recognizer = recognize) -> None:
        self.model = model
        self.changes: tuple[Change, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.steps: list[Detach] = []
        is_norm = known_as(model) is not None
        holder = nn.ModuleDict({type(model).__name__: model}) if is_norm else model
        self.norms, self.unknown = find_norms(holder, known_as)
        self._owners = owners_in(holder)
        self._exchanged: list[tuple[Place, nn.Module, nn.Module]] = []
        self._undone = False
        if not self.norms:
            by_hand = f"; replace these yourself: {', '.join(self.unknown)}"
            whose = "PyG, torch or graphnorms"
            if known_as is recognize_any:
                whose = "PyG, torch, graphnorms, e3nn, fairchem, cuEquivariance or Equiformer"
            raise ValueError(
                f"{type(model).__name__} has no norm of {whose}{by_hand if self.unknown else ''}"
            )

    def exchange(
        self,
        decide: Callable[[KnownNorm], nn.Module | str],
        keep: bool = True,
        unshare: bool = False,
    ) -> Iterator[tuple[KnownNorm, list[nn.Module], list[NormHook]]]:
        """Replace the norms, after a decision on all of them: an error leaves the model unchanged.

        Args:
            decide: Returns the module that replaces a norm (possibly the norm itself), or why the
                norm is kept.
            keep: Whether to transfer parameters and statistics.
            unshare: Whether a norm that is used in several places is replaced by separate ones.

        Yields:
            The replaced norms, the module at each of their places, and the removed hooks that
            passed the batch.
        """
        decided: list[tuple[KnownNorm, nn.Module | str, str]] = []
        for norm in self.norms:
            new, note = decide(norm), "everything: it is the same norm"
            if isinstance(new, nn.Module) and new is not norm.module:
                note = transfer(norm, new.train(norm.module.training), self._owners, keep)
            decided.append((norm, new, note))
        for norm, new, note in decided:
            if isinstance(new, str):
                self.changes += (Change(norm.names, norm.module, None, new),)
                continue
            ones = [new] * len(norm.places)
            if len(ones) > 1:
                note += f"; {'one each' if unshare else 'still one'} for {len(ones)} places"
            if unshare:
                ones[1:] = [_copy_of(new, norm.module) for _ in ones[1:]]
            self.changes += (Change(norm.names, norm.module, new, note),)
            hooks: list[NormHook] = []
            if norm.module not in set(new.modules()):
                hooks, put_back = withdraw(norm.module)
                self.steps.append(put_back)
            for place, one in zip(norm.places, ones, strict=True):
                self._exchanged.append((place, norm.module, one))
                place.put(one)
            if norm.module is self.model:
                self.model = new
            yield norm, ones, hooks

    def name_unknown(self) -> None:
        """Add a note on the modules that are named like norms but not known."""
        if self.unknown:
            self.notes += (f"Kept, because they are unknown: {', '.join(self.unknown)}.",)

    @property
    def changed(self) -> tuple[Change, ...]:
        """The norms that were replaced."""
        return tuple(change for change in self.changes if change.new is not None)

    @property
    def left(self) -> tuple[Change, ...]:
        """The norms that were kept, with the reason in the note."""
        return tuple(change for change in self.changes if change.new is None)

    def undo(self) -> nn.Module:
        """Restore the old norms with their values, and remove the hooks.

        Returns:
            The model; the old norm if the model was itself one.

        Raises:
            ValueError: It was called before, or norms were replaced again since.
        """
        if self._undone:
            raise ValueError("undo was called before; the model has its old norms")
        for place, _, new in self._exchanged:
            if place.module is not new:
                raise ValueError(
                    f"{place.name} was replaced again; undo the later replacement first"
                )
        for place, old, new in self._exchanged:
            place.put(old)
            if new is self.model:
                self.model = old
        for step in reversed(self.steps):
            step()
        self._undone = True
        return self.model

    def __str__(self) -> str:
        total = f"{len(self.changed)} of {len(self.changes)} norms replaced."
        rows = table_of(self.changes, "transferred, or why it was kept", "kept")
        return "\n".join([*rows, total, *self.notes])

    def __repr__(self) -> str:
        return f"Replacement({len(self.changed)} of {len(self.changes)} norms replaced)"


def table_of(changes: Iterable[Change], what: str, left: str) -> list[str]:
    """Return the lines of a table of changes.

    Args:
        changes: The changes.
        what: The heading of the notes.
        left: What is said in place of a new norm.
    """
    lines = [("norm", "was", "is", what)]
    for change in changes:
        new = left if change.new is None else _title(change.new)
        lines.append((", ".join(change.names), _title(change.old), new, change.note))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _copy_of(new: nn.Module, old: nn.Module) -> nn.Module:
    """Copy a norm, except for parameters that it shares with the old one (tied parameters)."""
    own = {id(parameter) for parameter in new.parameters()}
    return copy.deepcopy(new, {id(p): p for p in old.parameters() if id(p) in own})


def _title(module: nn.Module) -> str:
    known = recognize_any(module)
    name = type(module).__name__
    if known is None:
        return name
    width = "" if known.channels is None else known.channels
    return f"{known.library}: {name}({width})"
