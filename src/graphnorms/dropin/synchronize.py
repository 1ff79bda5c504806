"""Norms of a model made to share their statistics over the ranks of a process group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from torch import nn

from graphnorms.dropin.carrying import Owners, carry_over, owners_in
from graphnorms.dropin.giving import withdraw
from graphnorms.dropin.norms import Known, is_of_images, recognize, same
from graphnorms.dropin.result import Change, Exchange, Replacement
from graphnorms.dropin.slots import check_module, find_norms
from graphnorms.kernels.ranks import Group, as_ranks
from graphnorms.layers.base import Norm
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.super_norm import SuperNorm
from graphnorms.layers.united_norm import UnitedNorm

_OF_THE_BATCH: Final = ("batch", "hetero-batch", "diff-group")
_OF_GRAPHS: Final = (
    "graph", "instance", "layer-graph", "group-graph", "pair", "mean-subtraction", "graph-size",
)  # fmt: skip


def convert_sync(
    model: nn.Module, process_group: Group = None, *, split_graphs: bool = False
) -> Replacement:
    """Have the norms of a model share their statistics over the ranks of a process group.

    In training by data each rank has graphs of its own, and what ranks share is what is measured
    over the whole minibatch: in BatchNorm, HeteroBatchNorm, PowerNorm, DiffGroupNorm, the parts
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
    check_module(model)
    group = True if process_group is None else process_group
    if as_ranks(group) is None:
        raise ValueError("process_group is False, expected a ProcessGroup, or None for the world")
    holder = model
    if recognize(model) is not None:
        holder = nn.ModuleDict({type(model).__name__: model})
    norms = find_norms(holder)
    if not norms:
        raise ValueError(f"{type(model).__name__} holds no norm")
    owners = owners_in(holder)
    changes: list[Change] = []
    exchanges: list[Exchange] = []
    back: list[Callable[[], None]] = []
    reasons = [_why_not(norm.module, norm.known, split_graphs) for norm in norms]
    others = (norm for norm, why in zip(norms, reasons, strict=True) if not why)
    if _is_wrapped(model) and not all(isinstance(norm.module, Norm) for norm in others):
        raise ValueError(
            f"the model is a {type(model).__name__}, which knows its parameters already; "
            "call convert_sync first, and wrap the result"
        )
    for norm, reason in zip(norms, reasons, strict=True):
        old, known = norm.module, norm.known
        if reason:
            changes.append(Change(norm.names, old, None, reason))
            continue
        new, note = old, "everything; it is the same norm"
        if isinstance(old, Norm):
            back.append(_setting_back(old))
        else:
            new, note = _ours(old, known, owners)
            note += f"; {known.caveat}" if known.caveat and known.library == "PyG" else ""
            givers, put_back = withdraw(old)
            back += [put_back, *(giver.again(new).attach(new) for giver in givers)]
        own = getattr(old, "process_group", None) if process_group is None else None
        _share(new, own or group, split_graphs)
        for slot in norm.slots:
            slot.put(new)
            exchanges.append(Exchange(slot, old, new))
        changes.append(Change(norm.names, old, new, note))
    if holder is not model:
        (model,) = holder.children()
    ranks = "the world" if group in (True, "world") else f"the group {as_ranks(group)}"
    notes = (f"What they measure is shared over the ranks of {ranks}.",)
    return Replacement(model, tuple(changes), notes, exchanges, back)


def _is_wrapped(model: nn.Module) -> bool:
    return type(model).__name__ in ("DistributedDataParallel", "FullyShardedDataParallel")


def _why_not(old: nn.Module, known: Known, split_graphs: bool) -> str:
    """Why ranks do not share what a norm measures; empty if they do."""
    if isinstance(old, Norm):
        whose = old.statistics_of
        averages = isinstance(old, InstanceNorm) and old.track_running_stats
        if split_graphs and isinstance(old, UnitedNorm | SuperNorm):
            return "its parts over graphs need graphs that are whole on a rank"
    elif is_of_images(old):
        return known.reason
    elif known.library == "torch" and known.kind == "instance":
        return "its instances are entries of the first dimension, and no graphs"
    else:
        whose = "batch" if known.kind in _OF_THE_BATCH else ""
        whose = "graph" if known.kind in _OF_GRAPHS else whose
        averages = known.kind == "instance" and bool(known.settings["track_running_stats"])
        if whose and not CATALOG[known.kind].needs and known.reason:
            return known.reason
    if not whose:
        return "it has no statistic over rows that ranks could share"
    if whose == "graph" and not (split_graphs or averages):
        return "its graphs are whole on a rank; split_graphs=True where they are not"
    return ""


def _ours(old: nn.Module, known: Known, owners: Owners) -> tuple[nn.Module, str]:
    """Build our layer in place of another library's, and say what it has taken over."""
    place: dict[str, Any] = {}
    for tensor in (*old.parameters(), *old.buffers()):
        if tensor.is_floating_point():
            place = {"device": tensor.device, "dtype": tensor.dtype}
    if "types" in CATALOG[known.kind].needs:
        known = replace(known, settings={**known.settings, "num_types": old.num_types})
    new = same(known, **place)
    new.train(old.training)
    return new, carry_over(old, known, new, recognize(new), owners)


def _share(norm: nn.Module, group: Group, split_graphs: bool) -> None:
    assert isinstance(norm, Norm)
    norm.process_group = group
    if isinstance(norm, InstanceNorm):
        norm.whole_graphs = not split_graphs


def _setting_back(norm: Norm) -> Callable[[], None]:
    before, whole = norm.process_group, getattr(norm, "whole_graphs", False)

    def set_back() -> None:
        norm.process_group = before
        if isinstance(norm, InstanceNorm):
            norm.whole_graphs = whole

    return set_back
