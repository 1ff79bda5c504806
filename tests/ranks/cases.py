"""Calls of synchronized layers, each to be made on several ranks and in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms import Over
from graphnorms.kernels.dropout import draw_seed, drop
from graphnorms.layers.super_norm import subgraph_factors
from graphnorms.segments import Segments
from tests.norms import normal, randomize

CHANNELS, GRAPHS, ROWS = 6, 4, 29

Make = Callable[..., nn.Module]


@dataclass(frozen=True)
class Case:
    """One layer on rows that are dealt to ranks.

    Args:
        name: What a failure is called.
        make: Builds the layer from `process_group`.
        of: What it takes beside the features: `"graphs"`, `"types"`, `"nothing"`, or graphs and
            `"edges"` or `"factors"`.
        deal: How the rows are dealt; see `dealt`.
        steps: How many calls, each with rows of its own.
        masked: Whether some rows do not count.
        residual: Whether something is added.
        given: Further arguments of the call.
        mean: Of the features, whose spread is 1.
        dtype: Of the features; the layer is in float64, or float32 for other features.
    """

    name: str
    make: Make
    of: str = "graphs"
    deal: str = "uneven"
    steps: int = 1
    masked: bool = False
    residual: bool = False
    given: dict[str, Tensor] = field(default_factory=dict)
    mean: float = 0.5
    dtype: torch.dtype = torch.float64


def dealt(how: str, ranks: int, ids: Tensor) -> Tensor:
    """The rank of every row."""
    rows = ids.shape[0]
    place = torch.arange(rows)
    if how == "uneven":  # scattered: half, then half of what is left, …
        mixed = torch.randperm(rows, generator=torch.Generator().manual_seed(3))
        return (1 / (1 - mixed / rows)).log2().floor().clamp(max=ranks - 1).long()
    if how == "empty":  # the first rank has none
        return 1 + place % (ranks - 1)
    if how == "one":  # the last rank has a single row
        return torch.where(place == rows - 1, ranks - 1, place % (ranks - 1))
    assert how == "graphs"  # every graph lies whole on a rank
    return ids % ranks


@dataclass(frozen=True)
class Step:
    """The rows of one call."""

    x: Tensor
    ids: Tensor
    mask: Tensor
    residual: Tensor
    grad_y: Tensor
    rank: Tensor

    def of_rank(self, rank: int) -> Step:
        here = self.rank == rank
        parts = (self.x, self.ids, self.mask, self.residual, self.grad_y, self.rank)
        return Step(*(part[here] for part in parts))


def steps(case: Case, ranks: int) -> Iterator[Step]:
    for number in range(case.steps):
        generator = torch.Generator().manual_seed(number)
        x = (normal(ROWS, CHANNELS, seed=number) + case.mean).to(case.dtype)
        ids = torch.randint(GRAPHS, (ROWS,), generator=generator)  # unsorted
        yield Step(
            x,
            ids,
            torch.rand(ROWS, generator=generator) < 0.7,
            normal(ROWS, CHANNELS, seed=50 + number, dtype=case.dtype),
            normal(ROWS, CHANNELS, seed=90 + number, dtype=case.dtype),
            dealt(case.deal, ranks, ids),
        )


def call(case: Case, layer: nn.Module, x: Tensor, step: Step, graphs: int = GRAPHS) -> Tensor:
    given: dict[str, Any] = dict(case.given)
    if case.masked:
        given["mask"] = step.mask
    if case.residual:
        given["residual"] = step.residual
    if case.of == "edges":
        given["adjacency"] = paths(step.ids)
    if case.of == "factors":
        given["factors"] = subgraph_factors(paths(step.ids))
    if case.of == "nothing":
        return layer(x, **given)
    if case.of == "types":
        return layer(x, step.ids, **given)
    return layer(x, step.ids, graphs, **given)


def paths(ids: Tensor) -> gn.Adjacency:
    """Every graph a path through its rows, so that ranks with whole graphs have whole paths."""
    order = torch.argsort(ids, stable=True)
    near = torch.stack((order[1:], order[:-1]))[:, ids[order[1:]] == ids[order[:-1]]]
    return gn.Adjacency.from_edge_index(torch.cat((near, near.flip(0)), 1), ids.shape[0])


def build(case: Case, process_group: Any) -> nn.Module:
    torch.manual_seed(0)
    layer = case.make(process_group)
    layer.to(torch.float64 if case.dtype == torch.float64 else torch.float32)
    randomize(layer)
    return layer


Results = dict[str, Tensor]


def run(case: Case, ranks: int, rank: int | None) -> Results:
    """Make the calls on one rank, or in one process on the rows of all."""
    layer = build(case, None if rank is None else "world")
    found: Results = {}
    for number, step in enumerate(steps(case, ranks)):
        mine = step if rank is None else step.of_rank(rank)
        x = mine.x.clone().requires_grad_()
        y = call(case, layer, x, mine)
        y.backward(mine.grad_y)
        found[f"y{number}"], found[f"x{number}"] = y.detach(), x.grad
    # torch's layers have no "module." where ours and PyG's have.
    for name, parameter in layer.named_parameters():
        found[f"grad {name.replace('module.', '')}"] = parameter.grad
    for name, buffer in layer.named_buffers():
        found[f"buffer {name.replace('module.', '')}"] = buffer
    layer.eval()
    if any(True for _ in layer.buffers()):
        found[f"y{case.steps}"] = call(case, layer, mine.x, mine).detach()
    return {name: value.contiguous() for name, value in found.items()}


def _of(layer: Make, *arguments: Any, **choices: Any) -> Make:
    return lambda group: layer(*arguments, process_group=group, **choices)


def _custom(center: str, scale: str, **choices: Any) -> Make:
    return _of(gn.CustomNorm, CHANNELS, center, scale, **choices)


def _converted(group: Any) -> nn.Module:
    """A model of torch's: for one process as it is, for ranks by `convert_sync`."""
    model = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.BatchNorm1d(CHANNELS), nn.Tanh())
    return model if group is None else gn.convert_sync(model, group).model


