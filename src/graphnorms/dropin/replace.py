"""`replace_norms` and `convert_sync`: other norms for a model, or synchronized ones."""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from graphnorms.dropin.call_once import NormCall, call_once
from graphnorms.dropin.known_norms import (
    KnownNorm,
    Path,
    is_of_images,
    is_per_graph,
    recognize,
    same,
    takes_channels,
)
from graphnorms.dropin.norm_hook import NormHook
from graphnorms.dropin.result import Replacement
from graphnorms.dropin.watch import Detach, watch_model
from graphnorms.kernels.ranks import Group, as_ranks
from graphnorms.layers.base import Norm
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.factory import lookup, make_norm
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.super_norm import SuperNorm
from graphnorms.layers.united_norm import UnitedNorm

Target = str | Callable[..., "nn.Module | str | None"]
"""The new norms: a name, or a function of the old norm, or of it and its qualified name."""

Where = str | Callable[[str, nn.Module], bool]
"""Which norms: a pattern of their names, or a function of name and module."""

SAME: Final = "same"
_WRAPPERS: Final = ("DistributedDataParallel", "FullyShardedDataParallel")


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
    ask = _check(model, to)
    flags = {"keep_parameters": keep_parameters, "inplace": inplace, "unshare": unshare}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{flag} is {value!r}, expected True or False")
    if not (single_graph is None or isinstance(single_graph, bool)):
        raise ValueError(f"single_graph is {single_graph!r}, expected None, True or False")
    if not inplace:
        model = copy.deepcopy(model)
    result = Replacement(model)
    is_wanted = _selection(where, result.norms)
    calls = None if example is None else call_once(model, example, result.norms)

    def decide(norm: KnownNorm) -> nn.Module | str:
        if not is_wanted(norm):
            return "left by `where`"
        seen = None if calls is None else calls.get(id(norm.module), [])
        return norm.reason or _new_norm(norm, ask(norm), model, seen)

    hooked: dict[int, tuple[nn.Module, KnownNorm, list[Path]]] = {}
    for norm, ones, _ in result.exchange(decide, keep_parameters, unshare):
        for place, one in zip(norm.places, ones, strict=True):
            hooked.setdefault(id(one), (one, norm, []))[2].extend(place.paths)
    per_graph = False
    for one, norm, paths in hooked.values():
        positions = norm.library != "torch" or not isinstance(one, Norm)
        hook = NormHook(one, paths, positions=positions, single_graph=bool(single_graph))
        result.steps.append(hook.attach(one))
        per_graph = per_graph or hook.per_graph
    if result.unknown:
        result.notes += (f"Not known, and left: {', '.join(result.unknown)}.",)
    if per_graph and recognize(model) is None:  # a model that is a norm itself is given its batch
        steps, note = watch_model(model, set(hooked), single_graph)
        result.steps += steps
        result.notes += (note,) if note else ()
    return result


