"""HeteroLayerNorm against PyG's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graphnorms.layers.hetero_layer_norm import HeteroLayerNorm
from graphnorms.segments import Segments
from tests.conformance.oracle import standardize
from tests.norms import close, import_pyg, normal, randomize

TYPES = (torch.arange(40) * 7) % 4
OFFSETS = [0, 10, 20, 30, 40]


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
    close(HeteroLayerNorm(64, 4)(x, types), standardize(x.double(), (1,)), 5e-6, "y")


def test_parameters_do_not_widen_the_result() -> None:
    """PyG's result of bfloat16 features is float32."""
    x = normal(40, 6).bfloat16()
    assert import_pyg().HeteroLayerNorm(6, 4)(x, TYPES).dtype == torch.float32
    assert HeteroLayerNorm(6, 4)(x, TYPES).dtype == torch.bfloat16


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
