"""DiffGroupNorm against PyG's, and where that loses digits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from graphnorms.layers.diff_group_norm import DiffGroupNorm
from tests.conformance.oracle import diff_group_norm
from tests.norms import close, import_pyg, normal


def randomize(layer: torch.nn.Module) -> None:
    """As the other layers', but for an assignment that is neither flat nor one-hot."""
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            values = normal(*parameter.shape, seed=seed + 10)
            if parameter.dim() == 1:
                parameter.copy_(1 + 0.2 * values)
            else:
                parameter.copy_(values / parameter.shape[1] ** 0.5)


ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"affine": False},
    {"momentum": None},
    {"track_running_stats": False},
    {"lamda": 0.6, "eps": 0.1},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("training", [True, False])
def test_equals_pyg(arguments: dict[str, Any], training: bool) -> None:
    theirs = import_pyg().DiffGroupNorm(6, 3, **arguments).double()
    ours = DiffGroupNorm(6, 3, **arguments, dtype=torch.float64)
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs) == "DiffGroupNorm(6, groups=3)"
    for step in range(3):
        results = []
        for layer in (ours, theirs):
            layer.train(training or step < 2)
            x = (normal(40, 6, seed=step) * 2 + 1).requires_grad_()
            y = layer(x)
            grads = torch.autograd.grad(y, [x, *layer.parameters()], normal(40, 6, seed=9))
            results.append([y.detach(), *grads, *(b.clone() for b in layer.buffers())])
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("lamda", [0.01, 1.0])
def test_large_mean_costs_no_digits(lamda: float) -> None:
    """Relative to the result, which holds x; and the normalized groups by themselves."""
    x = (normal(3000, 8) + 1e4).float()
    layer = DiffGroupNorm(8, 4, lamda=lamda)
    # Columns that sum to the same: a large mean then favours no group.
    weight = normal(4, 8, seed=3)
    layer.lin.weight.data.copy_(0.1 * (weight - weight.mean(1, keepdim=True)))
    parameters = {name: value.detach().double() for name, value in layer.named_parameters()}
    exact = diff_group_norm(lamda)(x.double(), [], parameters, {})
    close(layer(x), exact, 5e-6, "y")
    groups = layer._by_batch(x, None)
    exact_groups = (exact - x.double()) / lamda
    close(groups, exact_groups, 2e-4, "the sum of the groups")
    theirs = import_pyg().DiffGroupNorm(8, 4, lamda=lamda)
    theirs.load_state_dict(layer.state_dict())
    pygs = (theirs(x).double() - x.double()) / lamda
    assert (pygs - exact_groups).abs().max() > 10 * (groups.double() - exact_groups).abs().max()


def test_half_precision_and_autocast() -> None:
    layer = DiffGroupNorm(6, 3, lamda=0.5)
    randomize(layer)
    x = normal(40, 6).float()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), expected)
        assert layer(x.bfloat16()).dtype == torch.bfloat16
        # PyG assigns in the half precision of its product.
        theirs = import_pyg().DiffGroupNorm(6, 3, lamda=0.5)
        theirs.load_state_dict(layer.state_dict())
        assert (theirs(x) - expected).abs().max() > 1e-4
    wide = (normal(300, 6) * 300).half()
    assert torch.isfinite(layer(wide)).all()


def test_nothing_of_size_rows_by_groups_by_channels() -> None:
    """No tensor that autograd keeps is larger than x, where PyG keeps products of all groups."""
    rows, channels, groups = 200, 8, 16
    largest = []
    for layer in (DiffGroupNorm(channels, groups), import_pyg().DiffGroupNorm(channels, groups)):
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(normal(rows, channels).float().requires_grad_())
        largest.append(max(sizes))
    assert largest[0] <= rows * 2 * max(channels, groups)
    assert largest[1] == rows * groups * channels


def test_few_rows() -> None:
    """One row has its deviation 0, where PyG raises; none change nothing."""
    layer = DiffGroupNorm(6, 3, lamda=0.5, dtype=torch.float64)
    randomize(layer)
    before = [buffer.clone() for buffer in layer.buffers()]
    nothing = torch.zeros(4, dtype=torch.bool)
    for y in (layer(normal(0, 6)), layer(normal(4, 6), mask=nothing)):
        assert all(map(torch.equal, layer.buffers(), before))
        grads = torch.autograd.grad(y.sum(), list(layer.parameters()))
        assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads)
    x = normal(1, 6)
    with pytest.raises(ValueError, match="Expected more than 1 value"):
        import_pyg().DiffGroupNorm(6, 3).double()(x)
    mask = torch.tensor([True, False, False])
    shift = layer.norm.bias.view(3, 6).sum(0)
    torch.testing.assert_close(layer(x), x + 0.5 * shift)
    torch.testing.assert_close(layer(x.expand(3, 6), mask=mask)[:1], x + 0.5 * shift)
    assert layer.norm.num_batches_tracked == 2
    assert torch.equal(layer.norm.running_var, torch.ones(18, dtype=torch.float64))
    assert layer.norm.running_mean.abs().max() > 0


