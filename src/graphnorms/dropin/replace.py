"""`replace_norms` and `convert_sync`: replace or synchronize the norms of a model."""

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
from graphnorms.dropin.call_watch import Detach, watch_model
from graphnorms.dropin.fused import fuse, fused_norm
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
from graphnorms.dropin.rotating_norms import recognize_any
from graphnorms.dropin.transfer import device_and_dtype
from graphnorms.kernels.ranks import Group, as_ranks
from graphnorms.layers.base import Norm
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.factory import lookup, make_norm
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.super_norm import SuperNorm
from graphnorms.layers.united_norm import UnitedNorm

Target = str | Callable[..., "nn.Module | str | None"]
"""The new norms: a name, or a function of the old norm and, optionally, its qualified name."""

Where = str | Callable[[str, nn.Module], bool]
"""The norms to replace: a pattern of their names, or a function of name and module."""

SAME: Final = "same"
FUSED: Final = "fused"
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
    """Replace the norms of a model, and pass the batch to the new ones.

    This replaces PyG's norms, torch's `BatchNorm1d`, `SyncBatchNorm`, `LayerNorm`,
    `InstanceNorm1d`, `GroupNorm` and `RMSNorm`, and ours. The code of the model does not change:
    while it runs, `batch`, `batch_size` and `ptr` are found in the arguments of the model or of a
    part of it, also inside a `Data` object, and a hook passes them to the new norms. If they cannot
    be found, use `with graphnorms.batch(…)`. A norm that needs a batch and gets none raises an
    error, and so does a norm whose rows two batches of a call assign to different graphs. Only a
    model without any argument that could hold a batch is assumed to get one graph per call.

    New norms have new parameters: create the optimizer, and wrap the model for distributed
    training, after this call.

    Args:
        model: The model. If it is itself a norm, the result contains its replacement.
        to: The new norms: a catalogue name, optionally with arguments after a colon; `"same"` for
            our layer of the same kind, settings and values; `"fused"` for the same, but only where
            results, running averages and checkpoints are those of the old norm, also for norms of
            features that rotate (fairchem, e3nn, cuEquivariance, Equiformer), and without a batch
            that the model does not pass; or a function of the old norm and, optionally, its
            qualified name that returns a module, a name, or `None` to keep the old norm.
        where: The norms to replace: a pattern of their qualified names, `"convs.*"`, or a function
            of name and module.
        keep_parameters: Whether to transfer tensors with the same meaning: all between norms of the
            same kind, else weight and bias if both are per channel. Hooks and attributes are always
            transferred.
        inplace: Whether to change the model itself or a copy.
        single_graph: Whether to treat rows without a known batch as one graph: `None` as described
            above, `False` to always refuse them.
        example: Arguments of the model: a tuple, a mapping, or a `Data` object. The model is called
            once, in `eval()` without gradients, and norms of other inputs than nodes are kept:
            after the pooling, of edges, of sequences.
        unshare: Whether places that share a norm get separate new norms; else they share one.

    Returns:
        The model, a table of the changes, and `undo()`.

    Raises:
        ValueError: The model has no norm or is already wrapped for distributed training; `to` is
            not the name of a norm that needs only features and graphs; `where` is a pattern that
            matches no norm; `"fused"` is given with `keep_parameters=False` or `single_graph`; or
            an argument has a wrong type. The model is unchanged then.
    """
    ask = _check(model, to)
    flags = {"keep_parameters": keep_parameters, "inplace": inplace, "unshare": unshare}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{flag} is {value!r}, expected True or False")
    if not (single_graph is None or isinstance(single_graph, bool)):
        raise ValueError(f"single_graph is {single_graph!r}, expected None, True or False")
    fused = isinstance(to, str) and to == FUSED
    if fused and not (keep_parameters and single_graph is None):
        raise ValueError(
            "to is 'fused', which keeps all values and adds no batch, with keep_parameters=False "
            "or single_graph; choose to='same'"
        )
    if not inplace:
        model = copy.deepcopy(model)
    result = Replacement(model, recognize_any if fused else recognize)
    is_wanted = _selection(where, result.norms)
    calls = None if example is None else call_once(model, example, result.norms)

    def decide(norm: KnownNorm) -> nn.Module | str:
        if not is_wanted(norm):
            return "left by `where`"
        seen = None if calls is None else calls.get(id(norm.module), [])
        if fused:
            return fused_norm(norm, model, seen)
        return norm.reason or _new_norm(norm, ask(norm), model, seen)

    if fused:
        return fuse(result, decide, unshare)
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
    result.name_unknown()
    if per_graph and recognize(model) is None:  # else it gets the batch directly
        steps, note = watch_model(model, set(hooked), single_graph)
        result.steps += steps
        result.notes += (note,) if note else ()
    return result


