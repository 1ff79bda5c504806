"""The normalizations once more, graph by graph in float64, straight from the papers.

Written apart from `graphnorms`: no domains, no segments, a loop over the graphs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

import graphnorms as gn

_64 = (1 << 64) - 1
_32 = (1 << 32) - 1


@functools.cache
def kept_by_dropout(seed: int, rows: int, channels: int, share: float) -> Tensor:
    """Which entries stay, entry by entry in Python's own integers."""
    kept = torch.ones(rows, channels, dtype=torch.bool)
    for row in range(rows):
        key = (seed + (row + 1) * 0x9E3779B97F4A7C15) & _64
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _64
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _64
        key ^= key >> 31
        for channel in range(channels):
            bits = (channel * 0x9E3779B9 + (key & _32)) & _32
            bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & _32
            bits ^= key >> 32
            bits = ((bits ^ (bits >> 15)) * 0x846CA68B) & _32
            bits ^= bits >> 16
            kept[row, channel] = bits >= int(share * 2**32)
    return kept


Oracle = Callable[[Tensor, list[Tensor], dict[str, Tensor], float], Tensor]


def rows_of(batch: Tensor | None, batch_size: int, rows: int) -> list[Tensor]:
    if batch is None:
        return [torch.arange(rows)]
    return [(batch == graph).nonzero()[:, 0] for graph in range(batch_size)]


def _affine(y: Tensor, p: dict[str, Tensor]) -> Tensor:
    return y * p["weight"] + p["bias"] if "weight" in p else y


def _per_graph(x: Tensor, graphs: list[Tensor], one: Callable[[Tensor], Tensor]) -> Tensor:
    parts = [one(x[rows]) if rows.shape[0] else x[rows] for rows in graphs]
    where = torch.cat(graphs)
    return torch.cat(parts)[torch.argsort(where)]


def _standardize(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    # A constant changes nothing, and without it float64 can judge float64 at mean 1e4.
    x = x - (x.detach().median() if len(dims) == 2 else x.detach().median(dims[0], True).values)
    o = x - x.mean(dims, keepdim=True)
    return o / (o.pow(2).mean(dims, keepdim=True) + eps).sqrt()


def batch_norm(x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], eps: float) -> Tensor:
    return _affine(_standardize(x, (0,), eps) if x.shape[0] else x, p)


def layer_norm_node(x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], eps: float) -> Tensor:
    return _affine(_standardize(x, (1,), eps), p)


def layer_norm_graph(x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], eps: float) -> Tensor:
    return _affine(_per_graph(x, graphs, lambda g: _standardize(g, (0, 1), eps)), p)


def instance_norm(x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], eps: float) -> Tensor:
    return _affine(_per_graph(x, graphs, lambda g: _standardize(g, (0,), eps)), p)


def graph_norm(x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], eps: float) -> Tensor:
    def one(g: Tensor) -> Tensor:
        entry = g.detach().median(0, True).values
        o = (g - entry) - p["mean_scale"] * (g - entry).mean(0) + (1 - p["mean_scale"]) * entry
        return o / (o.pow(2).mean(0) + eps).sqrt()

    return _affine(_per_graph(x, graphs, one), p)


def identity(x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], eps: float) -> Tensor:
    return x


LAYERS: dict[str, tuple[Callable[..., torch.nn.Module], Oracle]] = {
    "BatchNorm": (gn.BatchNorm, batch_norm),
    "LayerNorm-node": (lambda c, **k: gn.LayerNorm(c, mode="node", **k), layer_norm_node),
    "LayerNorm-graph": (gn.LayerNorm, layer_norm_graph),
    "LayerNorm-graph-plain": (lambda c, **k: gn.LayerNorm(c, affine=False, **k), layer_norm_graph),
    "InstanceNorm": (lambda c, **k: gn.InstanceNorm(c, affine=True, **k), instance_norm),
    "InstanceNorm-plain": (gn.InstanceNorm, instance_norm),
    "GraphNorm": (gn.GraphNorm, graph_norm),
}


def cell_length(name: str, graphs: list[Tensor], x: Tensor) -> int:
    """How many entries share a statistic, at most."""
    longest = max((rows.shape[0] for rows in graphs), default=0)
    return {
        "BatchNorm": x.shape[0],
        "LayerNorm-node": x.shape[1],
        "LayerNorm-graph": longest * x.shape[1],
        "LayerNorm-graph-plain": longest * x.shape[1],
    }.get(name, longest)


def sum_scales(
    x: Tensor, grad_y: Tensor, y: Tensor, name: str, graphs: list[Tensor], p: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Sum of the absolute terms whose sum is a parameter's gradient: what rounding relates to."""
    weight = p.get("weight", torch.ones(()))
    bias = p.get("bias", torch.zeros(()))
    scales = {
        # An entry o / s has the rounding of numbers of the size of s, however small it is.
        "weight": (grad_y.abs() * ((y - bias) / weight).abs().clamp(min=1)).sum(0),
        "bias": grad_y.abs().sum(0),
    }
    if "mean_scale" in p:
        # mu, whose rounding relates to the mean of |x|, times the gradient of o
        total = torch.zeros(x.shape[1], dtype=x.dtype)
        for rows in graphs:
            if not rows.shape[0]:
                continue
            g = x[rows]
            o = g - p["mean_scale"] * g.mean(0)
            s = (o.pow(2).mean(0) + 1e-5).sqrt()
            normal = o / s
            d = weight * grad_y[rows] / s
            spread = d.abs() + normal.abs() * (d * normal).abs().mean(0)
            total += g.abs().mean(0) * spread.sum(0)
        scales["mean_scale"] = total
    return scales
