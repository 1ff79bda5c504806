"""HeteroBatchNorm against torch's BatchNorm, and where PyG's is wrong."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from graphnorms.layers.hetero_batch_norm import HeteroBatchNorm
from graphnorms.segments import Segments
from tests.conformance.oracle import hetero_batch_norm, per_graph, rows_of, standardize
from tests.norms import close, import_pyg, normal, randomize

TYPES = (torch.arange(40) * 7) % 4
SORTED = TYPES.sort().values
OFFSETS = [0, 10, 20, 30, 40]


@pytest.mark.parametrize("arguments", [{}, {"affine": False}, {"momentum": None}])
@pytest.mark.parametrize("training", [True, False])
def test_is_batch_norm_of_each_type(arguments: dict[str, Any], training: bool) -> None:
    ours = HeteroBatchNorm(6, 4, **arguments, dtype=torch.float64)
    randomize(ours)
    theirs = [torch.nn.BatchNorm1d(6, **arguments, dtype=torch.float64) for _ in range(4)]
    if ours.weight is not None and ours.bias is not None:
        for kind, norm in enumerate(theirs):
            norm.weight.data.copy_(ours.weight[kind])
            norm.bias.data.copy_(ours.bias[kind])
    for step in range(3):
        for layer in (ours, *theirs):
            layer.train(training or step < 2)
        x = (normal(40, 6, seed=step) * 2 + 3).requires_grad_()
        y = ours(x, TYPES)
        expected = torch.empty_like(y)
        for kind, norm in enumerate(theirs):
            expected[kind == TYPES] = norm(x[kind == TYPES])
        torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
        cotangent = normal(40, 6, seed=8)
        got, right = (torch.autograd.grad(z, x, cotangent)[0] for z in (y, expected))
        torch.testing.assert_close(got, right, rtol=1e-10, atol=1e-11)
    for name in ("running_mean", "running_var"):
        stacked = torch.stack([getattr(norm, name) for norm in theirs])
        torch.testing.assert_close(getattr(ours, name), stacked, rtol=1e-12, atol=1e-12)
    assert ours.num_batches_tracked == theirs[0].num_batches_tracked


def test_forward_equals_pyg_but_for_its_clamp() -> None:
    theirs = import_pyg().HeteroBatchNorm(6, 4, eps=1e-12).double()
    ours = HeteroBatchNorm(6, 4, eps=1e-12, dtype=torch.float64)
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = normal(40, 6)
    torch.testing.assert_close(ours(x, TYPES), theirs(x, TYPES), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    theirs.load_state_dict(ours.state_dict())
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(x, TYPES), theirs(x, TYPES), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("arguments", [{}, {"affine": False}, {"track_running_stats": False}])
def test_names_are_pygs(arguments: dict[str, Any]) -> None:
    theirs = import_pyg().HeteroBatchNorm(6, 4, **arguments)
    ours = HeteroBatchNorm(6, 4, **arguments)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    shapes = [[value.shape for value in layer.state_dict().values()] for layer in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert repr(ours) == repr(theirs) == "HeteroBatchNorm(6, num_types=4)"
    assert list(HeteroBatchNorm(6, 4, momentum=None).state_dict()) == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]


def test_gradient_goes_through_the_statistics() -> None:
    """A shift of a type changes nothing, so the gradient sums to 0: not so PyG's."""
    sums = []
    for layer in (HeteroBatchNorm(6, 4), import_pyg().HeteroBatchNorm(6, 4)):
        x = normal(40, 6).float().requires_grad_()
        (grad,) = torch.autograd.grad(layer(x, TYPES), x, normal(40, 6, seed=1).float())
        sums.append(float(grad[TYPES == 2].sum(0).abs().max()))
    assert sums[0] < 1e-5
    assert sums[1] > 1


def test_large_mean_costs_no_digits() -> None:
    """At mean 1e4 PyG's variance is what rounding leaves, and its output is out of all scale."""
    x = (normal(400, 6) + 1e4).float()
    types = torch.arange(400) % 4
    assert import_pyg().HeteroBatchNorm(6, 4)(x, types).std() > 10
    ours = HeteroBatchNorm(6, 4, momentum=1.0)
    close(ours(x, types), hetero_batch_norm(x.double(), rows_of(types, 4, 400), {}, {}), 5e-6, "y")
    exact = x[types == 1].double().var(0)
    assert ours.running_var is not None
    assert ours.running_mean is not None
    assert (ours.running_var[1].double() / exact - 1).abs().max() < 1e-6
    want = (x.double() - ours.running_mean[types]) / (ours.running_var[types] + 1e-5).sqrt()
    close(ours.eval()(x, types), want.detach(), 5e-6, "y by running averages")


def test_eps_is_added() -> None:
    """PyG leaves eps out where the variance is larger, and a constant channel divides by it."""
    x = normal(40, 6) * 0.1
    exact = per_graph(x, rows_of(TYPES, 4, 40), lambda g, _: standardize(g, (0,), 0.01))
    theirs = import_pyg().HeteroBatchNorm(6, 4, eps=0.01).double()
    assert (theirs(x, TYPES) - exact).abs().max() > 0.1
    close(HeteroBatchNorm(6, 4, eps=0.01)(x, TYPES), exact, 1e-13, "y")


