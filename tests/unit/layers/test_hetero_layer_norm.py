"""HeteroLayerNorm, node by node."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from graphnorms.layers.hetero_layer_norm import HeteroLayerNorm
from graphnorms.segments import Segments
from graphnorms.testing import awkward_cases
from tests.unit.layers.common import (
    DTYPE_NAMES,
    DTYPES,
    agrees,
    close,
    import_pyg,
    normal,
    randomize,
)

CASES = [case.name for case in awkward_cases(torch.float32) if case.batch is not None]
TYPES = (torch.arange(40) * 7) % 4
OFFSETS = [0, 10, 20, 30, 40]


def oracle(x: Tensor, types: Tensor, p: dict[str, Tensor]) -> Tensor:
    o = x - x.detach().median(1, keepdim=True).values
    o = o - o.mean(1, keepdim=True)
    y = o / (o.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
    return y * p["weight"][types.long()] + p["bias"][types.long()] if p else y


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_NAMES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("affine", [True, False])
def test_agrees_with_the_paper(affine: bool, name: str, dtype: torch.dtype, backend: str) -> None:
    case = next(case for case in awkward_cases(dtype) if case.name == name)
    assert case.batch is not None
    types, channels = case.batch, case.x.shape[1]
    wide = torch.promote_types(dtype, torch.float32)
    layer = HeteroLayerNorm(channels, case.batch_size, affine=affine, backend=backend, dtype=wide)
    randomize(layer)
    gain = 1.0
    if case.x.shape[0]:
        gain = 1.5 * float((case.x.double().var(1, unbiased=False).min() + 1e-5).rsqrt())
    agrees(
        layer,
        lambda layer, x: layer(x, types),
        lambda inputs, p: oracle(inputs[0], types, p),
        [case.x], length=max(channels, case.x.shape[0]), gain=gain,
    )  # fmt: skip


def test_gradcheck_and_gradgradcheck(backend: str) -> None:
    types = torch.tensor([1, 0, 1, 1, 0, 3, 1])
    layer = HeteroLayerNorm(3, 5, activation="silu", backend=backend, dtype=torch.float64)
    randomize(layer)
    x = normal(7, 3).requires_grad_()
    parameters = tuple(layer.parameters())

    def call(x: Tensor, *_: Tensor) -> Tensor:
        y: Tensor = layer(x, types)
        return y

    assert torch.autograd.gradcheck(call, (x, *parameters))
    assert torch.autograd.gradgradcheck(call, (x, *parameters))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("given", ["type_vec", "type_ptr", "list", "segments"])
def test_equals_pyg(given: str, affine: bool) -> None:
    theirs = import_pyg().HeteroLayerNorm(6, 4, affine=affine).double()
    ours = HeteroLayerNorm(6, 4, affine=affine, dtype=torch.float64)
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs) == "HeteroLayerNorm(6, num_types=4)"
    ways: dict[str, dict[str, Any]] = {
        "type_vec": {"type_vec": TYPES},
        "type_ptr": {"type_ptr": torch.tensor(OFFSETS)},
        "list": {"type_ptr": OFFSETS},
        "segments": {"type_vec": Segments.from_ptr(torch.tensor(OFFSETS))},
    }
    same = ways["list"] if given == "segments" else ways[given]
    results = []
    for layer, arguments in ((ours, ways[given]), (theirs, same)):
        x = (normal(40, 6) * 2 + 3).requires_grad_()
        y = layer(x, **arguments)
        y.backward(normal(40, 6, seed=1))
        results.append([y.detach(), x.grad, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


def test_large_mean_costs_no_digits() -> None:
    x = (normal(400, 64) + 1e4).float()
    types = torch.arange(400) % 4
    close(HeteroLayerNorm(64, 4)(x, types), oracle(x.double(), types, {}), 5e-6, "y")


def test_parameters_do_not_widen_the_result() -> None:
    """PyG's result of bfloat16 features is float32."""
    x = normal(40, 6).bfloat16()
    assert import_pyg().HeteroLayerNorm(6, 4)(x, TYPES).dtype == torch.float32
    assert HeteroLayerNorm(6, 4)(x, TYPES).dtype == torch.bfloat16


def test_mask_and_residual(backend: str) -> None:
    layer = HeteroLayerNorm(6, 4, activation="relu", backend=backend, dtype=torch.float64)
    randomize(layer)
    mask = torch.arange(40) % 3 != 0
    x, residual = normal(40, 6), normal(40, 6, seed=1)
    y = layer(x, TYPES, mask=mask, residual=residual)
    assert torch.equal(y[~mask], (x + residual)[~mask])
    torch.testing.assert_close(y[mask], layer(x[mask], TYPES[mask], residual=residual[mask]))


def test_bad_arguments() -> None:
    layer, x = HeteroLayerNorm(2, 3), torch.zeros(4, 2)
    for call, message in (
        (lambda: HeteroLayerNorm(2, 3, mode="graph"), "unknown mode 'graph'; .*node"),
        (lambda: HeteroLayerNorm(2, -1), "num_types is -1, expected a positive number"),
        (lambda: layer(x), "Either 'type_vec' or 'type_ptr' must be given"),
        (lambda: layer(x, torch.tensor([0, -1, 2, 0])), "type_vec has the negative id -1"),
        # PyG returns memory that it never wrote to here.
        (lambda: layer(x, type_ptr=[0, 1, 2, 3]), "ends with 3, expected the number of rows 4"),
    ):
        with pytest.raises(ValueError, match=message):
            call()  # type: ignore[no-untyped-call]