def _by_torch(layer: Make, *arguments: Any, **choices: Any) -> Make:
    """A layer for one process, for ranks converted as Lightning's `sync_batchnorm=True` does."""

    def make(group: Any) -> nn.Module:
        model = layer(*arguments, **choices)
        return model if group is None else nn.SyncBatchNorm.convert_sync_batchnorm(model)

    return make


def _hooked(layer: nn.Module) -> nn.Module:
    """A layer whose modules inside are called."""
    for module in layer.children():
        module.register_forward_hook(lambda *_: None)
    return layer


FUSED = {"activation": "gelu"}
C = CHANNELS

NORMS: dict[str, tuple[Make, str]] = {
    "BatchNorm": (_of(gn.BatchNorm, C), "nothing"),
    "HeteroBatchNorm": (_of(gn.HeteroBatchNorm, C, GRAPHS), "types"),
    "PowerNorm": (_of(gn.PowerNorm, C, warmup=1), "nothing"),
    "DiffGroupNorm": (_of(gn.DiffGroupNorm, C, 3, lamda=0.5), "nothing"),
    "GraphNorm": (_of(gn.GraphNorm, C), "graphs"),
    "InstanceNorm": (_of(gn.InstanceNorm, C, affine=True, track_running_stats=True), "graphs"),
    "LayerNorm": (_of(gn.LayerNorm, C), "graphs"),
    "GroupNorm": (_of(gn.GroupNorm, C, 2, mode="graph"), "graphs"),
    "PairNorm": (_of(gn.PairNorm, 1.5), "graphs"),
    "PairNorm by node": (_of(gn.PairNorm, scale_individually=True), "graphs"),
    "PairNorm at once": (_of(gn.PairNorm, simultaneously=True), "graphs"),
    "MeanSubtractionNorm": (_of(gn.MeanSubtractionNorm), "graphs"),
    "GraphSizeNorm": (_of(gn.GraphSizeNorm), "graphs"),
}

