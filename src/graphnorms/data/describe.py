"""Describes a graph set in words: its targets and its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.onehot import OneHot
from graphnorms.data.text_format import count, some

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet
    from graphnorms.data.tasks import Task

PARTS = ("training", "validation", "test")
_FEW = 8  # most targets that are listed
_MANY = 512  # more one-hot columns than this cause a remark


def describe(graphs: GraphSet) -> str:
    """Describe targets and inputs in two lines, and any notes in a third."""
    notes = [*graphs.notes, *_remarks(graphs)]
    lines = [_targets(graphs), _inputs(graphs)]
    return "\n".join([*lines, f"note: {'; '.join(notes)}"] if notes else lines)


def summary(graphs: GraphSet) -> str:
    """Describe a set in one line."""
    edges = "symmetric" if graphs.symmetric else "directed"
    parts = [f"{graphs.num_features} features ({graphs.features})"]
    if graphs.num_edge_features:
        parts.append(f"{graphs.num_edge_features} edge features")
    usual = graphs.task.kind == "classification" and graphs.task.level == "graph"
    parts.append(f"{graphs.num_classes} classes" if usual else str(graphs.task))
    if graphs.split is not None:
        parts.append(f"{graphs.split_name} split")
    if graphs.device.type != "cpu":
        parts.append(str(graphs.device))
    return (
        f"{graphs.name!r}: {count(len(graphs), 'graph')}, {graphs.num_nodes} nodes, "
        f"{graphs.num_edges} edges ({edges}), {', '.join(parts)}"
    )


def _targets(graphs: GraphSet) -> str:
    task, y = graphs.task, graphs.y
    if task.kind == "classification":
        counts = graphs.class_counts
        most = max(range(len(counts)), key=counts.__getitem__)
        named = [f"{name}: {number}" for name, number in zip(task.targets, counts, strict=True)]
        details = (
            f"{some(named)}; "
            f"most frequent: {task.targets[most]}, {counts[most] / max(1, sum(counts)):.1%}"
        )
    elif task.kind == "binary":
        answers = int((~y.isnan()).sum())
        shares = y.nanmean(0).tolist()  # (questions,)
        if len(shares) == 1:
            details = f"{shares[0]:.1%} yes"
        elif len(shares) <= _FEW:
            pairs = zip(task.targets, shares, strict=True)
            details = ", ".join(f"{name}: {share:.1%} yes" for name, share in pairs)
        else:
            low, high = (pick(range(len(shares)), key=shares.__getitem__) for pick in (min, max))
            details = (
                f"from {shares[low]:.1%} yes in {task.targets[low]} to {shares[high]:.1%} in "
                f"{task.targets[high]}"
            )
        if answers < y.numel():
            details += f", {1 - answers / y.numel():.1%} of the answers missing"
    else:
        details = _numbers(graphs)
    if graphs.atoms is not None:
        size = float(graphs.atoms.forces.square().mean().sqrt())
        details += f"; forces: root mean square {size:.4g}"
    unknown = graphs.num_items - int(graphs.known.sum())
    left_out = f"; {count(unknown, task.level)} without a target" if unknown else ""
    return f"task: {task} ({details}){left_out}"


def _numbers(graphs: GraphSet) -> str:
    """Return mean and standard deviation of each target, or their ranges for many targets."""
    y, task = graphs.y.double(), graphs.task
    means = y.nanmean(0)
    deviations = ((y - means) ** 2).nanmean(0).sqrt()
    if len(means) <= _FEW:
        details = ", ".join(
            ("" if task.targets == ("target",) else f"{name}: ")
            + f"mean {mean:.4g}, standard deviation {deviation:.4g}"
            for name, mean, deviation in zip(
                task.targets, means.tolist(), deviations.tolist(), strict=True
            )
        )
    else:
        details = (
            f"means {means.min().item():.4g} to {means.max().item():.4g}, standard deviations "
            f"{deviations.min().item():.4g} to {deviations.max().item():.4g}"
        )
    missing = float(y.isnan().double().mean())
    return f"{details}, {missing:.1%} missing" if missing else details


def _target_words(y: Tensor, task: Task) -> str:
    """Summarize the targets of some items."""
    if task.kind == "regression":
        return f"mean {float(y.double().nanmean()):.4g}"
    if task.kind == "binary":
        return f"{float(y.nanmean()):.1%} yes"
    counts = torch.bincount(y[y >= 0], minlength=task.outputs)
    shares = counts.double() / counts.sum()
    named = zip(task.targets, shares.tolist(), strict=True)
    return some((f"{name} {share:.1%}" for name, share in named), few=4)


def scaffold_words(split: NDArray[Any], scaffolds: Sequence[str], y: Tensor, task: Task) -> str:
    """Summarize the parts of a split by scaffold.

    Args:
        split: The part of each molecule, `(molecules,)`.
        scaffolds: Scaffold of each molecule; empty if it has no ring.
        y, task: The targets.
    """
    ringless = np.array([not scaffold for scaffold in scaffolds])
    parts = []
    for number, part in enumerate(PARTS):
        chosen = split == number
        words = _target_words(y[torch.from_numpy(chosen)], task)
        parts.append(f"{part} {chosen.sum()} ({words}, {(ringless & chosen).sum()} without a ring)")
    return f"{len({*scaffolds})} scaffolds: {', '.join(parts)}"


def _inputs(graphs: GraphSet) -> str:
    edge = "none"
    if graphs.kept_edge_features is not None:
        one_hot = isinstance(graphs.kept_edge_features, OneHot)
        words = "one-hot edge labels" if one_hot else "edge attributes"
        edge = f"{words} ({count(graphs.num_edge_features, 'column')})"
    split = "none given"
    if graphs.split is not None:
        first = graphs.split if graphs.split.dim() == 1 else graphs.split[:, 0]
        counts = [f"{int((first == part).sum())} {PARTS[part]}" for part in range(3)]
        several = f"{graphs.num_splits} splits, the first: " if graphs.num_splits > 1 else ""
        split = f"{graphs.split_name} ({several}{', '.join(counts)})"
    return (
        f"node features: {graphs.features} ({count(graphs.num_features, 'column')}); "
        f"edge features: {edge}; split: {split}"
    )


def _remarks(graphs: GraphSet) -> list[str]:
    """Return warnings about the set."""
    remarks = []
    if graphs.same_inputs:
        remarks.append(f"ALL {len(graphs)} GRAPHS HAVE THE SAME INPUT, so nothing can be learned")
    x = graphs.kept_x
    if isinstance(x, OneHot) and x.width > _MANY:
        rows = torch.bincount(x.columns.flatten().long(), minlength=x.width)
        remarks.append(
            f"{x.width} columns of node features, {int((rows == 1).sum())} of them of one node "
            "each, make the model large and slow: features degree or constant are small"
        )
    return remarks
