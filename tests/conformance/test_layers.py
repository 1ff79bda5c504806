"""Every layer × backend × awkward input, forward and all gradients, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from graphnorms.testing import AwkwardCase, awkward_cases, tolerance
from tests.conformance.oracle import (
    LAYERS,
    cell_length,
    kept_by_dropout,
    rows_of,
    sum_scales,
)
from tests.norms import randomize

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
APPLY: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda y: y,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "gelu": lambda y: y * torch.erfc(-y * 0.5**0.5) / 2,
    "silu": lambda y: y * torch.sigmoid(y),
}
# Activation, share that is dropped, and whether there is a residual.
EPILOGUES: dict[str, tuple[str | None, float, bool]] = {
    **{str(activation): (activation, 0.0, False) for activation in APPLY},
    "residual": (None, 0.0, True),
    "relu+dropout": ("relu", 0.25, False),
    "silu+dropout+residual": ("silu", 0.4, True),
}
CASES = [case.name for case in awkward_cases(torch.float32)]


def agree(got: Tensor, exact: Tensor, allowed: float, scale: Tensor | float, what: str) -> None:
    assert got.shape == exact.shape
    assert not torch.isnan(got).any(), f"{what} has NaN"
    error = (got.detach().double() - exact).abs() / scale
    worst = float(error.max()) if error.numel() else 0.0
    assert worst <= allowed, f"{what}: error {worst:.2e}, allowed {allowed:.2e}"


def case_named(name: str, dtype: torch.dtype) -> AwkwardCase:
    return next(case for case in awkward_cases(dtype) if case.name == name)


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("dtype", DTYPES, ids=[str(dtype)[6:] for dtype in DTYPES])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("layer_name", LAYERS)
def test_layer_agrees_with_the_papers(
    layer_name: str, name: str, dtype: torch.dtype, epilogue: str, backend: str
) -> None:
    case = case_named(name, dtype)
    generator = torch.Generator().manual_seed(1)
    make, oracle = LAYERS[layer_name]
    activation, dropout, has_residual = EPILOGUES[epilogue]
    # Parameters stay in float32 beside half-precision features, as in mixed training.
    wide = torch.promote_types(dtype, torch.float32)
    layer = make(
        case.x.shape[1], activation=activation, dropout=dropout, backend=backend, dtype=wide
    )
    if layer_name == "BatchNorm" and case.x.shape[0] == 1:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(case.x)
        return
    randomize(layer, generator)

    # Off the diagonal: random cotangents, parameters away from their defaults.
    graphs = rows_of(case.batch, case.batch_size, case.x.shape[0])
    exact_x = case.x.double().detach().clone(memory_format=torch.contiguous_format)
    exact_x.requires_grad_()
    parameters = {
        key.removeprefix("module."): value.detach().double().requires_grad_()
        for key, value in layer.named_parameters()
    }
    before = oracle(exact_x, graphs, parameters, 1e-5)
    torch.manual_seed(7)
    kept = torch.ones(before.shape, dtype=torch.bool)
    if dropout:
        seed = int(torch.randint(2**62, ()))
        kept = kept_by_dropout(seed, *before.shape, dropout)
    exact_y = torch.where(kept, APPLY[activation](before) / (1 - dropout), 0.0)
    residual = torch.randn(before.shape, generator=generator).to(dtype) if has_residual else None
    if residual is not None:
        exact_y = exact_y + residual.double()
        residual.requires_grad_()
    grad_y = torch.randn(exact_y.shape, generator=generator, dtype=torch.float64)
    # At the kink of ReLU rounding decides which side it is: leave those entries out.
    if activation in ("relu", "leaky_relu"):
        grad_y = torch.where(before.detach().abs() < 1e-3, 0.0, grad_y)
    grad_y = grad_y.to(dtype)
    exact_y.backward(grad_y.double())

    x = case.x.detach().requires_grad_()
    torch.manual_seed(7)
    size = None if case.batch is None else case.batch_size
    y = layer(x, case.batch, size, residual=residual)
    y.backward(grad_y)

    length = cell_length(layer_name, graphs, case.x)
    allowed = tolerance(dtype, length)
    assert y.dtype == dtype
    agree(y, exact_y.detach(), allowed, _largest(exact_y).clamp(min=1), "y")
    assert x.grad is not None
    assert exact_x.grad is not None
    # Gradients scale with weight / s, and so does what rounding leaves of a gradient that is 0.
    # Behind a curved activation rounding moves the slope, too: by the entry's own size.
    slope = slope_of(activation, before.detach()) * kept / (1 - dropout)
    arriving = slope * grad_y.double()
    bend = _largest(before).clamp(min=1) if activation in ("gelu", "silu") else 1.0
    size = _largest(grad_y.double()) / (1 - dropout) * _largest_rstd(layer_name, graphs, case.x)
    scale = torch.maximum(_largest(exact_x.grad), size).clamp(min=1e-6) * bend
    agree(x.grad, exact_x.grad, allowed, scale, "grad of x")
    if residual is not None:
        assert residual.grad is not None
        assert torch.equal(residual.grad, grad_y)
    scales = sum_scales(
        exact_x.detach(), arriving, before.detach(), layer_name, graphs,
        {key: value.detach() for key, value in parameters.items()},
    )  # fmt: skip
    for key, parameter in layer.named_parameters():
        key = key.removeprefix("module.")
        exact = parameters[key].grad
        assert parameter.grad is not None
        if exact is None:
            exact = torch.zeros_like(parameters[key])
        allowed_sum = sum(tolerance(wide, n) for n in (length, max(case.x.shape[0], 1)))
        agree(parameter.grad, exact, allowed_sum, scales[key].clamp(min=1e-6), f"grad of {key}")


def slope_of(activation: str | None, before: Tensor) -> Tensor:
    leaf = before.clone().requires_grad_()
    (slope,) = torch.autograd.grad(APPLY[activation](leaf).sum(), leaf)
    return slope


def _largest(values: Tensor) -> Tensor:
    return values.detach().abs().max() if values.numel() else torch.ones((), dtype=torch.float64)


def _largest_rstd(layer_name: str, graphs: list[Tensor], x: Tensor) -> Tensor:
    """The largest 1 / s that the layer multiplies by; 1 / sqrt(eps) for constant cells."""
    x = x.double()
    if not x.shape[0]:
        return torch.ones((), dtype=torch.float64)
    if layer_name == "BatchNorm":
        spreads = [x.var(0, unbiased=False)]
    elif layer_name == "LayerNorm-node":
        spreads = [x.var(1, unbiased=False)]
    elif layer_name.startswith("LayerNorm-graph"):
        spreads = [x[rows].var(unbiased=False) for rows in graphs if rows.shape[0]]
    else:
        spreads = [x[rows].var(0, unbiased=False) for rows in graphs if rows.shape[0]]
    smallest = torch.stack([spread.min() for spread in spreads]).min()
    return 1.5 * (smallest + 1e-5).rsqrt()


@pytest.mark.parametrize("layer_name", LAYERS)
def test_nan_and_inf_stay_in_their_cells(layer_name: str, backend: str) -> None:
    make, _ = LAYERS[layer_name]
    x = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(30) // 10
    layer = make(20, backend=backend)
    clean = layer(x, batch)
    for poison in (float("nan"), float("inf"), -float("inf")):
        bad = x.clone()
        bad[13, 7] = poison
        y = layer(bad, batch).detach()
        cell = torch.zeros(30, 20, dtype=torch.bool)
        rows = slice(None) if layer_name == "BatchNorm" else slice(10, 20)
        if layer_name == "LayerNorm-node":
            cell[13] = True
        elif layer_name.startswith("LayerNorm-graph"):
            cell[rows] = True
        else:
            cell[rows, 7] = True
        assert not torch.isfinite(y[cell]).any()
        assert torch.equal(y[~cell], clean.detach()[~cell])


@pytest.mark.parametrize("layer_name", LAYERS)
def test_relu_lets_nan_through(layer_name: str, backend: str) -> None:
    make, _ = LAYERS[layer_name]
    x = torch.full((6, 20), float("nan"), requires_grad=True)
    y = make(20, backend=backend, activation="relu")(x)
    assert torch.isnan(y).all()
    y.backward(torch.ones_like(y))
    assert x.grad is not None
    assert torch.isnan(x.grad).all()


@pytest.mark.parametrize("layer_name", LAYERS)
@pytest.mark.parametrize("activation", APPLY)
def test_gradcheck_and_gradgradcheck(layer_name: str, activation: str | None, backend: str) -> None:
    make, _ = LAYERS[layer_name]
    generator = torch.Generator().manual_seed(3)
    layer = make(3, backend=backend, activation=activation, dtype=torch.float64)
    randomize(layer, generator)
    batch = torch.tensor([1, 0, 1, 1, 0, 3, 1])
    x = torch.randn(7, 3, generator=generator, dtype=torch.float64).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]
    values = [value.detach().requires_grad_() for _, value in layer.named_parameters()]

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(
            layer, dict(zip(names, parameters, strict=True)), (x, batch, 5)
        )
        return y

    assert torch.autograd.gradcheck(call, (x, *values))
    assert torch.autograd.gradgradcheck(call, (x, *values))


@pytest.mark.parametrize("layer_name", LAYERS)
def test_same_bits_for_every_number_of_threads(
    layer_name: str, backend: str, threads: None
) -> None:
    make, _ = LAYERS[layer_name]
    generator = torch.Generator().manual_seed(5)
    counts = torch.cat([torch.randint(0, 60, (60,), generator=generator), torch.tensor([4000])])
    batch = torch.repeat_interleave(torch.arange(61), counts)
    x = torch.randn(batch.shape[0], 33, generator=generator).requires_grad_()
    grad_y = torch.randn(x.shape, generator=generator)
    results = []
    for number in (1, 2, 5, 2):
        torch.set_num_threads(number)
        layer = make(33, backend=backend, activation="relu")
        x.grad = None
        y = layer(x, batch, 61)
        y.backward(grad_y)
        assert x.grad is not None
        results.append([y.detach(), x.grad, *(p.grad for p in layer.parameters())])
    if backend == "reference":
        return  # torch's own sums may depend on the threads
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("dtype", "rows", "mean", "std"),
    [
        (torch.float16, 3000, 30.0, 1.0),  # the sum of a channel overflows
        (torch.float16, 3000, 0.0, 300.0),  # and so do the squares
        (torch.float16, 70_000, 0.0, 1.0),  # more nodes than float16 has numbers
        (torch.bfloat16, 5000, 0.0, 1.0),  # which bfloat16 counts as 4992
    ],
)
@pytest.mark.parametrize("layer_name", LAYERS)
def test_half_precision_neither_overflows_nor_miscounts(
    layer_name: str, dtype: torch.dtype, rows: int, mean: float, std: float, backend: str
) -> None:
    make, oracle = LAYERS[layer_name]
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0)) * std + mean
    x = x.to(dtype)
    got = make(4, backend=backend)(x)
    ones = {"weight": torch.ones(4).double(), "bias": torch.zeros(4).double()}
    parameters = ones | {"mean_scale": torch.ones(4).double()}
    exact = oracle(x.double(), [torch.arange(rows)], parameters, 1e-5)
    assert got.dtype == dtype
    agree(got, exact, tolerance(dtype, rows * 4), _largest(exact), "y")