CASES: list[Case] = [
    Case(f"{name}, {deal}", make, of, deal, steps=3 if deal == "uneven" else 1)
    for name, (make, of) in NORMS.items()
    for deal in ("uneven", "empty", "one")
]
CASES += [
    Case(f"{name}, masked, fused", make, of, masked=True, residual=True)
    for name, (make, of) in {
        "BatchNorm": (_of(gn.BatchNorm, C, activation="relu"), "nothing"),
        "HeteroBatchNorm": (_of(gn.HeteroBatchNorm, C, GRAPHS, **FUSED), "types"),
        "PowerNorm": (_of(gn.PowerNorm, C, **FUSED), "nothing"),
        "DiffGroupNorm": (_of(gn.DiffGroupNorm, C, 3, **FUSED), "nothing"),
        "GraphNorm": (_of(gn.GraphNorm, C, **FUSED), "graphs"),
        "InstanceNorm": (_of(gn.InstanceNorm, C, affine=True, activation="silu"), "graphs"),
        "LayerNorm": (_of(gn.LayerNorm, C, activation="leaky_relu"), "graphs"),
        "PairNorm by node": (_of(gn.PairNorm, scale_individually=True, **FUSED), "graphs"),
        "GraphSizeNorm": (_of(gn.GraphSizeNorm, **FUSED), "graphs"),
    }.items()
]
CASES += [
    # Every pair of domains of the equation, a learned share of the mean among them.
    Case(f"{center} and {scale}, {shift}", _custom(center, scale, shift=shift, groups=groups))
    for center, scale, groups in (
        ("graph", "graph-channels", 2),
        ("graph-channels", "graph", 3),
        ("graph-channels", "graph-channels", 2),
        ("graph", "none", 1),
        ("batch", "graph", 1),
        ("node", "graph", 1),
        ("graph", "node", 2),
        ("batch-channels", "batch", 1),
        ("none", "graph", 1),
        ("none", "batch-channels", 2),
        ("node", "batch-channels", 1),
    )
    for shift in ("fixed", "learned")
    if not (center == "none" and shift == "learned")
]
CASES += [
    Case("node and graph, masked", _custom("node", "graph"), masked=True, residual=True),
    Case("graph and node, masked", _custom("graph", "node"), masked=True, residual=True),
    *(
        Case(f"{name} by reference", _of(layer, C, backend="reference"), deal="empty", masked=True)
        for name, layer in (("GraphNorm", gn.GraphNorm), ("LayerNorm", gn.LayerNorm))
    ),
    Case(
        "ConditionalNorm",
        _of(gn.ConditionalNorm, C, 5, **FUSED),
        given={"condition": normal(GRAPHS, 5, seed=4)},
        masked=True,
    ),
    Case(
        "ConditionalNorm of the batch",
        _of(gn.ConditionalNorm, C, 5, "batch", "batch"),
        given={"condition": normal(GRAPHS, 5, seed=4)},
    ),
    Case("BatchNorm, averages", _of(gn.BatchNorm, C, momentum=None), "nothing", "empty", steps=3),
    Case(
        "HeteroBatchNorm, averages",
        _of(gn.HeteroBatchNorm, C, GRAPHS, momentum=None),
        "types",
        "one",
        steps=3,
    ),
    Case("BatchNorm without averages", _of(gn.BatchNorm, C, track_running_stats=False), "nothing"),
    Case(
        "BatchNorm of single rows",
        _of(gn.BatchNorm, C, allow_single_element=True),
        "nothing",
        "one",
        steps=2,
    ),
    Case(
        "InstanceNorm of whole graphs",
        _of(gn.InstanceNorm, C, track_running_stats=True, whole_graphs=True),
        deal="graphs",
        steps=3,
    ),
    Case(
        "IrrepsBatchNorm", _of(gn.IrrepsBatchNorm, "1x1o + 3x0e"), "nothing", masked=True, steps=3
    ),
    Case("IrrepsBatchNorm, empty", _of(gn.IrrepsBatchNorm, "1x1o + 3x0e"), "nothing", "empty"),
    Case(
        "IrrepsGraphNorm",
        _of(gn.IrrepsGraphNorm, "3x0e + 1x1o", shift="all", layout="ir_mul"),
        masked=True,
        residual=True,
    ),
    Case("UnitedNorm", _of(gn.UnitedNorm, C), "edges", "graphs", steps=2),
    Case("SuperNorm", _of(gn.SuperNorm, C), "factors", "graphs", steps=2),
    Case("PowerNorm by groups", _of(gn.PowerNorm, C, scale_groups=2), "nothing", steps=2),
    Case("BatchNorm by torch", _by_torch(gn.BatchNorm, C, **FUSED), "nothing", "one", steps=3),
    Case("BatchNorm by torch, masked", _by_torch(gn.BatchNorm, C), "nothing", masked=True),
    Case("DiffGroupNorm by torch", _by_torch(gn.DiffGroupNorm, C, 3), "nothing", steps=2),
    Case("UnitedNorm by torch", _by_torch(gn.UnitedNorm, C), "edges", "graphs", steps=2),
    Case("SuperNorm by torch", _by_torch(gn.SuperNorm, C), "factors", "graphs", steps=2),
    Case(
        "BatchNorm, hooked",
        lambda group: _hooked(gn.BatchNorm(C, process_group=group)),
        "nothing",
        masked=True,
        residual=True,
        steps=2,
    ),
    Case(
        "DiffGroupNorm, hooked",
        lambda group: _hooked(gn.DiffGroupNorm(C, 3, lamda=0.5, process_group=group)),
        "nothing",
        masked=True,
        steps=2,
    ),
    Case("torch's model", _converted, "nothing", "one", steps=3),
    Case("GraphNorm, one graph", _of(gn.GraphNorm, C), "nothing", "empty"),
]

