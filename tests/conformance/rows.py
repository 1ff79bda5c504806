"""The table of layers: what each is called with, its formula, and what its rounding relates to.

A row of the catalogue without a row here fails `test_catalog.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.testing import awkward_cases
from tests.conformance import oracle
from tests.conformance.oracle import EPS, Formula, Graphs, Parameters
from tests.conftest import BACKENDS
from tests.norms import OfMessages, OfTypes, edges_within, normal

Given = Callable[[Tensor | None, int, int], dict[str, Any]]


def nothing(batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer, and the same graph by graph in float64.

    Args:
        norm: Its row of the catalogue.
        make: Builds it from a number of channels, a number of graphs and the arguments of every
            layer. It is called as `layer(x, batch, batch_size, **given)`.
        formula: Its formula.
        over: Which entries share a statistic: `"node"`, `"graph"`, `"batch"`, `"graph-channels"`;
            `"entry"` if every entry is by itself.
        given: What it takes besides, from the graph of each node, the number of graphs and of
            nodes: floating numbers in float64.
        gain: The largest number that gradients are multiplied with; by default the largest
            1 / s of the cells.
        spread: What the rounding of a result relates to, where that is larger than the result:
            the range of the entries that a small one is the difference of.
        operations: How many times the rounding of one normalization it has.
        shift_scale: The size of the terms whose sum is the gradient of α, per channel.
        kernels: Whether the kernels take it, and not the reference alone.
        one_row: Whether a single row is taken, whose batch has no variance.
        exact: Whether its backward is the derivative of its forward.
        randomize: Whether its parameters are moved away from where they begin.
        beyond: Inputs that it is not run on, and why.
    """

    norm: str
    make: Callable[..., nn.Module]
    formula: Formula
    over: str = "node"
    given: Given = nothing
    gain: Callable[[Tensor, Graphs, Parameters], float] | None = None
    spread: Callable[[Tensor, Graphs, Parameters], float] | None = None
    operations: float = 1
    shift_scale: Callable[[Tensor, Tensor, Graphs, Parameters], Tensor] | None = None
    kernels: bool = True
    one_row: bool = True
    exact: bool = True
    randomize: bool = True
    beyond: dict[str, str] = field(default_factory=dict)

    @property
    def backends(self) -> list[str]:
        """Those that it is asked for, by the names of the fixture."""
        if "backend" not in inspect.signature(gn.CATALOG[self.norm].layer).parameters:
            return ["auto"]
        if not self.kernels:
            return ["reference"]
        # The interpreter is slow: it is asked for the layers that are nothing but the equation.
        plain = self.norm in ("batch", "layer", "layer-graph", "instance", "graph", "dyt", "derf")
        return [name for name in BACKENDS if plain or name != "triton"]

    def cells(self, x: Tensor, graphs: Graphs) -> list[Tensor]:
        """The entries that share a statistic, `(entries, cells)` for each kind of cell."""
        if self.over == "entry":
            return [x.reshape(1, -1)]
        if self.over == "node":
            return [x.t()]
        if self.over == "batch":
            return [x]
        found = [x[rows] for rows in graphs if rows.shape[0]]
        return [g.reshape(-1, 1) for g in found] if self.over == "graph-channels" else found

    def length(self, x: Tensor, graphs: Graphs) -> int:
        """How many entries share a statistic, at most."""
        return max((cell.shape[0] for cell in self.cells(x, graphs)), default=0)

    def largest_gain(self, x: Tensor, graphs: Graphs, p: Parameters) -> float:
        """The largest number that gradients are multiplied with."""
        if self.gain is not None:
            return self.gain(x, graphs, p)
        spreads = [c.var(0, unbiased=False) for c in self.cells(x, graphs) if c.numel()]
        return 1.5 * float((torch.cat(spreads).min() + EPS).rsqrt()) if spreads else 1.0


def arguments(given: dict[str, Any], rows: int, dtype: torch.dtype) -> dict[str, Any]:
    """What a layer of a dtype takes, of what its formula takes; leaves for its gradients."""
    found = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in given.items()
    }
    if "edges" in found:
        found["adjacency"] = gn.Adjacency.from_edge_index(found.pop("edges"), rows)
    return found