def test_running_variance_is_unbiased_and_the_counter_moves() -> None:
    x = normal(40, 6)
    ours, theirs = HeteroBatchNorm(6, 4, momentum=1.0), import_pyg().HeteroBatchNorm(6, 4)
    theirs.momentum = 1.0
    ours, theirs = ours.double(), theirs.double()
    ours(x, TYPES)
    theirs(x, TYPES)
    unbiased = torch.stack([x[kind == TYPES].var(0) for kind in range(4)])
    torch.testing.assert_close(theirs.running_var, unbiased * 0.9)
    torch.testing.assert_close(ours.running_var, unbiased)
    assert theirs.num_batches_tracked == 0
    assert ours.num_batches_tracked == 1


@pytest.mark.parametrize("momentum", [0.25, None])
def test_rare_types(momentum: float | None) -> None:
    """One row moves the mean only, PyG's takes its variance of 0; no row moves nothing."""
    layer = HeteroBatchNorm(3, 3, momentum=momentum, dtype=torch.float64)
    theirs = import_pyg().HeteroBatchNorm(3, 3, momentum=0.25).double()
    randomize(layer)
    x, types = normal(6, 3), torch.tensor([0, 0, 1, 0, 0, 0])
    y = layer(x, types)
    theirs(x, types)
    assert layer.bias is not None
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert torch.equal(y[2], layer.bias[1])
    share = 1.0 if momentum is None else momentum
    torch.testing.assert_close(layer.running_mean[1], x[2] * share)
    assert layer.running_var[1].tolist() == [1, 1, 1]
    assert theirs.running_var[1].tolist() == [0.75, 0.75, 0.75]
    assert layer.running_mean[2].tolist() == [0, 0, 0]
    assert layer.running_var[2].tolist() == [1, 1, 1]

    # A type that is first seen later starts with what it has seen, not with 0 and 1.
    x, types = normal(4, 3, seed=1), torch.tensor([2, 2, 2, 1])
    layer(x, types)
    torch.testing.assert_close(layer.running_mean[2], x[:3].mean(0) * share)
    torch.testing.assert_close(layer.running_var[2], x[:3].var(0) * share + 1 - share)
    assert layer.num_batches_tracked == 2
    layer(x[:0], types[:0])
    assert layer.num_batches_tracked == 2


def test_cumulative_average_goes_on_from_a_checkpoint() -> None:
    layer, whole = (HeteroBatchNorm(3, 2, momentum=None) for _ in range(2))
    types = torch.arange(20) % 2
    batches = [normal(20, 3, seed=seed).float() for seed in range(4)]
    for x in batches:
        whole(x, types)
    for x in batches[:2]:
        layer(x, types)
    resumed = HeteroBatchNorm(3, 2, momentum=None)
    resumed.load_state_dict(layer.state_dict())
    for x in batches[2:]:
        resumed(x, types)
    torch.testing.assert_close(resumed.running_mean, whole.running_mean)
    torch.testing.assert_close(resumed.running_var, whole.running_var)
    resumed.reset_parameters()
    assert resumed.batches_of_type is not None
    assert resumed.batches_of_type.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    "given",
    [
        {"type_vec": SORTED},
        {"type_vec": SORTED.int()},
        {"type_ptr": OFFSETS},
        {"type_ptr": torch.tensor(OFFSETS)},
        {"type_vec": Segments.from_batch(SORTED, 4)},
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_ways_to_give_types(given: dict[str, Any], training: bool) -> None:
    layer = HeteroBatchNorm(6, 4)
    randomize(layer)
    layer(normal(40, 6).float() + 2, SORTED)
    twin = copy.deepcopy(layer).train(training)
    layer.train(training)
    x = normal(40, 6, seed=1).float()
    torch.testing.assert_close(layer(x, **given), twin(x, SORTED), rtol=0, atol=0)
    torch.testing.assert_close(layer.running_var, twin.running_var, rtol=0, atol=0)


def test_evaluation_is_masked_and_finished() -> None:
    layer = HeteroBatchNorm(6, 4, activation="relu")
    layer(normal(40, 6).float() * 2, TYPES)
    layer.eval()
    mask = torch.arange(40) % 3 != 0
    x = normal(40, 6, seed=1).bfloat16()
    y = layer(x, TYPES, mask=mask, residual=x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y[~mask], (x + x)[~mask])
    assert torch.equal(y[mask], layer(x[mask], TYPES[mask], residual=x[mask]))


def test_bad_arguments() -> None:
    layer, x = HeteroBatchNorm(2, 3), torch.zeros(4, 2)
    for call, message in (
        (lambda: HeteroBatchNorm(2, 0), "num_types is 0, expected a positive number"),
        (lambda: HeteroBatchNorm(0, 2), "in_channels is 0"),
        (lambda: HeteroBatchNorm(2, 2, momentum=-1.0), r"momentum is -1\.0"),
        (lambda: layer(x), "Either 'type_vec' or 'type_ptr' must be given"),
        (lambda: layer(x, torch.tensor([0, 1, 3, 0])), "type_vec has the id 3, but num_types is 3"),
        (lambda: layer(x, torch.tensor([0, 1])), "type_vec assigns 2 rows, but x has 4"),
        (lambda: layer(x, torch.zeros(4)), "type_vec is .*float32, expected a vector of integers"),
        (lambda: layer(x, Segments.single(4)), "num_types is 3, but the Segments given has 1"),
        (lambda: layer(x, type_ptr=[0, 2, 4]), r"type_ptr is \(3,\), expected num_types \+ 1"),
        (lambda: layer(x, type_ptr=[0, 2, 3, 3]), "ends with 3, expected the number of rows 4"),
    ):
        with pytest.raises(ValueError, match=message):
            call()  # type: ignore[no-untyped-call]