# Against float64 on the same numbers: mean 1e4 and spread 1 in float32, and half precision.
PRECISION: list[Case] = [
    Case(
        f"{name} at {mean:g} in {dtype}{', masked' * masked}",
        make,
        of,
        mean=mean,
        dtype=dtype,
        masked=masked,
    )
    for name in ("BatchNorm", "HeteroBatchNorm", "GraphNorm", "LayerNorm", "GroupNorm", "PairNorm")
    for make, of in (NORMS[name],)
    for mean, dtype, masked in (
        (1e4, torch.float32, False),
        (1e4, torch.float32, True),
        (3.0, torch.bfloat16, False),
    )
]


PLAIN = Case("dropout", _of(gn.GraphNorm, C))
"""Rows for calls that are no case."""


def exact(case: Case, ranks: int) -> Results:
    """The case of one process in float64, on the numbers that the ranks have."""
    layer = build(case, None).double()
    (step,) = steps(case, ranks)
    x = step.x.double().requires_grad_()
    y = call(case, layer, x, step)
    y.backward(step.grad_y.double())
    return {"y0": y.detach(), "x0": x.grad}


def dropped(rank: int, step: Step, share: float) -> Tensor:
    """What a rank multiplies its rows by, when it has drawn after `manual_seed(rank)`."""
    torch.manual_seed(rank)
    return drop(torch.ones_like(step.x), share, draw_seed(step.x.device))


def poisoned(step: Step) -> Step:
    """The same rows with a NaN in one cell, and an infinity in another."""
    x = step.x.clone()
    x[0, 0], x[1, CHANNELS - 1] = float("nan"), float("inf")
    return replace(step, x=x)


def primitive(step: Step, process_group: Any) -> Tensor:
    """`segment_normalize` itself, with weights of every segment's own."""
    weight, bias = normal(2, GRAPHS, CHANNELS, seed=8)
    return gn.segment_normalize(
        step.x,
        Segments.from_batch(step.ids, GRAPHS),
        center=Over.NODES,
        scale=Over.BOTH,
        groups=2,
        weight=weight,
        bias=bias,
        process_group=process_group,
    )