def convert_sync(
    model: nn.Module, process_group: Group = None, *, split_graphs: bool = False
) -> Replacement:
    """Have the norms of a model share their statistics over the ranks of a process group.

    In data-parallel training each rank has its own graphs. The ranks then share the statistics of
    the whole minibatch: in BatchNorm, HeteroBatchNorm, PowerNorm, DiffGroupNorm, the parts
    of UnitedNorm and SuperNorm that are BatchNorm, points of the equation with a domain of the
    batch, and the running averages of InstanceNorm. Statistics of a graph stay those of the rank
    that has the graph.

    With `split_graphs` every graph is spread over the ranks, its nodes under the same id on each,
    as one large graph in partitions: then the norms of graphs are shared, too.

    Our layers are set, in place. torch's `BatchNorm1d` and `SyncBatchNorm` and PyG's norms are
    exchanged for ours, with their parameters and running averages, and with what `replace_norms`
    carries over besides.

    Args:
        model: The model; it is changed.
        process_group: The ranks: a `ProcessGroup`, or `None` or `"world"` for all. Nothing is
            exchanged among them now.
        split_graphs: Whether the nodes of a graph are on several ranks.

    Returns:
        The model, a table of what became of every norm, and `undo()`. Where the model is a norm
        of another library itself, the model is the one that took its place.

    Raises:
        ValueError: The model holds no norm, `process_group` is no group, or a norm of another
            library is in a model that is wrapped for distributed training already.
    """
    _check_module(model)
    group = True if process_group is None else process_group
    if as_ranks(group) is None:
        raise ValueError("process_group is False, expected a ProcessGroup, or None for the world")
    result = Replacement(model)

    def share(new: nn.Module, old: nn.Module) -> Detach:
        own = getattr(old, "process_group", None) if process_group is None else None
        return _share(new, own or group, split_graphs)

    def decide(norm: KnownNorm) -> nn.Module | str:
        reason = _why_not(norm, split_graphs)
        if reason or isinstance(norm.module, Norm):
            return reason or norm.module
        if type(model).__name__ in _WRAPPERS:
            raise ValueError(
                f"the model is a {type(model).__name__}, which knows its parameters already; "
                "call convert_sync first, and wrap the result"
            )
        new = same(norm, **_device_and_dtype(norm.module))
        share(new, norm.module)
        return new

    for norm, (new, *_), hooks in result.exchange(decide):
        if new is norm.module:
            result.steps.append(share(new, new))
        for hook in hooks:
            again = NormHook(
                new, hook.paths, positions=hook.positions, single_graph=hook.single_graph
            )
            result.steps.append(again.attach(new))
    ranks = "the world" if group in (True, "world") else f"the group {as_ranks(group)}"
    result.notes = (f"What they measure is shared over the ranks of {ranks}.",)
    return result


def _check_module(model: object) -> None:
    if isinstance(model, type):
        raise ValueError(f"model is the class {model.__name__}, expected a module made of it")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model has type {type(model).__name__}, expected a module of torch")


