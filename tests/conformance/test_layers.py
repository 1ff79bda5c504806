"""Every layer × backend × awkward input, forward and all gradients, against float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from graphnorms.testing import tolerance
from tests.conformance.agreement import (
    APPLY,
    EPILOGUES,
    EVERYWHERE,
    INPUTS,
    INTERPRETED,
    ONE_CALL,
    combinations,
    disagreements,
)
from tests.conformance.rows import ON_KERNELS, ROWS, WIDE, arguments
from tests.norms import DTYPES, close, normal, randomize


@pytest.mark.parametrize(("name", "backend", "given"), EVERYWHERE, indirect=["backend"])
def test_agrees_with_the_papers(
    name: str, given: str, backend: str, request: pytest.FixtureRequest
) -> None:
    if given == "one row" and not ROWS[name].one_row:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            list(disagreements(name, given, torch.float32, "None", backend))
        return
    # Instruction sets are one source compiled anew, and what is behind a call of a kernel is the
    # same code for all layers: the first backend is asked more, for some layers everything.
    first = request.node.callspec.params["backend"] == ROWS[name].backends[0]
    thorough = first and request.config.getoption("all_combinations")
    everything = thorough and name in ONE_CALL
    chosen = itertools.product(DTYPES, EPILOGUES) if everything else None
    violations = [
        f"{dtype}, {epilogue}: {violation}"
        for dtype, epilogue in chosen or combinations(name, given, thorough=thorough)
        for violation in disagreements(name, given, dtype, epilogue, backend)
    ]
    assert not violations, "\n".join(violations)


ONE_OF_A_KIND = [
    name for name in INTERPRETED if name in ("batch", "layer", "layer-graph", "graph", "dyt")
]
"""A layer for each way in which an interpreted kernel goes through many rows, which takes long."""


@pytest.mark.skipif(not INTERPRETED, reason="no interpreter here")
@pytest.mark.parametrize("backend", ["triton"], indirect=True)
@pytest.mark.parametrize(
    ("name", "given"),
    [
        pytest.param(
            name,
            given,
            marks=() if place % len(names) == number else pytest.mark.full("interpreted kernels"),
        )
        for place, given in enumerate(INPUTS)
        for names in [ONE_OF_A_KIND if given in WIDE else INTERPRETED]
        for number, name in enumerate(names)
        if place % len(names) == number or (place + number) % 2 == 0
    ],
)
def test_agrees_in_the_interpreter(name: str, given: str, backend: str) -> None:
    """It is slow: every input with one layer, plain; `make test-all` has half of them, by turns.

    The dtypes, which differ in how a kernel loads and stores, take turns.
    """
    if given == "one row" and not ROWS[name].one_row:
        pytest.skip("is refused")
    turn = (INTERPRETED.index(name) + INPUTS.index(given)) % 2
    dtype = torch.bfloat16 if turn and given not in WIDE else torch.float32
    violations = list(disagreements(name, given, dtype, "None", backend))
    assert not violations, f"{dtype}: " + "\n".join(violations)


# Those in which an entry reaches all of its cell.
CELLS = [
    "batch",
    "layer",
    "layer-graph",
    "layer-graph plain",
    "instance",
    "instance plain",
    "graph",
    "pair",
    "mean-subtraction",
    "hetero-batch",
    "hetero-layer",
    "dyt",
    "derf",
]
OF_CELLS = [(name, backend) for name, backend in ON_KERNELS if name in CELLS]


@pytest.mark.parametrize(("name", "backend"), OF_CELLS, indirect=["backend"])
def test_nan_and_inf_stay_in_their_cells(name: str, backend: str) -> None:
    x, batch = normal(30, 20, dtype=torch.float32), torch.arange(30) // 10
    layer = ROWS[name].make(20, 3, backend=backend)
    clean = layer(x, batch, 3).detach()
    for poison in (float("nan"), float("inf"), -float("inf")):
        bad = x.clone()
        bad[13, 7] = poison
        y = layer(bad, batch, 3).detach()
        cell = torch.zeros(30, 20, dtype=torch.bool)
        if ROWS[name].over == "entry":
            cell[13, 7] = True
        elif ROWS[name].over == "node":
            cell[13] = True
        elif ROWS[name].over == "graph-channels":
            cell[10:20] = True
        else:
            cell[slice(None) if ROWS[name].over == "batch" else slice(10, 20), 7] = True
        if ROWS[name].over == "entry":  # a bounded function is finite at infinity
            assert torch.isnan(y[cell]).all() == (poison != poison)
        else:
            assert not torch.isfinite(y[cell]).any()
        assert torch.equal(y[~cell], clean[~cell])


@pytest.mark.parametrize(("name", "backend"), OF_CELLS, indirect=["backend"])
def test_relu_lets_nan_through(name: str, backend: str) -> None:
    if name == "mean-subtraction":
        pytest.skip("its gradient does not depend on the features")
    x = torch.full((6, 20), float("nan"), requires_grad=True)
    y = ROWS[name].make(20, 1, backend=backend, activation="relu")(x)
    assert torch.isnan(y).all()
    y.backward(torch.ones_like(y))
    assert x.grad is not None
    assert torch.isnan(x.grad).all()


@pytest.mark.parametrize("activation", APPLY)
@pytest.mark.parametrize(("name", "backend"), OF_CELLS, indirect=["backend"])
def test_gradcheck_and_gradgradcheck(name: str, activation: str | None, backend: str) -> None:
    """With a mask and a residual, which `check_norm` has not."""
    row = ROWS[name]
    layer = row.make(3, 5, backend=backend, activation=activation, dtype=torch.float64)
    randomize(layer)
    batch = torch.tensor([1, 0, 1, 1, 0, 3, 1])
    mask = torch.tensor([True, True, False, True, True, False, True])
    given = arguments(row.given(batch, 5, 7), 7, torch.float64)
    x, residual = normal(7, 3, seed=3).requires_grad_(), normal(7, 3, seed=4).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]
    values = [value.detach().requires_grad_() for value in layer.parameters()]

    def call(x: Tensor, residual: Tensor, *parameters: Tensor) -> Tensor:
        own = dict(zip(names, parameters, strict=True))
        more = given | {"residual": residual, "mask": mask}
        y: Tensor = torch.func.functional_call(layer, own, (x, batch, 5), more)
        return y

    # In random directions; `check_norm` goes through every entry.
    assert torch.autograd.gradcheck(call, (x, residual, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, residual, *values), fast_mode=True)


@pytest.mark.parametrize(
    ("name", "backend"),
    # torch's own sums may depend on the threads.
    [(name, backend) for name, backend in OF_CELLS if backend != "reference"],
    indirect=["backend"],
)
def test_same_bits_for_every_number_of_threads(name: str, backend: str, threads: None) -> None:
    generator = torch.Generator().manual_seed(5)
    counts = torch.cat([torch.randint(0, 60, (60,), generator=generator), torch.tensor([4000])])
    batch = torch.repeat_interleave(torch.arange(61), counts)
    x = torch.randn(batch.shape[0], 33, generator=generator).requires_grad_()
    grad_y = torch.randn(x.shape, generator=generator)
    results = []
    for number in (1, 2, 5, 2):
        torch.set_num_threads(number)
        layer = ROWS[name].make(33, 61, backend=backend, activation="relu")
        y = layer(x, batch, 61)
        results.append([y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], grad_y)])
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
@pytest.mark.parametrize(("name", "backend"), OF_CELLS, indirect=["backend"])
def test_half_precision_neither_overflows_nor_miscounts(
    name: str, dtype: torch.dtype, rows: int, mean: float, std: float, backend: str
) -> None:
    x = (normal(rows, 4) * std + mean).to(dtype)
    layer = ROWS[name].make(4, 1, backend=backend)
    p = {key.rsplit(".", 1)[-1]: value.detach().double() for key, value in layer.named_parameters()}
    exact = ROWS[name].formula(x.double(), [torch.arange(rows)], p, {})
    y = layer(x)
    assert y.dtype == dtype
    close(y, exact, tolerance(dtype, rows * 4), "y")