def distance_ratio(x: Tensor, y: Tensor) -> float:
    classes = [x[y == label] for label in range(int(y.max()) + 1) if (y == label).any()]

    def mean_distance(a: Tensor, b: Tensor) -> float:
        return sum(float((u - v).norm()) for u in a for v in b) / (len(a) * len(b))

    c = len(classes)
    between = sum(
        mean_distance(classes[i], classes[j]) for i in range(c) for j in range(c) if i != j
    )
    within = sum(mean_distance(a, a) for a in classes)
    return between / (c - 1) ** 2 / (within / c + 1e-5)


def test_group_distance_ratio() -> None:
    theirs = import_pyg().DiffGroupNorm.group_distance_ratio
    ours = DiffGroupNorm.group_distance_ratio
    x, y = normal(12, 4), torch.tensor([0, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1])
    assert ours(x, y) == pytest.approx(distance_ratio(x, y), rel=1e-12)
    assert ours(x, y) == pytest.approx(theirs(x, y), rel=1e-12)
    # With more classes PyG departs from the formula that it states.
    y = torch.tensor([0, 1, 2, 1, 2, 1, 2, 0, 1, 2, 2, 2])
    assert ours(x, y) == pytest.approx(distance_ratio(x, y), rel=1e-12)
    assert theirs(x, y) != pytest.approx(distance_ratio(x, y), rel=0.1)
    # It divides by 0 for a class without a node, and large means cost it all its digits.
    with pytest.raises(ZeroDivisionError):
        theirs(x, y * 2)
    assert ours(x, y * 2) == ours(x, y)
    far, y = (normal(60, 4) + 1e4).float(), torch.arange(60) % 2
    exact = distance_ratio(far.double(), y)
    assert abs(ours(far, y) - exact) < 1e-5
    assert abs(theirs(far, y) - exact) > 1e-4


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="groups is 0, expected a positive number"):
        DiffGroupNorm(4, 0)
    with pytest.raises(ValueError, match=r"eps is 0\.0"):
        DiffGroupNorm(4, 2, eps=0.0)
    with pytest.raises(ValueError, match=r"momentum is 3\.0"):
        DiffGroupNorm(4, 2, momentum=3.0)
    layer = DiffGroupNorm(4, 2)
    with pytest.raises(ValueError, match=r"x has shape \(3, 5\), expected \(nodes, 4\)"):
        layer(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"mask is \(2,\)"):
        layer(torch.zeros(3, 4), mask=torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="y has 1 classes, expected at least two"):
        DiffGroupNorm.group_distance_ratio(torch.zeros(3, 4), torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"y is \(2,\), expected one class per row, \(3,\)"):
        DiffGroupNorm.group_distance_ratio(torch.zeros(3, 4), torch.zeros(2).long())
    layer.reset_parameters()
    assert layer.norm.weight.tolist() == [1] * 8


@pytest.mark.parametrize("size", [1e8, 1e12, 1e20, 1e30])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_large_features(size: float, mean: float) -> None:
    """Their squares are beyond float32; the groups are as exact as elsewhere."""
    x = ((normal(40, 6) + mean) * size).float()
    layer = DiffGroupNorm(6, 3, lamda=0.5)
    weight = normal(3, 6, seed=3)  # so small that no node belongs to one group alone
    layer.lin.weight.data.copy_((weight - weight.mean(1, keepdim=True)) / size)
    leaf = x.clone().requires_grad_()
    groups = layer._sum_of_groups(leaf, None)
    # The same numbers in a unit in which float64 can tell the groups from x; eps is then nothing.
    scaled = (x.double() / size).requires_grad_()
    weights = {name: value.detach().double() for name, value in layer.named_parameters()}
    weights["lin.weight"] = weights["lin.weight"] * size
    standard = diff_group_norm(1.0, 0.0)(scaled, [], weights, {}) - scaled
    close(groups, standard.detach(), 2e-5, "the sum of the groups")
    cotangent = normal(40, 6, seed=5)
    (grad,) = torch.autograd.grad(groups, leaf, cotangent.float())
    (exact_grad,) = torch.autograd.grad(standard, scaled, cotangent)
    close(grad.double() * size, exact_grad, 1e-4, "the gradient")
    theirs = import_pyg().DiffGroupNorm(6, 3, lamda=0.5)
    theirs.load_state_dict(layer.state_dict())
    for _ in range(2):
        y = layer(x)
        assert torch.isfinite(theirs(x)).all()
        torch.testing.assert_close(y, x, rtol=1e-6, atol=0)  # the groups are below its rounding
    assert all(torch.isfinite(buffer).all() for buffer in layer.buffers())
    torch.testing.assert_close(layer.eval()(x), x, rtol=1e-6, atol=0)


def test_a_large_channel_beside_others() -> None:
    x = normal(40, 6).float()
    layer = DiffGroupNorm(6, 3, lamda=0.5)
    layer.lin.weight.data[:, 2] = 0
    expected = layer(x)
    x[:, 2] *= 1e20
    y = layer(x)
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(y[:, others], expected[:, others], rtol=1e-6, atol=1e-6)
    x[:, 2] = 1e20  # constant
    assert torch.isfinite(layer(x)).all()
    layer(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)
