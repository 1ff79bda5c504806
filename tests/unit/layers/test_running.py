"""Running statistics, where PyG's are wrong or torch has another contract."""

from __future__ import annotations

import copy

import pytest
import torch

import graphnorms as gn


def test_batch_norm_of_no_rows_changes_nothing() -> None:
    norm = gn.BatchNorm(3)
    assert norm(torch.zeros(0, 3)).shape == (0, 3)
    assert norm.module.num_batches_tracked == 0
    assert norm.module.running_mean.tolist() == [0, 0, 0]


def test_instance_norm_keeps_no_graph_and_moves_its_counter() -> None:
    norm = gn.InstanceNorm(3, track_running_stats=True)
    x = torch.randn(6, 3, requires_grad=True)
    norm(x, torch.tensor([0, 0, 0, 1, 1, 1])).sum().backward()
    assert norm.running_mean is not None
    assert not norm.running_mean.requires_grad
    assert norm.num_batches_tracked == 1
    copy.deepcopy(norm)
    norm.eval()
    for _ in range(2):
        norm(x).sum().backward()


def test_instance_norm_weighs_graphs_by_their_nodes() -> None:
    norm = gn.InstanceNorm(1, track_running_stats=True, momentum=1.0, dtype=torch.float64)
    x = torch.tensor([[1.0], [3.0], [5.0], [10.0]], dtype=torch.float64)
    norm(x, torch.tensor([0, 0, 0, 2]), 4)  # graphs 1 and 3 are empty
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.running_mean.item() == pytest.approx(19 / 4)
    assert norm.running_var.item() == pytest.approx(8 / 2)  # 8 = 4 + 0 + 4, two degrees of freedom


@pytest.mark.parametrize("kind", [gn.BatchNorm, gn.InstanceNorm])
def test_momentum_none_is_the_plain_average(kind: type[torch.nn.Module]) -> None:
    arguments = {"track_running_stats": True, "momentum": None}
    norm = kind(2, **arguments)
    theirs = torch.nn.BatchNorm1d(2, momentum=None)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        x = torch.randn(20, 2, generator=generator)
        norm(x)
        theirs(x)
    own = norm.module if kind is gn.BatchNorm else norm
    assert torch.allclose(own.running_mean, theirs.running_mean, atol=1e-6)
    assert torch.allclose(own.running_var, theirs.running_var, atol=1e-6)


def test_running_statistics_of_a_large_mean_are_exact() -> None:
    norm = gn.BatchNorm(4, momentum=1.0)
    x = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)) + 1e4
    norm(x)
    exact = x.double().var(0)
    assert (norm.module.running_var.double() / exact - 1).abs().max() < 1e-6
    y = norm.eval()(x)
    mean = norm.module.running_mean.double()
    want = (x.double() - mean) / (norm.module.running_var.double() + 1e-5).sqrt()
    assert (y.double() - want).abs().max() < 5e-6


@pytest.mark.parametrize("norm", [gn.BatchNorm(3), gn.InstanceNorm(3, track_running_stats=True)])
def test_eval_applies_relu_and_keeps_the_dtype(norm: torch.nn.Module) -> None:
    norm = copy.deepcopy(norm).eval()
    norm.activation = "relu"
    y = norm(torch.randn(5, 3, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert (y >= 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gn.GraphNorm(0), "in_channels is 0, expected a positive number"),
        (lambda: gn.GraphNorm(4, eps=0.0), r"eps is 0\.0, expected a positive number"),
        (lambda: gn.BatchNorm(4, eps=-1.0), r"eps is -1\.0"),
        (lambda: gn.LayerNorm(4, mode="grph"), "unknown mode 'grph'; did you mean graph"),
        (lambda: gn.InstanceNorm(4, momentum=2.0), r"momentum is 2\.0"),
        (
            lambda: gn.GraphNorm(4, activation="relo"),
            "unknown activation 'relo'; did you",
        ),
        (lambda: gn.GraphNorm(4, backend="gpu")(torch.zeros(2, 4)), "unknown backend 'gpu'"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