def _check(model: nn.Module, to: Target) -> Callable[[KnownNorm], Any]:
    """Refuse what cannot work; return a function from an old norm to what `to` says of it."""
    _check_module(model)
    for module in model.modules():
        if type(module).__name__ in (*_WRAPPERS, "DataParallel"):
            raise ValueError(
                f"the model is wrapped in {type(module).__name__}, which knows its parameters "
                "already; call replace_norms first, and wrap the result"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError("the model is compiled by TorchScript; call replace_norms before")
    if isinstance(to, str):
        if to != SAME:
            _check_name(to)
        return lambda norm: to
    expected = (
        "the name of a norm, 'same', or a function of the old norm, as lambda old: GraphNorm(…)"
    )
    if _count_arguments("to", to, (1, 2), expected) == 2:
        return lambda norm: to(norm.module, norm.name)
    return lambda norm: to(norm.module)


def _check_name(to: str) -> None:
    if needs := lookup(to).needs:
        raise ValueError(
            f"the norm {to!r} takes {' and '.join(needs)} besides features and graphs, which "
            "models do not give their norms; choose another"
        )


def _count_arguments(name: str, function: object, counts: tuple[int, ...], expected: str) -> int:
    """Return the first of some numbers of arguments with which a function can be called.

    Args:
        name: What it was given as.
        function: What was given.
        counts: The numbers of arguments.
        expected: What it should have been, in words.

    Raises:
        ValueError: It is no function, or takes another number of arguments.
    """
    if isinstance(function, type):
        raise ValueError(f"{name} is the class {function.__name__}, expected {expected}")
    if not callable(function) or isinstance(function, nn.Module):
        raise ValueError(f"{name} has type {type(function).__name__}, expected {expected}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # as of those written in C, which do not say
        return counts[0]
    for count in counts:
        with contextlib.suppress(TypeError):
            signature.bind(*range(count))
            return count
    raise ValueError(
        f"{name} is a function of {len(signature.parameters)} arguments, expected {expected}"
    )


def _selection(where: Where | None, norms: list[KnownNorm]) -> Callable[[KnownNorm], bool]:
    """Return a function that tells whether a norm is meant, by any of its names.

    Raises:
        ValueError: A pattern matches none of the norms.
    """
    if where is None:
        return lambda norm: True
    if not isinstance(where, str):
        expected = "a pattern of names, or a function of name and norm"
        _count_arguments("where", where, (2,), expected)
        return lambda norm: any(where(name, norm.module) for name in norm.names)
    names = [name for norm in norms for name in norm.names]
    wanted = set(fnmatch.filter(names, where))
    if not wanted:
        raise ValueError(f"where is {where!r}, which matches none of {', '.join(names)}")
    return lambda norm: not wanted.isdisjoint(norm.names)


def _new_norm(
    old: KnownNorm, to: Any, model: nn.Module, calls: list[NormCall] | None
) -> nn.Module | str:
    """Build the module that replaces a norm, or say why the norm is left.

    Args:
        old: The norm.
        to: The module, its name, or `None`.
        model: The model.
        calls: The calls of the norm with the example, if there is one.
    """
    if to is None:
        return "left by `to`"
    made: nn.Module = to
    if isinstance(to, str):
        channels = old.channels
        if channels is None and calls and len(calls[0].shape) == 2:
            channels = calls[0].shape[1]
        place = _device_and_dtype(old.module, model)
        if to == SAME:
            made = same(old, **place)
        else:
            _check_name(to)
            if channels is None and takes_channels(lookup(to).layer):
                return f"{type(old.module).__name__} does not say its width; give an example"
            try:
                made = make_norm(to, channels or 0, **place)
            except ValueError as error:
                raise ValueError(f"{to!r} does not fit {old.name}: {error}") from None
    elif not isinstance(to, nn.Module):
        what = f"the class {to.__name__}" if isinstance(to, type) else f"{to!r}"
        raise ValueError(
            f"to returned {what} for {old.name}, expected a module, the name of a norm, or None"
        )
    if calls == []:
        return "it is not called with the example"
    for call in calls or ():
        if reason := call.reason(per_graph=is_per_graph(made)):
            return reason
    now = recognize(made)
    if now is not None and now.channels and old.channels and now.channels != old.channels:
        raise ValueError(
            f"to returned a {type(made).__name__} of {now.channels} channels for {old.name}, "
            f"which has {old.channels}"
        )
    return made


def _device_and_dtype(*modules: nn.Module) -> dict[str, Any]:
    """Return device and dtype of the first floating-point tensor of the modules."""
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return {"device": tensor.device, "dtype": tensor.dtype}
    return {}


def _why_not(norm: KnownNorm, split_graphs: bool) -> str:
    """Return why ranks do not share the statistics of a norm; empty if they do."""
    old = norm.module
    if isinstance(old, Norm):
        whose = old.statistics_of
        averages = isinstance(old, InstanceNorm) and old.track_running_stats
        if split_graphs and isinstance(old, UnitedNorm | SuperNorm):
            return "its parts over graphs need graphs that are whole on a rank"
    elif is_of_images(old):
        return norm.reason
    elif norm.library == "torch" and norm.kind == "instance":
        return "its instances are entries of the first dimension, and no graphs"
    else:
        row = CATALOG[norm.kind]
        whose = "batch" if norm.kind == "diff-group" else row.point.segment
        averages = norm.kind == "instance" and bool(norm.settings["track_running_stats"])
        if whose and not row.needs and norm.reason:
            return norm.reason
    if not whose:
        return "it has no statistic over rows that ranks could share"
    if whose == "graph" and not (split_graphs or averages):
        return "its graphs are whole on a rank; split_graphs=True where they are not"
    return ""


def _share(norm: nn.Module, group: Group, split_graphs: bool) -> Detach:
    """Have a norm share its statistics over a group; return how to stop."""
    settings: dict[str, Any] = {"process_group": group}
    if isinstance(norm, InstanceNorm):
        settings["whole_graphs"] = not split_graphs
    before = {name: getattr(norm, name) for name in settings}

    def set_all(values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(norm, name, value)

    set_all(settings)
    return functools.partial(set_all, before)
