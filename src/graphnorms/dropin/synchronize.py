"""Norms of a model made to share their statistics over the ranks of a process group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from torch import nn

from graphnorms.dropin.carrying import carry_over
from graphnorms.dropin.norms import Known, recognize
from graphnorms.dropin.result import Change, Replacement
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
    exchanged for ours, with their parameters and running averages.

    Args:
        model: The model; it is changed.
        process_group: The ranks: a `ProcessGroup`, or `None` or `"world"` for all. Nothing is
            exchanged among them now.
        split_graphs: Whether the nodes of a graph are on several ranks.

    Returns:
        The model, a table of what became of every norm, and `undo()`. Where the model is a norm
        of another library itself, the model is the one that took its place.

    Raises:
        ValueError: The model holds no norm, or `process_group` is no group.
    """
    group = True if process_group is None else process_group
    if as_ranks(group) is None:
        raise ValueError("process_group is False, expected a ProcessGroup, or None for the world")
    changes: list[Change] = []
    new_of: dict[int, nn.Module] = {}
    back: list[Callable[[], None]] = []
    for name, old, known in _norms(model):
        reason = _why_not(old, known, split_graphs)
        if reason:
            changes.append(Change(name, old, None, reason))
            continue
        if isinstance(old, Norm):
            new: nn.Module = old
            back.append(_setting_back(old))
            _set(old, group, split_graphs)
            note = "everything; set in place"
        else:
            assert known is not None
            new, note = _ours(old, known)
            own = getattr(old, "process_group", None) if process_group is None else None
            _set(new, own or group, split_graphs)
            new_of[id(old)] = new
        changes.append(Change(name, old, new, note))
    if not changes:
        raise ValueError(f"{type(model).__name__} holds no norm")
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if child is not None and id(child) in new_of:
                parent._modules[key] = new_of[id(child)]
                back.append(_putting_back(parent, key, child))

    def undo() -> nn.Module:
        for step in reversed(back):
            step()
        return model

    return Replacement(new_of.get(id(model), model), tuple(changes), (), undo)


def _norms(model: nn.Module) -> Iterator[tuple[str, nn.Module, Known | None]]:
    """Every norm once, by its first name; not those that are parts of one."""
    inside: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(outer) for outer in inside):
            continue
        known = recognize(module)
        if known is not None or isinstance(module, Norm):
            inside.append(f"{name}." if name else "")
            yield name, module, known


def _why_not(old: nn.Module, known: Known | None, split_graphs: bool) -> str:
    if isinstance(old, Norm):
        if split_graphs and isinstance(old, UnitedNorm | SuperNorm):
            return "its parts over graphs need graphs that are whole on a rank"
        if not old.statistics_of:
            return "it has no statistic over rows"
        averages = isinstance(old, InstanceNorm) and old.track_running_stats
        shared = split_graphs or averages or old.statistics_of == "batch"
        return "" if shared else "its graphs are whole on a rank; see split_graphs"
    assert known is not None
    averages = known.kind == "instance" and bool(known.settings.get("track_running_stats"))
    if known.library == "torch" and known.kind == "instance":
        return "torch's InstanceNorm1d has channels for graphs"
    if known.kind not in (*_OF_THE_BATCH, *_OF_GRAPHS):
        return "it has no statistic over rows"
    if known.kind in _OF_GRAPHS and not (split_graphs or averages):
        return "its graphs are whole on a rank; see split_graphs"
    return "" if CATALOG[known.kind].needs else known.reason


def _ours(old: nn.Module, known: Known) -> tuple[nn.Module, str]:
    arguments = {**CATALOG[known.kind].arguments, **known.settings}
    for name in ("num_types", "groups"):  # those without a default
        if name in CATALOG[known.kind].needs or hasattr(old, name):
            arguments[name] = getattr(old, name)
    if known.channels is not None:
        arguments["in_channels"] = known.channels
    new = CATALOG[known.kind].layer(**arguments)
    reference = next(iter((*old.parameters(), *old.buffers())), None)
    if reference is not None:
        new.to(reference.device, reference.dtype if reference.is_floating_point() else None)
    new.train(old.training)
    return new, carry_over(old, known, new, recognize(new))


def _set(norm: nn.Module, group: Group, split_graphs: bool) -> None:
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


def _putting_back(parent: nn.Module, key: str, old: nn.Module) -> Callable[[], None]:
    def put_back() -> None:
        parent._modules[key] = old

    return put_back
