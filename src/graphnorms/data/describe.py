"""A graph set in words: what is to be predicted, and from what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnorms.data.onehot import OneHot
from graphnorms.data.text import count

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet

_PARTS = ("training", "validation", "test")
_FEW = 8  # classes are listed


def describe(graphs: GraphSet) -> str:
    """Say in two lines what is to be predicted, and from what."""
    return f"{_targets(graphs)}\n{_inputs(graphs)}"


def _targets(graphs: GraphSet) -> str:
    task, y = graphs.task, graphs.y
    if task.kind == "classification":
        pairs = zip(task.targets, graphs.class_counts, strict=True)
        counts = [f"{name}: {count}" for name, count in pairs]
        more = [f"{len(counts) - _FEW} more"] if len(counts) > _FEW else []
        details = ", ".join(counts[:_FEW] + more)
    elif task.kind == "binary":
        answers = int((~y.isnan()).sum())
        details = f"{float(y.nansum()) / max(answers, 1):.1%} yes"
        if answers < y.numel():
            details += f", {1 - answers / y.numel():.1%} of the answers missing"
    else:
        numbers = y[~y.isnan()].double()
        mean, deviation = numbers.mean().item(), numbers.std(correction=0).item()
        named = f"{task.targets[0]}: " if task.targets != ("target",) else ""
        several = task.outputs > 1
        details = f"{'' if several else named}mean {mean:.4g}, standard deviation {deviation:.4g}"
        if numbers.numel() < y.numel():
            details += f", {1 - numbers.numel() / y.numel():.1%} missing"
    unknown = graphs.num_items - int(graphs.known.sum())
    left_out = f"; {unknown} {task.level}s without a target" if unknown else ""
    return f"task: {task} ({details}){left_out}"


def _inputs(graphs: GraphSet) -> str:
    edge = "none"
    if graphs.kept_edge_features is not None:
        one_hot = isinstance(graphs.kept_edge_features, OneHot)
        words = "one-hot edge labels" if one_hot else "edge attributes"
        edge = f"{words} ({count(graphs.num_edge_features, 'column')})"
    split = "none given"
    if graphs.split is not None:
        counts = [f"{int((graphs.split == part).sum())} {_PARTS[part]}" for part in range(3)]
        split = f"{graphs.split_name} ({', '.join(counts)})"
    return (
        f"node features: {graphs.features} ({count(graphs.num_features, 'column')}); "
        f"edge features: {edge}; split: {split}"
    )
