"""What the tests of single layers share: inputs, and the comparison with an oracle."""

from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.testing import tolerance

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
DTYPE_NAMES = [str(dtype)[6:] for dtype in DTYPES]

Call = Callable[..., Tensor]
Oracle = Callable[[list[Tensor], dict[str, Tensor]], Tensor]


def import_pyg() -> Any:
    """`torch_geometric.nn`; importing it calls what torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")


def rows_of(batch: Tensor | None, size: int, rows: int) -> list[Tensor]:
    """The rows of every graph that has some."""
    if batch is None:
        return [torch.arange(rows)] if rows else []
    found = [(batch == graph).nonzero()[:, 0] for graph in range(size)]
    return [graph for graph in found if graph.shape[0]]


def graph_by_graph(x: Tensor, graphs: list[Tensor], one: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to each graph alone."""
    if not graphs:
        return x * 1
    y = torch.cat([one(x[rows]) for rows in graphs])
    return y[torch.argsort(torch.cat(graphs))]


def centred(g: Tensor) -> Tensor:
    """Subtract the mean of each column; a constant first, so that float64 can judge mean 1e4."""
    g = g - g.detach().median(0, keepdim=True).values
    return g - g.mean(0, keepdim=True)


def randomize(layer: nn.Module, seed: int = 1) -> None:
    """Move the parameters away from their defaults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same for every dtype up to its rounding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def close(got: Tensor, exact: Tensor, allowed: float, what: str) -> None:
    """Compare, and name what is off."""
    assert got.shape == exact.shape
    assert not torch.isnan(got).any(), f"{what} has NaN"
    error = float((got.detach().double() - exact).abs().max()) if got.numel() else 0.0
    assert error <= allowed, f"{what}: error {error:.2e}, allowed {allowed:.2e}"


def agrees(
    layer: nn.Module, call: Call, oracle: Oracle, inputs: list[Tensor], *, length: int,
    gain: float = 1.0, spread: float = 1.0,
) -> None:  # fmt: skip
    """Compare result and gradients, at a random cotangent, with an oracle in float64.

    Args:
        layer: The layer.
        call: Applies it to the inputs.
        oracle: The same formula, of the inputs and the parameters by their names.
        inputs: Tensors of the dtype that is tested.
        length: How many entries share a statistic, at most.
        gain: The largest number that gradients are multiplied with.
        spread: What the rounding of a result relates to, if that is larger than the result: the
            range of the entries that a small one is the difference of.
    """
    dtype = inputs[-1].dtype
    exact_inputs = [
        value.double().detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        for value in inputs
    ]
    exact_parameters = {
        name: value.detach().double().requires_grad_() for name, value in layer.named_parameters()
    }
    exact_y = oracle(exact_inputs, exact_parameters)
    grad_y = normal(*exact_y.shape, seed=9, dtype=dtype)
    exact_y.backward(grad_y.double())

    leaves = [value.detach().requires_grad_() for value in inputs]
    y = call(layer, *leaves)
    assert y.dtype == dtype
    y.backward(grad_y)
    allowed = tolerance(dtype, length)
    close(y, exact_y.detach(), allowed * max(_size(exact_y), spread), "y")
    for number, (leaf, exact) in enumerate(zip(leaves, exact_inputs, strict=True)):
        assert exact.grad is not None
        assert leaf.grad is not None
        size = max(_size(exact.grad), gain * _size(grad_y))
        close(leaf.grad, exact.grad, 3 * allowed * size, f"grad of input {number}")
    allowed = 4 * tolerance(torch.promote_types(dtype, torch.float32), length)
    for name, parameter in layer.named_parameters():
        if not parameter.requires_grad:
            continue
        exact_grad = exact_parameters[name].grad
        if exact_grad is None:  # there was no row that it was applied to
            exact_grad = torch.zeros_like(exact_parameters[name])
        assert parameter.grad is not None
        # Entries are of size 1, or as large as the result, and so are the terms of these sums.
        terms = float(grad_y.double().abs().sum(0).max()) if grad_y.numel() else 0.0
        size = max(_size(exact_grad), terms * _size(exact_y))
        close(parameter.grad, exact_grad, allowed * size, f"grad of {name}")


def _size(values: Tensor) -> float:
    return max(1.0, float(values.detach().abs().max())) if values.numel() else 1.0


def by_neighbours(x: Tensor, edges: Tensor) -> Tensor:
    result = []
    for i in range(x.shape[0]):
        around = x[[i, *edges[0, edges[1] == i].tolist()]]
        variance = (around - around.mean()).square().mean()
        result.append((x[i] - around.mean()) / (variance + 1e-5).sqrt())
    return torch.stack(result)


NAMES = ["none", "node", "graph", "graph-channels", "batch", "batch-channels"]
POINTS = [pair for pair in itertools.product(NAMES, NAMES) if pair != ("none", "none")]


def mean_over(name: str, x: Tensor, graphs: list[Tensor], groups: int) -> Tensor:
    """The mean of each entry's cell, one cell after the other."""
    found = torch.zeros_like(x)
    cells: list[tuple[Tensor, list[int]]] = []
    every = list(range(x.shape[1]))
    width = x.shape[1] // groups
    blocks = [every[i : i + width] for i in range(0, x.shape[1], width)]
    rows = torch.cat(graphs)
    if name == "node":
        cells = [(row[None], block) for row in rows for block in blocks]
    else:
        whole = graphs if name.startswith("graph") else [rows]
        parts = blocks if name.endswith("channels") else [[channel] for channel in every]
        cells = [(of, part) for of in whole for part in parts if of.shape[0]]
    for of, part in cells:
        mask = torch.zeros_like(x, dtype=torch.bool)
        mask[of[:, None], torch.tensor(part)] = True
        found = torch.where(mask, x[mask].mean(), found)
    return found


def point(
    x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], center: str, scale: str, groups: int
) -> Tensor:
    o = x
    if center != "none":
        o = x - p.get("mean_scale", torch.ones(())) * mean_over(center, x, graphs, groups)
    if scale != "none":
        o = o / (mean_over(scale, o.square(), graphs, groups) + 1e-5).sqrt()
    return o * p["weight"] + p["bias"] if "weight" in p else o
