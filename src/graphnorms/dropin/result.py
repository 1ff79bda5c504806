"""The exchange of the norms of a model, a table of what was done, and the way back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from graphnorms.dropin.known_norms import KnownNorm, Place, find_norms, recognize
from graphnorms.dropin.norm_hook import NormHook, withdraw
from graphnorms.dropin.transfer import owners_in, transfer
from graphnorms.dropin.watch import Detach


@dataclass(frozen=True)
class Change:
    """What became of one norm.

    Args:
        names: Its qualified names; more than one if it is used in several places.
        old: The norm.
        new: What stands there now; `None` if it was left.
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
        model: The model.

    Attributes:
        model: The model; if it is a norm itself, the norm that replaced it.
        changes: What became of every norm, in the order of the model: `name` (`names`, if it is
            used in several places), `old`, `new` (`None` if it was left) and `note`, what was
            carried over or why it was left.
        notes: What else a user should know, in sentences.
        norms: The norms that the model had.
        unknown: The names of modules that are called norms and are not known.
        steps: What else `undo` has to do, in the order in which it was done.

    Raises:
        ValueError: The model holds no norm.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.changes: tuple[Change, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.steps: list[Detach] = []
        is_norm = recognize(model) is not None
        holder = nn.ModuleDict({type(model).__name__: model}) if is_norm else model
        self.norms, self.unknown = find_norms(holder)
        self._owners = owners_in(holder)
        self._exchanged: list[tuple[Place, nn.Module, nn.Module]] = []
        self._undone = False
        if not self.norms:
            by_hand = f", but these, to be exchanged by hand: {', '.join(self.unknown)}"
            raise ValueError(
                f"{type(model).__name__} holds no norm of PyG, torch or graphnorms"
                f"{by_hand if self.unknown else ''}"
            )

    def exchange(
        self,
        decide: Callable[[KnownNorm], nn.Module | str],
        keep: bool = True,
        unshare: bool = False,
    ) -> Iterator[tuple[KnownNorm, list[nn.Module], list[NormHook]]]:
        """Exchange the norms, after a decision on all, so that a refusal leaves the model alone.

        Args:
            decide: Returns the module that replaces a norm, which may be the norm itself, or why
                the norm is left.
            keep: Whether to carry parameters and statistics over.
            unshare: Whether a norm that is used in several places is replaced by one for each.

        Yields:
            The norms that were exchanged, the module in each of their places, and the hooks that
            gave them the batch, which are removed.
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
        for step in reversed(self.steps):
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


def _copy_of(new: nn.Module, old: nn.Module) -> nn.Module:
    """Copy a norm, except for parameters that it shares with the old one, as tied ones are."""
    own = {id(parameter) for parameter in new.parameters()}
    return copy.deepcopy(new, {id(p): p for p in old.parameters() if id(p) in own})


def _title(module: nn.Module) -> str:
    known = recognize(module)
    name = type(module).__name__
    if known is None:
        return name
    width = "" if known.channels is None else known.channels
    return f"{known.library}: {name}({width})"