def edges(batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
    return {"edges": edges_within(batch, rows)}


def every_edge(batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
    """Nobody is left to push."""
    every = torch.cartesian_prod(torch.arange(rows), torch.arange(rows)).t().reshape(2, -1)
    return {"edges": every if batch is None else every[:, batch[every[0]] == batch[every[1]]]}


def condition(batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
    return {"condition": normal(size, 4, seed=21)}


def condition_of_nodes(batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
    return {"condition": normal(rows, 4, seed=21)}


def random_features(batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
    return {**edges(batch, size, rows), "random_features": normal(rows, 4, seed=31)}


def factors(batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
    return {"factors": normal(rows, seed=41).abs() * 3 + 0.5}


def nodes(batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
    return {"nodes": normal(rows, 7, seed=51)}


def largest(x: Tensor, graphs: Graphs, p: Parameters) -> float:
    """Of a sum that holds the features."""
    return float(x.abs().max()) if x.numel() else 1.0


def extent(x: Tensor, graphs: Graphs, p: Parameters) -> float:
    """An outlier moves the mean by what rounds at its size, and a node beside it by as much."""
    return float(x.max() - x.min()) if x.numel() else 1.0


def shifted_gain(x: Tensor, graphs: Graphs, p: Parameters) -> float:
    """Of `SuperNorm`, which adds a share of the mean to what it standardizes."""
    smallest = float(x.var(0, unbiased=False).min()) if x.numel() else 1.0
    return 1.5 * (smallest + EPS) ** -0.5 * max(1.0, largest(x, graphs, p))


def one(x: Tensor, graphs: Graphs, p: Parameters) -> float:
    return 1.0


def pair(kind: str, s: float) -> dict[str, Any]:
    """The fields of a row of PairNorm that depend on what is divided by."""

    def gain(x: Tensor, graphs: Graphs, p: Parameters) -> float:
        squares = [
            (x[rows] if kind == "simultaneously" else oracle.centred(x[rows], (0,))).square().sum(1)
            for rows in graphs
            if len(rows) > (kind != "simultaneously")
        ]
        if not squares:
            return 1.0
        if kind == "together":
            return s * max(float((EPS + square.mean()).rsqrt()) for square in squares)
        if kind == "individually":
            return s * max(float(1 / (EPS + square.min().sqrt())) for square in squares)
        return 1 + s * max(float((EPS + square.min()).rsqrt()) for square in squares)

    def spread(x: Tensor, graphs: Graphs, p: Parameters) -> float:
        return min(gain(x, graphs, p), 1.0) * extent(x, graphs, p)

    more: dict[str, Any] = {} if kind == "together" else {kind_argument(kind): True}
    return {
        "norm": "pair",
        "make": lambda c, size, **k: gn.PairNorm(s, **more, **k),
        "formula": oracle.pair_norm(kind, s),
        "over": "graph-channels",
        "gain": gain,
        "spread": None if kind == "together" else spread,
    }


def kind_argument(kind: str) -> str:
    return "scale_individually" if kind == "individually" else kind


def group_gain(x: Tensor, graphs: Graphs, p: Parameters) -> float:
    """Of `DiffGroupNorm`: the largest 1 / s of a group, times the features."""
    if not x.shape[0]:
        return 1.0
    products = oracle.group_products(x, p["lin.weight"])
    smallest = min(float(product.var(0, unbiased=False).min()) for product in products)
    return 3 * (smallest + EPS) ** -0.5 * max(1.0, largest(x, graphs, p))


def graph_shift_scale(x: Tensor, grad_y: Tensor, graphs: Graphs, p: Parameters) -> Tensor:
    """Of μ, whose rounding relates to the mean of |x|, times the gradient of o."""
    total = torch.zeros(x.shape[1], dtype=x.dtype)
    for rows in graphs:
        if not rows.shape[0]:
            continue
        g = x[rows]
        o = g - p["mean_scale"] * g.mean(0)
        s = (o.square().mean(0) + EPS).sqrt()
        d = p["weight"] * grad_y[rows] / s
        around = d.abs() + (o / s).abs() * (d * o / s).abs().mean(0)
        total += g.abs().mean(0) * around.sum(0)
    return total


def running_power(channels: int, **arguments: Any) -> nn.Module:
    layer = gn.PowerNorm(channels, warmup=0, **arguments)
    layer.running_moment.fill_(2.5)
    layer.running_gradient.fill_(0.3)
    return layer


def seeded_granola(channels: int, **arguments: Any) -> nn.Module:
    torch.manual_seed(17)  # weights of either sign, so that some units are off
    return gn.Granola(channels, 2, hidden_channels=5, random_channels=4, **arguments)


# Gradients are multiplied with weight and slope, 1.5 each at most.
BOUNDED: dict[str, Any] = {"over": "entry", "gain": lambda x, graphs, p: 2.25}
# One statistic within rows and one over nodes.
BOTH_WAYS: dict[str, Any] = {"kernels": False, "spread": extent}
WIDE = [case.name for case in awkward_cases(torch.float32) if case.x.shape[0] > 1000]
SQUARE = dict.fromkeys(WIDE, "its formula looks at all pairs of nodes")

ROWS: dict[str, Row] = {
    "none": Row(
        norm="none",
        make=lambda c, size, **k: gn.Identity(c, **k),
        formula=oracle.identity,
        gain=one,
    ),
    "batch": Row(
        norm="batch",
        make=lambda c, size, **k: gn.BatchNorm(c, **k),
        formula=oracle.batch_norm,
        over="batch",
        one_row=False,
    ),
    "layer": Row(
        norm="layer",
        make=lambda c, size, **k: gn.LayerNorm(c, mode="node", **k),
        formula=oracle.layer_norm_node,
    ),
    "layer-graph": Row(
        norm="layer-graph",
        make=lambda c, size, **k: gn.LayerNorm(c, **k),
        formula=oracle.layer_norm_graph,
        over="graph-channels",
    ),
    "layer-graph plain": Row(
        norm="layer-graph",
        make=lambda c, size, **k: gn.LayerNorm(c, affine=False, **k),
        formula=oracle.layer_norm_graph,
        over="graph-channels",
    ),
    "instance": Row(
        norm="instance",
        make=lambda c, size, **k: gn.InstanceNorm(c, affine=True, **k),
        formula=oracle.instance_norm,
        over="graph",
    ),
    "instance plain": Row(
        norm="instance",
        make=lambda c, size, **k: gn.InstanceNorm(c, **k),
        formula=oracle.instance_norm,
        over="graph",
    ),
    "graph": Row(
        norm="graph",
        make=lambda c, size, **k: gn.GraphNorm(c, **k),
        formula=oracle.graph_norm,
        over="graph",
        shift_scale=graph_shift_scale,
    ),
    "pair": Row(**pair("together", 1.5)),
    "pair individually": Row(
        **pair("individually", 0.7),
        operations=3,
        beyond=dict.fromkeys(
            ("constant channels", "one row expanded", "mean 1e4"),
            "the direction of what rounding leaves of 0",
        ),
    ),
    "pair simultaneously": Row(**pair("simultaneously", 2.5)),
    "mean-subtraction": Row(
        norm="mean-subtraction",
        make=lambda c, size, **k: gn.MeanSubtractionNorm(**k),
        formula=oracle.mean_subtraction,
        over="graph",
        gain=one,
    ),
    "graph-size": Row(
        norm="graph-size",
        make=lambda c, size, **k: gn.GraphSizeNorm(**k),
        formula=oracle.graph_size_norm,
        gain=one,
    ),
    "message": Row(
        norm="message",
        make=lambda c, size, **k: OfMessages(gn.MessageNorm(True, **k)),
        formula=oracle.message_norm,
        given=nodes,
        gain=lambda x, graphs, p: 20 / max(float(x.norm(dim=1).min()), 1e-3) if len(x) else 1.0,
    ),
    "diff-group": Row(
        norm="diff-group",
        make=lambda c, size, **k: gn.DiffGroupNorm(c, 3, lamda=0.7, **k),
        formula=oracle.diff_group_norm(0.7),
        over="batch",
        gain=group_gain,
        spread=group_gain,
        operations=3,  # a normalization for each group
        beyond=dict.fromkeys(("mean 1e4", "mean 1e4 giant"), "the result is of the size of x"),
    ),
    "diff-group plain": Row(
        norm="diff-group",
        make=lambda c, size, **k: gn.DiffGroupNorm(c, 3, lamda=0.7, affine=False, **k),
        formula=oracle.diff_group_norm(0.7),
        over="batch",
        gain=group_gain,
        spread=group_gain,
        operations=3,  # a normalization for each group
        beyond=dict.fromkeys(("mean 1e4", "mean 1e4 giant"), "the result is of the size of x"),
    ),
    "hetero-batch": Row(
        norm="hetero-batch",
        make=lambda c, size, **k: OfTypes(gn.HeteroBatchNorm(c, size, **k)),
        formula=oracle.hetero_batch_norm,
        over="graph",
    ),
    "hetero-batch plain": Row(
        norm="hetero-batch",
        make=lambda c, size, **k: OfTypes(gn.HeteroBatchNorm(c, size, affine=False, **k)),
        formula=oracle.hetero_batch_norm,
        over="graph",
    ),
    "hetero-layer": Row(
        norm="hetero-layer",
        make=lambda c, size, **k: OfTypes(gn.HeteroLayerNorm(c, size, **k)),
        formula=oracle.hetero_layer_norm,
    ),
    "hetero-layer plain": Row(
        norm="hetero-layer",
        make=lambda c, size, **k: OfTypes(gn.HeteroLayerNorm(c, size, affine=False, **k)),
        formula=oracle.hetero_layer_norm,
    ),
    "rms": Row(
        norm="rms",
        make=lambda c, size, **k: gn.RMSNorm(c, **k),
        formula=oracle.rms_norm,
    ),
    "group": Row(
        norm="group",
        make=lambda c, size, **k: gn.GroupNorm(c, groups_of(c, 2), **k),
        formula=lambda x, *rest: oracle.group_norm(groups_of(x.shape[1], 2), (1,))(x, *rest),
    ),
    "group-graph": Row(
        norm="group-graph",
        make=lambda c, size, **k: gn.GroupNorm(c, groups_of(c, 3), mode="graph", **k),
        formula=lambda x, *rest: oracle.group_norm(groups_of(x.shape[1], 3), (0, 1))(x, *rest),
        over="graph-channels",
    ),
    **{
        f"node root {root}": Row(
            norm="node",
            make=lambda c, size, root=root, **k: gn.NodeNorm(c, float(root), **k),
            formula=oracle.node_norm(root),
        )
        for root in (1, 2, 3)
    },
    "ada": Row(
        norm="ada",
        make=lambda c, size, **k: gn.AdaNorm(c, scale=1.5, k=0.2, **k),
        formula=oracle.ada_norm,
    ),
    "power": Row(
        norm="power",
        make=lambda c, size, **k: gn.PowerNorm(c, warmup=3, **k),
        formula=oracle.power_norm(None),
        over="batch",
        exact=False,
    ),
    "power running": Row(
        norm="power",
        make=lambda c, size, **k: running_power(c, **k),
        formula=oracle.power_norm(2.5),
        over="batch",
        exact=False,
    ),
    "power scaled": Row(
        norm="power",
        make=lambda c, size, **k: gn.PowerNorm(c, scale_groups=1, **k),
        formula=oracle.power_norm(None, scaled=True),
        over="batch",
        exact=False,
    ),
    "contra": Row(
        norm="contra",
        make=lambda c, size, **k: gn.ContraNorm(c, 0.6, 0.7, **k),
        formula=oracle.contra_norm(0.6, 0.7),
        beyond=SQUARE,
    ),
    "contra with edges": Row(
        norm="contra",
        make=lambda c, size, **k: gn.ContraNorm(c, 0.6, 0.7, **k),
        formula=oracle.contra_norm(0.6, 0.7),
        given=edges,
        beyond=SQUARE,
    ),
    "contra with every edge": Row(
        norm="contra",
        make=lambda c, size, **k: gn.ContraNorm(c, 0.6, 0.7, **k),
        formula=oracle.contra_norm(0.6, 0.7),
        given=every_edge,
        beyond=SQUARE,
    ),
    "contra with edges that do not count": Row(
        norm="contra",
        make=lambda c, size, **k: gn.ContraNorm(c, 0.6, 0.7, mask_neighbours=False, **k),
        formula=oracle.contra_norm(0.6, 0.7, masks=False),
        given=edges,
        beyond=SQUARE,
    ),
    "adja": Row(
        norm="adja",
        make=lambda c, size, **k: gn.AdjaNorm(c, **k),
        formula=oracle.adja_norm,
        given=edges,
        beyond=SQUARE,
    ),
    "united": Row(
        norm="united",
        make=lambda c, size, **k: gn.UnitedNorm(c, **k),
        formula=oracle.united_norm,
        over="graph",
        given=edges,
        one_row=False,
        beyond=SQUARE,
    ),
    "granola": Row(
        norm="granola",
        make=lambda c, size, **k: seeded_granola(c, **k),
        formula=oracle.granola,
        given=random_features,
        randomize=False,
    ),
    "super": Row(
        norm="super",
        make=lambda c, size, **k: gn.SuperNorm(c, **k),
        formula=oracle.super_norm,
        over="batch",
        given=factors,
        gain=shifted_gain,
        spread=largest,
        one_row=False,
    ),
    "super plain": Row(
        norm="super",
        make=lambda c, size, **k: gn.SuperNorm(c, affine=False, **k),
        formula=oracle.super_norm,
        over="batch",
        given=factors,
        gain=shifted_gain,
        spread=largest,
        one_row=False,
    ),
    **{
        f"conditional {center} {scale}": Row(
            norm="conditional",
            make=lambda c, size, center=center, scale=scale, **k: gn.ConditionalNorm(
                c, 4, center, scale, **k
            ),
            formula=oracle.conditional_norm(center, scale),
            over=over,
            given=condition,
        )
        for center, scale, over in (
            ("graph", "graph", "graph"),
            ("node", "node", "node"),
            ("batch", "batch", "batch"),
            ("graph", "batch", "batch"),
        )
    },
    "conditional per node": Row(
        norm="conditional",
        make=lambda c, size, **k: gn.ConditionalNorm(c, 4, "node", "node", per="node", **k),
        formula=oracle.conditional_layer_norm,
        given=condition_of_nodes,
    ),
    **{
        f"qk {kind}": Row(
            norm="qk",
            make=lambda c, size, kind=kind, **k: gn.QKNorm(c, groups_of(c, 2), kind, **k),
            formula=lambda x, *rest, kind=kind: oracle.qk_norm(kind, groups_of(x.shape[1], 2))(
                x, *rest
            ),
        )
        for kind in ("layer", "rms", "l2")
    },
    "qk l2 affine": Row(
        norm="qk",
        make=lambda c, size, **k: gn.QKNorm(c, groups_of(c, 2), "l2", affine=True, **k),
        formula=lambda x, *rest: oracle.qk_norm("l2", groups_of(x.shape[1], 2))(x, *rest),
    ),
    "dyt": Row(
        norm="dyt",
        make=lambda c, size, **k: gn.DyT(c, **k),
        formula=oracle.dyt,
        **BOUNDED,
    ),
    "derf": Row(
        norm="derf",
        make=lambda c, size, **k: gn.Derf(c, **k),
        formula=oracle.derf,
        **BOUNDED,
    ),
    "derf plain": Row(
        norm="derf",
        make=lambda c, size, **k: gn.Derf(c, affine=False, **k),
        formula=oracle.derf,
        **BOUNDED,
    ),
    **{
        f"custom {center} {scale}": Row(
            norm="custom",
            make=lambda c, size, center=center, scale=scale, shift=shift, **k: gn.CustomNorm(
                c, center, scale, shift, **k
            ),
            formula=oracle.custom_norm(center, scale),
            over=over,
            **BOTH_WAYS if (center, scale) == ("graph", "node") else {},
        )
        for center, scale, shift, over in (
            ("graph", "batch-channels", "learned", "batch"),
            ("batch-channels", "graph", "fixed", "graph"),
            ("graph", "node", "fixed", "node"),
            ("none", "batch", "fixed", "batch"),
        )
    },
}


def groups_of(channels: int, wanted: int) -> int:
    """As many groups as wanted, or one."""
    return wanted if channels % wanted == 0 else 1


ON_BACKENDS = [(name, backend) for name, row in ROWS.items() for backend in row.backends]
ON_KERNELS = [(name, backend) for name, backend in ON_BACKENDS if backend != "auto"]
