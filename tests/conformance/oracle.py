"""Every normalization of the catalogue once more, graph by graph in float64, from the papers.

Written apart from `graphnorms`: no domains, no segments, a loop over the graphs. A formula is given
the features, the rows of every graph (none, where a graph is empty), the parameters by their names
and what else the layer takes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Graphs = list[Tensor]
Parameters = dict[str, Tensor]
Formula = Callable[[Tensor, Graphs, Parameters, dict[str, Any]], Tensor]
EPS = 1e-5


@functools.cache
def kept_by_dropout(seed: int, rows: int, channels: int, share: float) -> Tensor:
    """Which entries stay, in NumPy's unsigned integers."""
    u64, u32 = np.uint64, np.uint32
    with np.errstate(over="ignore"):
        key = u64(seed) + np.arange(1, rows + 1, dtype=u64) * u64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> u64(30))) * u64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> u64(27))) * u64(0x94D049BB133111EB)
        key = (key ^ (key >> u64(31)))[:, None]
        bits = np.arange(channels, dtype=u32) * u32(0x9E3779B9) + key.astype(u32)
        bits = (bits ^ (bits >> u32(16))) * u32(0x7FEB352D)
        bits = bits ^ (key >> u64(32)).astype(u32)
        bits = (bits ^ (bits >> u32(15))) * u32(0x846CA68B)
        bits = bits ^ (bits >> u32(16))
    return torch.from_numpy(bits >= int(share * 2**32))


def rows_of(batch: Tensor | None, batch_size: int, rows: int) -> Graphs:
    if batch is None:
        return [torch.arange(rows)]
    return [(batch == graph).nonzero()[:, 0] for graph in range(batch_size)]


def per_graph(x: Tensor, graphs: Graphs, one: Callable[..., Tensor]) -> Tensor:
    """Apply a function to each graph by itself and its number; results in the order of the rows."""
    parts = [one(x[rows], number) for number, rows in enumerate(graphs) if rows.shape[0]]
    if not parts:
        return x * 1
    where = torch.cat([rows for rows in graphs if rows.shape[0]])
    return torch.cat(parts)[torch.argsort(where)]


