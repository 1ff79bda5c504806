"""Exchanging the norms of a model."""

from __future__ import annotations

import copy
import fnmatch
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from graphnorms.dropin.carrying import carry_over
from graphnorms.dropin.finding import Finder
from graphnorms.dropin.giving import Giver
from graphnorms.dropin.norms import Known, recognize
from graphnorms.dropin.result import Change, Replacement
from graphnorms.layers.factory import lookup, make_norm

Target = str | Callable[..., "nn.Module | str | None"]
Where = str | Callable[[str, nn.Module], bool]


def replace_norms(
    model: nn.Module,
    to: Target = "graph",
    where: Where | None = None,
    keep_parameters: bool = True,
    inplace: bool = True,
    *,
    single_graph: bool | None = None,
) -> Replacement:
    """Exchange the norms of a model, and have the batch reach the new ones.

    Exchanged are torch's `BatchNorm1d`, `SyncBatchNorm`, `LayerNorm`, `InstanceNorm1d`,
    `GroupNorm` and `RMSNorm`, PyG's norms and ours.

    Args:
        model: The model.
        to: What comes in: a catalogue name, with arguments behind a colon if there are any, or a
            function of the old norm, or of it and its qualified name, that returns a module, a
            name, or `None` to leave it.
        where: Which norms: a pattern of their qualified names, `"convs.*"`, or a function of name
            and module.
        keep_parameters: Whether to carry over what means the same: see `Change.note`.
        inplace: Whether to change the model given; else a copy of it.
        single_graph: Whether rows of which nothing is known are one graph. `None` for yes where
            the model has no argument that could hold a batch.

    Returns:
        The model, a table of what was done, and `undo()`.

    Raises:
        ValueError: The model holds no norm; `to` is no name of a norm that takes features and
            graphs alone; or a pattern matches none.
    """
    if isinstance(to, str) and (needs := lookup(to).needs):
        raise ValueError(
            f"the norm {to!r} takes {' and '.join(needs)}, which a model does not give its norms"
        )
    if not inplace:
        model = copy.deepcopy(model)
    slots = list(_slots(model))
    if not slots:
        raise ValueError(f"{type(model).__name__} holds no norm that can be exchanged")
    wanted = _selection(where, [slot.name for slot in slots])
    changes: list[Change] = []
    new_of: dict[int, nn.Module] = {}
    back: list[Callable[[], None]] = []
    changed_parents: list[nn.Module] = []
    groups: dict[int, list[_Slot]] = {}
    for slot in slots:
        groups.setdefault(id(slot.module), []).append(slot)
    for group in groups.values():
        first, *others = group
        names = tuple(slot.name for slot in others)
        old, known = first.module, first.known
        note = known.reason
        new: nn.Module | None = None
        if not any(wanted(slot.name, old) for slot in group):
            note = "left by `where`"
        elif not note:
            new, note = _build(to, old, known, first.name, model, keep_parameters)
        changes.append(Change(first.name, old, new, note, names))
        if new is None:
            continue
        giver = Giver(
            new, first.name, per_graph=_is_per_graph(new),
            positions=known.library != "torch", single_graph=bool(single_graph),
        )  # fmt: skip
        back.append(giver.attach(new).remove)
        new_of[id(old)] = new
        for slot in group:
            slot.parent._modules[slot.key] = new
            changed_parents.append(slot.parent)
            back.append(_putting_back(slot, new))
    notes: list[str] = []
    root = Finder(model, root=True, single_graph=single_graph)
    if new_of:
        for handle in root.attach(model):
            back.append(handle.remove)
    result_model = model

    def undo() -> nn.Module:
        for step in reversed(back):
            step()
        return result_model

    return Replacement(model, tuple(changes), tuple(notes), undo)


class _Slot:
    def __init__(self, name: str, parent: nn.Module, key: str, module: nn.Module, known: Known):
        self.name = name
        self.parent = parent
        self.key = key
        self.module = module
        self.known = known


def _putting_back(slot: _Slot, new: nn.Module) -> Callable[[], None]:
    def put_back() -> None:
        slot.parent._modules[slot.key] = slot.module

    return put_back


def _slots(model: nn.Module) -> Iterator[_Slot]:
    seen: set[int] = set()

    def walk(module: nn.Module, prefix: str) -> Iterator[_Slot]:
        if id(module) in seen:
            return
        seen.add(id(module))
        for key, child in module._modules.items():
            if child is None:
                continue
            name = f"{prefix}{key}"
            known = recognize(child)
            if known is not None:
                yield _Slot(name, module, key, child, known)
            else:
                yield from walk(child, f"{name}.")

    yield from walk(model, "")


def _selection(where: Where | None, names: list[str]) -> Callable[[str, nn.Module], bool]:
    if where is None:
        return lambda name, module: True
    if not isinstance(where, str):
        return where
    if not fnmatch.filter(names, where):
        raise ValueError(f"where is {where!r}, which matches none of {', '.join(names)}")
    return lambda name, module: fnmatch.fnmatchcase(name, where)


def _build(
    to: Target, old: nn.Module, was: Known, name: str, model: nn.Module, keep: bool
) -> tuple[nn.Module | None, str]:
    made: Any = to
    if not isinstance(to, str):
        made = to(old, name) if _takes_name(to) else to(old)
        if made is None:
            return None, "left by `to`"
    if isinstance(made, str):
        if was.channels is None:
            return None, f"{type(old).__name__} does not know its width"
        made = make_norm(made, was.channels, **_place_of(old, model))
    made.train(old.training)
    if not keep:
        return made, "nothing: keep_parameters=False"
    return made, carry_over(old, was, made, recognize(made))


def _place_of(old: nn.Module, model: nn.Module) -> dict[str, Any]:
    for module in (old, model):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return {"device": tensor.device, "dtype": tensor.dtype}
    return {"device": torch.get_default_device(), "dtype": None}


def _takes_name(function: Callable[..., Any]) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    return len(taken) > 1


def _is_per_graph(norm: nn.Module) -> bool:
    declared = getattr(norm, "per_graph", None)
    if declared is not None:
        return bool(declared)
    return "batch" in inspect.signature(norm.forward).parameters
