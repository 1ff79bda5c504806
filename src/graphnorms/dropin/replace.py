"""Exchanging the norms of a model."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from graphnorms.dropin.carrying import Owners, carry_over, owners_in
from graphnorms.dropin.example import Seen, call_once
from graphnorms.dropin.finding import attach_finders
from graphnorms.dropin.giving import Giver, withdraw
from graphnorms.dropin.norms import Known, is_per_graph, recognize, same, takes_channels
from graphnorms.dropin.result import Change, Exchange, Replacement
from graphnorms.dropin.slots import (
    Path,
    Standing,
    Where,
    check_function,
    check_module,
    find_norms,
    find_unknown,
    paths_to,
    selection,
)
from graphnorms.layers.base import Norm
from graphnorms.layers.factory import lookup, make_norm

Target = str | Callable[..., "nn.Module | str | None"]
"""What comes in: a name, or a function of the old norm, or of it and its qualified name."""

SAME: Final = "same"
_EXPECTED: Final = (
    "the name of a norm, 'same', or a function of the old norm, as lambda old: GraphNorm(…)"
)
_WRAPPERS: Final = ("DistributedDataParallel", "FullyShardedDataParallel", "DataParallel")


def replace_norms(
    model: nn.Module,
    to: Target = "graph",
    where: Where | None = None,
    keep_parameters: bool = True,
    inplace: bool = True,
    *,
    single_graph: bool | None = None,
    example: Any = None,
    unshare: bool = False,
) -> Replacement:
    """Exchange the norms of a model, and have the batch reach the new ones.

    Exchanged are PyG's norms, torch's `BatchNorm1d`, `SyncBatchNorm`, `LayerNorm`,
    `InstanceNorm1d`, `GroupNorm` and `RMSNorm`, and ours. The model is not rewritten: while it
    runs, `batch`, `batch_size` and `ptr` are found in what it, or a part of it, is called with,
    also inside a `Data` object, and a hook completes the calls of the new norms. What cannot be
    found so is given in `with graphnorms.batch(…)`. A norm that needs a batch and has none raises
    an error, and so do rows that two batches of a call describe, each in its own way; only a model
    without any argument that could hold a batch is taken to be given one graph at a time.

    New norms have parameters of their own: make the optimizer, and wrap the model for distributed
    training, behind this call.

    Args:
        model: The model; in place of one that is itself a norm, the result has the new one.
        to: What comes in: a catalogue name, with arguments behind a colon if there are any;
            `"same"` for our layer of the same kind, settings and values; or a function of the old
            norm, or of it and its qualified name, that returns a module, a name, or `None` to
            leave it.
        where: Which norms: a pattern of their qualified names, `"convs.*"`, or a function of
            name and module.
        keep_parameters: Whether to carry over what means the same: all of a norm of the same
            kind, weight and bias where both are per channel, running statistics between norms
            that keep the same ones. Hooks and attributes go along in any case.
        inplace: Whether to change the model given; else a copy of it.
        single_graph: Whether rows of which nothing is known are one graph: `None` for what is
            said above, `False` to refuse them in any model.
        example: What the model can be called with, a tuple of arguments, a mapping, or a `Data`
            object. It is called once, in `eval()` without gradients, and norms that are given
            something else than nodes are left: behind the pooling, of edges, of sequences.
        unshare: Whether places that use the same norm get one each; else they share the new one.

    Returns:
        The model, a table of what was done, and `undo()`.

    Raises:
        ValueError: The model holds no norm; it is wrapped for distributed training already; `to`
            is no name of a norm that takes features and graphs alone; `where` is a pattern that
            matches none; or an argument is of the wrong type. The model is then as it was.
    """
    _check(model, to)
    flags = {"keep_parameters": keep_parameters, "inplace": inplace, "unshare": unshare}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{flag} is {value!r}, expected True or False")
    if not (single_graph is None or isinstance(single_graph, bool)):
        raise ValueError(f"single_graph is {single_graph!r}, expected None, True or False")
    if not inplace:
        model = copy.deepcopy(model)
    holder = model
    if recognize(model) is not None:
        holder = nn.ModuleDict({type(model).__name__: model})
    norms = find_norms(holder)
    others = ", ".join(find_unknown(holder))
    if not norms:
        others = f"; exchange these by hand: {others}" if others else ""
        raise ValueError(
            f"{type(model).__name__} holds no norm of PyG, torch or graphnorms, which could be "
            f"exchanged{others}"
        )
    is_wanted = selection(where, norms)
    paths, owners = paths_to(holder), owners_in(holder)
    seen = None if example is None else call_once(model, example, norms)
    changes: list[Change] = []
    exchanges: list[Exchange] = []
    detach: list[Callable[[], None]] = []
    given: dict[int, tuple[nn.Module, Known, list[Path]]] = {}
    per_graph = False
    made: list[tuple[nn.Module | None, str]] = []
    for norm in norms:  # all of them before one is put in: a refusal leaves the model as it was
        new, note = None, "left by `where`"
        if is_wanted(norm):
            calls = None if seen is None else seen.get(id(norm.module), [])
            new, note = _new_norm(norm, to, model, owners, keep_parameters, calls)
        made.append((new, note))
    for norm, (new, note) in zip(norms, made, strict=True):
        if new is None:
            changes.append(Change(norm.names, norm.module, None, note))
            continue
        if norm.known.caveat and new is not norm.module:
            note += f"; {norm.known.caveat}"
        if len(norm.slots) > 1:
            note += f"; {'one each' if unshare else 'still one'} for {len(norm.slots)} places"
        if norm.module not in set(new.modules()):
            detach.append(withdraw(norm.module)[1])
        ones = [new, *(_copy_of(new, norm.module) for _ in norm.slots[1:] if unshare)]
        for i, slot in enumerate(norm.slots):
            one = ones[i if unshare else 0]
            exchanges.append(Exchange(slot, norm.module, one))
            ways = [path.into(slot.parent, slot.key) for path in paths[id(slot.parent)]]
            given.setdefault(id(one), (one, norm.known, []))[2].extend(ways)
        changes.append(Change(norm.names, norm.module, new, note))
    for one, known, ways in given.values():
        giver = _giver(one, tuple(ways), known, single_graph)
        per_graph = per_graph or giver.per_graph
        detach.append(giver.attach(one))
    for exchange in exchanges:
        exchange.slot.put(exchange.new)
    notes = [f"Not known, and left: {others}."] if others else []
    if holder is not model:
        (model,) = holder.children()
    elif per_graph:
        finders, note = attach_finders(model, set(given), single_graph)
        detach += finders
        notes += [note] if note else []
    return Replacement(model, tuple(changes), tuple(notes), exchanges, detach)


def _check(model: nn.Module, to: Target) -> None:
    """Refuse what cannot work, before anything is changed."""
    check_module(model)
    for module in model.modules():
        if type(module).__name__ in _WRAPPERS:
            raise ValueError(
                f"the model is wrapped in {type(module).__name__}, which knows its parameters "
                "already; call replace_norms first, and wrap the result"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError("the model is compiled by TorchScript; call replace_norms before")
    if not isinstance(to, str):
        check_function("to", to, (1, 2), _EXPECTED)
    elif to != SAME:
        _check_name(to)


def _check_name(to: str) -> None:
    if needs := lookup(to).needs:
        raise ValueError(
            f"the norm {to!r} takes {' and '.join(needs)} besides features and graphs, which "
            "models do not give their norms; choose another"
        )


def _new_norm(
    norm: Standing,
    to: Target,
    model: nn.Module,
    owners: Owners,
    keep: bool,
    calls: list[Seen] | None,
) -> tuple[nn.Module | None, str]:
    """Make what comes in place of a norm; or nothing, with the reason."""
    if norm.reason:
        return None, norm.reason
    old, was = norm.module, norm.known
    made: Any = to
    if not isinstance(to, str):
        made = to(old, norm.name) if _takes_name(to) else to(old)
    if made is None:
        return None, "left by `to`"
    if isinstance(made, str):
        if made != SAME:
            _check_name(made)
        channels = was.channels
        if channels is None and calls and len(calls[0].shape) == 2:
            channels = calls[0].shape[1]
        if made == SAME:
            made = same(was, **_place_of(old, model))
        elif channels is None and takes_channels(lookup(made).layer):
            return None, f"{type(old).__name__} does not say its width; give an example"
        else:
            try:
                made = make_norm(made, channels or 0, **_place_of(old, model))
            except ValueError as error:
                raise ValueError(f"{made!r} does not fit {norm.name}: {error}") from None
    elif not isinstance(made, nn.Module):
        what = f"the class {made.__name__}" if isinstance(made, type) else f"{made!r}"
        raise ValueError(
            f"to returned {what} for {norm.name}, expected a module, the name of a norm, or None"
        )
    if calls is not None:
        if not calls:
            return None, "it is not called with the example"
        for call in calls:
            if reason := call.reason(per_graph=is_per_graph(made)):
                return None, reason
    if made is old:
        return made, "everything: it is the same norm"
    now = recognize(made)
    if now is not None and now.channels and was.channels and now.channels != was.channels:
        raise ValueError(
            f"to returned a {type(made).__name__} of {now.channels} channels for {norm.name}, "
            f"which has {was.channels}"
        )
    made.train(old.training)
    return made, carry_over(old, was, made, now, owners, keep)


def _copy_of(new: nn.Module, old: nn.Module) -> nn.Module:
    """Copy a norm, but for the parameters that it has kept of the old one, as tied ones are."""
    own = {id(parameter) for parameter in new.parameters()}
    kept = {id(p): p for p in old.parameters() if id(p) in own}
    return copy.deepcopy(new, dict(kept))


def _giver(new: nn.Module, paths: tuple[Path, ...], was: Known, single_graph: bool | None) -> Giver:
    return Giver(
        new,
        paths,
        per_graph=is_per_graph(new),
        positions=was.library != "torch" or not isinstance(new, Norm),
        single_graph=bool(single_graph),
    )


def _place_of(old: nn.Module, model: nn.Module) -> dict[str, Any]:
    """Return device and dtype of a norm; of the model, where the norm has nothing that tells."""
    for module in (old, model):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return {"device": tensor.device, "dtype": tensor.dtype}
    return {}


def _takes_name(function: Callable[..., Any]) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    required = [p for p in parameters if p.kind in kinds and p.default is p.empty]
    return len(required) > 1