def centred(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    # A constant changes nothing, and without it float64 can judge float64 at mean 1e4.
    if x.numel():
        x = x - (x.detach().median() if len(dims) == 2 else x.detach().median(dims[0], True).values)
    return x - x.mean(dims, keepdim=True)


def standardize(x: Tensor, dims: tuple[int, ...], eps: float = EPS) -> Tensor:
    """The textbook."""
    if not x.shape[0]:
        return x * 1
    o = centred(x, dims)
    return o / (o.square().mean(dims, keepdim=True) + eps).sqrt()


def affine(y: Tensor, p: Parameters) -> Tensor:
    return y * p["weight"] + p["bias"] if "weight" in p else y


def identity(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return x


def batch_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return affine(standardize(x, (0,)), p)


def layer_norm_node(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return affine(standardize(x, (1,)), p)


def layer_norm_graph(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return affine(per_graph(x, graphs, lambda g, _: standardize(g, (0, 1))), p)


def instance_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return affine(per_graph(x, graphs, lambda g, _: standardize(g, (0,))), p)


def graph_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    def one(g: Tensor, _: int) -> Tensor:
        entry = g.detach().median(0, True).values
        o = (g - entry) - p["mean_scale"] * (g - entry).mean(0) + (1 - p["mean_scale"]) * entry
        return o / (o.square().mean(0) + EPS).sqrt()

    return affine(per_graph(x, graphs, one), p)


def rms_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return p["weight"] * x / (x.square().mean(1, keepdim=True) + EPS).sqrt()


def group_norm(groups: int, dims: tuple[int, ...]) -> Formula:
    def formula(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
        def one(g: Tensor, _: int) -> Tensor:
            return torch.cat([standardize(part, dims) for part in g.chunk(groups, 1)], 1)

        return affine(one(x, 0) if dims == (1,) else per_graph(x, graphs, one), p)

    return formula


def node_norm(root: float) -> Formula:
    def formula(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
        return x / (centred(x, (1,)).square().mean(1, keepdim=True) + EPS) ** (0.5 / root)

    return formula


def ada_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    y = standardize(x, (1,))
    return 1.5 * (1 - 0.2 * y.detach()) * y


def power_norm(moment: float | None, *, scaled: bool = False) -> Formula:
    """A moment that is given, or the batch's own in the warm-up."""

    def formula(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
        if scaled:
            x = x / (x.square().mean(1, True) + EPS).sqrt()
        if not x.shape[0]:
            return x * 1
        return p["weight"] * x / ((moment or x.square().mean(0)) + EPS) ** 0.5 + p["bias"]

    return formula


def pair_norm(kind: str, s: float) -> Formula:
    def one(g: Tensor, _: int) -> Tensor:
        o = centred(g, (0,))
        if kind == "together":
            return s * o / (EPS + o.square().sum(-1).mean(0, keepdim=True).unsqueeze(-1)).sqrt()
        if kind == "individually":
            return s * o / (EPS + length(o))
        return s * g / (EPS + g.square().sum(-1, keepdim=True)).sqrt() - g.mean(0, keepdim=True)

    return lambda x, graphs, p, given: per_graph(x, graphs, one)


def length(o: Tensor) -> Tensor:
    """A row of zeros has no direction; its gradient through the length is 0."""
    zero = (o == 0).all(-1, keepdim=True)
    return torch.where(zero, 0, torch.where(zero, 1, o).square().sum(-1, keepdim=True).sqrt())


def mean_subtraction(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return per_graph(x, graphs, lambda g, _: centred(g, (0,)))


def graph_size_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return per_graph(x, graphs, lambda g, _: g / g.shape[0] ** 0.5)


def message_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return p["scale"] * length(given["nodes"]) * x / length(x).clamp(min=1e-12)


def hetero_batch_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    def one(g: Tensor, kind: int) -> Tensor:
        y = standardize(g, (0,))
        return y * p["weight"][kind] + p["bias"][kind] if p else y

    return per_graph(x, graphs, one)


def hetero_layer_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    def one(g: Tensor, kind: int) -> Tensor:
        y = standardize(g, (1,))
        return y * p["weight"][kind] + p["bias"][kind] if p else y

    return per_graph(x, graphs, one)


def group_products(x: Tensor, weight: Tensor) -> list[Tensor]:
    """The features times each group's share of every node."""
    share = (x @ weight.t()).softmax(1)
    return [share[:, group : group + 1] * x for group in range(weight.shape[0])]


def diff_group_norm(lamda: float, eps: float = EPS) -> Formula:
    def formula(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
        channels = p["lin.weight"].shape[1]
        y = x * 1
        for group, product in enumerate(group_products(x, p["lin.weight"])):
            product = standardize(product, (0,), eps)
            if "norm.weight" in p:
                own = slice(group * channels, (group + 1) * channels)
                product = product * p["norm.weight"][own] + p["norm.bias"][own]
            y = y + lamda * product
        return y

    return formula


def contra_norm(scale: float, temperature: float, *, masks: bool = True) -> Formula:
    def formula(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
        blocked = torch.zeros(x.shape[0], x.shape[0], dtype=torch.bool)
        if "edges" in given and masks:
            blocked[given["edges"][1], given["edges"][0]] = True
            blocked.fill_diagonal_(True)

        def one(g: Tensor, number: int) -> Tensor:
            rows = graphs[number]
            unit = g / length(g).clamp(min=1e-12)
            near = unit @ unit.t() / temperature
            away = blocked[rows[:, None], rows]
            # Nobody is left to push a row whose neighbours are all.
            shares = torch.where(away, -torch.inf, near).softmax(1).nan_to_num(0.0)
            shares = torch.where(away.all(1, keepdim=True), 0.0, shares)
            return (1 + scale) * g - scale * shares @ g

        return per_graph(x, graphs, one)

    return formula


def by_neighbours(x: Tensor, edges: Tensor) -> Tensor:
    """Each row, standardized by the rows around it and itself; parallel edges count as often."""
    result = []
    for i in range(x.shape[0]):
        around = x[[i, *edges[0, edges[1] == i].tolist()]]
        around, own = around - x[i].detach().mean(), x[i] - x[i].detach().mean()
        variance = (around - around.mean()).square().mean()
        result.append((own - around.mean()) / (variance + EPS).sqrt())
    return torch.stack(result) if result else x * 1


def adja_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return affine(by_neighbours(x, given["edges"]), p)


def united_parts(x: Tensor, graphs: Graphs, edges: Tensor) -> dict[str, Tensor]:
    return {
        "batch": standardize(x, (0,)),
        "graph": per_graph(x, graphs, lambda g, _: standardize(g, (0,))),
        "adja": by_neighbours(x, edges),
        "node": standardize(x, (1,)),
    }


def united_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    parts = united_parts(x, graphs, given["edges"])
    total = torch.stack([p[f"lambda_{name}"].exp() for name in parts]).sum(0)
    y = torch.stack([p[f"lambda_{name}"].exp() / total * part for name, part in parts.items()])
    return affine(y.sum(0), p)


def granola(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    h = torch.cat((x, given["random_features"]), 1)
    source, target = given["edges"]
    for layer in range(2):
        total = h.index_add(0, target, h[source])
        h = (total @ p[f"layers.{layer}.weight"].t() + p[f"layers.{layer}.bias"]).relu()
    gain, shift = (h @ p["head.weight"].t() + p["head.bias"]).chunk(2, 1)
    return gain * standardize(x, (1,)) + shift


def super_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    if not x.shape[0]:
        return x * 1
    xi = given["factors"][:, None]
    if len(graphs) == 1:
        x = standardize(x, (1,))
    c = per_graph(xi, graphs, lambda g, _: g * g / g.sum())
    e = per_graph(c, graphs, lambda g, _: g / g.sum())
    mean = per_graph(x, graphs, lambda g, _: g.mean(0, True).expand_as(g))
    standard = standardize(x + p["calibration"] * c * mean, (0,))
    if "weight" not in p:
        return e ** p["enhancement"] * standard
    return 0.5 * (p["weight"] + e ** p["enhancement"]) * standard + p["bias"]


def conditional_norm(center: str, scale: str) -> Formula:
    def formula(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
        def one(g: Tensor, number: int) -> Tensor:
            both = p["linear.weight"] @ given["condition"][number] + p["linear.bias"]
            gain, shift = both.chunk(2)
            return g * (1 + gain) + shift

        return per_graph(point(x, graphs, {}, center, scale, 1), graphs, one)

    return formula


def conditional_layer_norm(
    x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]
) -> Tensor:
    both = given["condition"] @ p["linear.weight"].t() + p["linear.bias"]
    change, bias = both[:, : x.shape[1]], both[:, x.shape[1] :]
    return (1 + change) * standardize(x, (1,)) + bias


def dyt(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return affine(torch.tanh(p["alpha"] * x), p)


def derf(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return affine(torch.erf(p["alpha"] * x + p["shift"]), p)


def qk_norm(kind: str, heads: int) -> Formula:
    def head(h: Tensor, p: Parameters) -> Tensor:
        if kind == "layer":
            return affine(standardize(h, (1,)), p)
        squares = h.square().mean(1, True) if kind == "rms" else h.square().sum(1, True)
        return h / (squares + EPS).sqrt() * p.get("weight", torch.ones(()))

    def formula(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
        return torch.cat([head(h, p) for h in x.chunk(heads, 1)], 1)

    return formula


def custom_norm(center: str, scale: str, groups: int = 1) -> Formula:
    return lambda x, graphs, p, given: point(x, graphs, p, center, scale, groups)


NAMES = ["none", "node", "graph", "graph-channels", "batch", "batch-channels"]
"""The domains of the one equation, as `CustomNorm` calls them."""
POINTS = [pair for pair in itertools.product(NAMES, NAMES) if pair != ("none", "none")]


def over(
    name: str, x: Tensor, graphs: Graphs, groups: int, of: Callable[..., Tensor] = torch.mean
) -> Tensor:
    """The mean, or another number, of each entry's cell, one cell after the other."""
    if name == "node":
        parts = x.chunk(groups, 1)
        return torch.cat([of(part, 1, True).expand_as(part) for part in parts], 1)

    def one(g: Tensor, _: int) -> Tensor:
        if not name.endswith("channels"):
            return of(g, 0, True).expand_as(g)
        return torch.cat([of(p.reshape(-1), 0, True).expand_as(p) for p in g.chunk(groups, 1)], 1)

    return per_graph(x, graphs if name.startswith("graph") else [torch.arange(len(x))], one)


def median(x: Tensor, dim: int, keepdim: bool) -> Tensor:
    return x.detach().median(dim, keepdim).values


def point(x: Tensor, graphs: Graphs, p: Parameters, center: str, scale: str, groups: int) -> Tensor:
    """One point of the equation."""
    o = x
    if center != "none" and len(x):
        # A constant for each cell, as in `centred`.
        entry = over(center, x, graphs, groups, median)
        share = p.get("mean_scale", torch.ones(()))
        o = (x - entry) - share * over(center, x - entry, graphs, groups) + (1 - share) * entry
    if scale != "none":
        o = o / (over(scale, o.square(), graphs, groups) + EPS).sqrt()
    return affine(o, p)