def convert_sync(
    model: nn.Module, process_group: Group = None, *, split_graphs: bool = False
) -> Replacement:
    """Synchronize the statistics of a model's norms over the ranks of a process group.

    In data-parallel training each rank has its own graphs. The ranks then share statistics over the
    minibatch: those of BatchNorm, HeteroBatchNorm, PowerNorm, DiffGroupNorm, the BatchNorm inside
    UnitedNorm and SuperNorm, points of the equation with a batch domain, and the running averages
    of InstanceNorm. Statistics of a graph are computed by the rank that has the graph.

    With `split_graphs` every graph is spread over the ranks, with the same id on each, like a large
    partitioned graph: then statistics of graphs are shared, too.

    Our layers are changed in place. torch's `BatchNorm1d` and `SyncBatchNorm` and PyG's norms are
    replaced by ours, with everything that `replace_norms` transfers.

    Args:
        model: The model; it is changed.
        process_group: The ranks: a `ProcessGroup`, or `None` or `"world"` for all. This call does
            not communicate.
        split_graphs: Whether the nodes of a graph are spread over several ranks.

    Returns:
        The model, a table of the changes, and `undo()`. If the model is itself a norm of another
        library, the result contains its replacement.

    Raises:
        ValueError: The model has no norm, `process_group` is not a group, or a norm of another
            library is in a model that is already wrapped for distributed training.
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
                f"the model is already wrapped in {type(model).__name__}; call convert_sync first, "
                "and wrap the result"
            )
        new = same(norm, **device_and_dtype(norm.module))
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
    result.notes = (f"Their statistics are shared over the ranks of {ranks}.",)
    return result


def _check_module(model: object) -> None:
    if isinstance(model, type):
        raise ValueError(f"model is the class {model.__name__}, expected an instance of it")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model has type {type(model).__name__}, expected a module of torch")


def _check(model: nn.Module, to: Target) -> Callable[[KnownNorm], Any]:
    """Check the arguments; return a function from an old norm to the value of `to` for it."""
    _check_module(model)
    for module in model.modules():
        if type(module).__name__ in (*_WRAPPERS, "DataParallel"):
            raise ValueError(
                f"the model is already wrapped in {type(module).__name__}; call replace_norms "
                "first, and wrap the result"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError("the model is compiled by TorchScript; call replace_norms first")
    if isinstance(to, str):
        if to not in (SAME, FUSED):
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
            f"the norm {to!r} needs {' and '.join(needs)} besides features and graphs, which "
            "models do not pass to their norms; choose another"
        )


def _count_arguments(name: str, function: object, counts: tuple[int, ...], expected: str) -> int:
    """Return the first of some numbers of arguments that a function accepts.

    Args:
        name: Its name in the message.
        function: The function.
        counts: The numbers of arguments.
        expected: What is expected, in words.

    Raises:
        ValueError: It is not a function, or accepts none of these numbers.
    """
    if isinstance(function, type):
        raise ValueError(f"{name} is the class {function.__name__}, expected {expected}")
    if not callable(function) or isinstance(function, nn.Module):
        raise ValueError(f"{name} has type {type(function).__name__}, expected {expected}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # functions in C may have none
        return counts[0]
    for count in counts:
        with contextlib.suppress(TypeError):
            signature.bind(*range(count))
            return count
    raise ValueError(
        f"{name} is a function of {len(signature.parameters)} arguments, expected {expected}"
    )


def _selection(where: Where | None, norms: list[KnownNorm]) -> Callable[[KnownNorm], bool]:
    """Return a function that tells whether a norm is selected by any of its names.

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
    """Build the module that replaces a norm, or return why the norm is kept.

    Args:
        old: The norm.
        to: The module, its name, or `None`.
        model: The model.
        calls: The calls of the norm with the example, if given.
    """
    if to is None:
        return "left by `to`"
    made: nn.Module = to
    if isinstance(to, str):
        channels = old.channels
        if channels is None and calls and len(calls[0].shape) == 2:
            channels = calls[0].shape[1]
        place = device_and_dtype(old.module, model)
        if to == SAME:
            made = same(old, **place)
        else:
            _check_name(to)
            if channels is None and takes_channels(lookup(to).layer):
                return f"{type(old.module).__name__} has no number of channels; pass an example"
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
        return "the example does not reach it"
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


def _why_not(norm: KnownNorm, split_graphs: bool) -> str:
    """Return why ranks do not share the statistics of a norm; empty if they do."""
    old = norm.module
    if isinstance(old, Norm):
        whose = old.statistics_of
        averages = isinstance(old, InstanceNorm) and old.track_running_stats
        if split_graphs and isinstance(old, UnitedNorm | SuperNorm):
            return "its parts over graphs need whole graphs on every rank"
    elif is_of_images(old):
        return norm.reason
    elif norm.library == "torch" and norm.kind == "instance":
        return "its instances are entries of the first dimension, not graphs"
    else:
        row = CATALOG[norm.kind]
        whose = "batch" if norm.kind == "diff-group" else row.point.segment
        averages = norm.kind == "instance" and bool(norm.settings["track_running_stats"])
        if whose and not row.needs and norm.reason:
            return norm.reason
    if not whose:
        return "it has no statistic over rows"
    if whose == "graph" and not (split_graphs or averages):
        return "every rank has whole graphs; use split_graphs=True if not"
    return ""


def _share(norm: nn.Module, group: Group, split_graphs: bool) -> Detach:
    """Synchronize the statistics of a norm over a group; return the function that undoes it."""
    settings: dict[str, Any] = {"process_group": group}
    if isinstance(norm, InstanceNorm):
        settings["whole_graphs"] = not split_graphs
    before = {name: getattr(norm, name) for name in settings}

    def set_all(values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(norm, name, value)

    set_all(settings)
    return functools.partial(set_all, before)
