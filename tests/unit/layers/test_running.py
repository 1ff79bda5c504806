"""Running statistics, where PyG's are wrong or torch has another contract."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

import graphnorms as gn
from tests.norms import import_pyg, normal


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


def _with_types(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    types = torch.zeros(x.shape[0], dtype=torch.long)
    y: torch.Tensor = layer(x, types) if isinstance(layer, gn.HeteroBatchNorm) else layer(x)
    return y


TRACKED = {
    "BatchNorm": lambda: gn.BatchNorm(3),
    "BatchNorm, inside": lambda: gn.BatchNorm(3),
    "InstanceNorm": lambda: gn.InstanceNorm(3, track_running_stats=True),
    "HeteroBatchNorm": lambda: gn.HeteroBatchNorm(3, 1),
    "DiffGroupNorm": lambda: gn.DiffGroupNorm(3, 1, lamda=1.0),
    "DiffGroupNorm, inside": lambda: gn.DiffGroupNorm(3, 1, lamda=1.0),
}


@pytest.mark.parametrize("name", TRACKED)
def test_averages_that_are_switched_off_stay(name: str) -> None:
    torch.manual_seed(0)
    norm = TRACKED[name]().double()
    x = torch.randn(20, 3, dtype=torch.float64) * 2 + 5
    _with_types(norm, x)
    before = [buffer.clone() for buffer in norm.buffers()]
    inside = next(iter(norm.children()), norm) if name == "BatchNorm, inside" else norm
    (norm.norm if name == "DiffGroupNorm, inside" else inside).track_running_stats = False
    y = _with_types(norm, x)
    assert all(map(torch.equal, norm.buffers(), before))
    by_batch = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
    shift = x if name.startswith("Diff") else 0
    torch.testing.assert_close(y, by_batch + shift)
    # In eval, torch's BatchNorm goes by the averages that are there; InstanceNorm and PyG's
    # HeteroBatchNorm by the batch.
    theirs = torch.nn.BatchNorm1d(3).double()
    theirs(x)
    theirs.track_running_stats = False
    expected = theirs.eval()(x) if name.startswith(("Batch", "Diff")) else by_batch
    torch.testing.assert_close(_with_types(norm.eval(), x), expected + shift)


@pytest.mark.parametrize("name", TRACKED)
def test_vmap_in_training_is_refused_in_one_line(name: str) -> None:
    norm = TRACKED[name]().double()
    before = [buffer.clone() for buffer in norm.buffers()]
    x = torch.randn(4, 20, 3, dtype=torch.float64)
    for call in (
        lambda x: _with_types(norm, x),
        lambda x: torch.func.grad(lambda x: _with_types(norm, x).sum())(x),
    ):
        with pytest.raises(ValueError, match=r"batches of a torch\.vmap") as found:
            torch.vmap(call)(x)
        assert "\n" not in str(found.value)
        assert all(map(torch.equal, norm.buffers(), before))
    # What the message advises.
    norm.eval()
    expected = torch.stack([_with_types(norm, one) for one in x])
    torch.testing.assert_close(torch.vmap(lambda x: _with_types(norm, x))(x), expected)
    norm.train()
    (norm if hasattr(norm, "track_running_stats") else norm.norm).track_running_stats = False
    expected = torch.stack([_with_types(norm, one) for one in x])
    torch.testing.assert_close(torch.vmap(lambda x: _with_types(norm, x))(x), expected)


def test_vmap_over_models_moves_the_averages_of_each() -> None:
    norms = [gn.BatchNorm(3, dtype=torch.float64) for _ in range(2)]
    parameters, buffers = torch.func.stack_module_state(norms)
    x = torch.randn(2, 20, 3, dtype=torch.float64)

    def call(parameters: object, buffers: object, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.func.functional_call(norms[0], (parameters, buffers), x)
        return y

    torch.vmap(call)(parameters, buffers, x)
    torch.testing.assert_close(buffers["module.running_mean"], 0.1 * x.mean(1))
    assert buffers["module.num_batches_tracked"].tolist() == [1, 1]


def test_replacement_by_functorch_is_followed() -> None:
    norm = gn.BatchNorm(3, dtype=torch.float64)
    torch.func.replace_all_batch_norm_modules_(norm)
    x = torch.randn(4, 20, 3, dtype=torch.float64)
    expected = (x - x.mean(1, True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(torch.vmap(norm)(x), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gn.BatchNorm(3),
        lambda: gn.InstanceNorm(3, track_running_stats=True),
        lambda: gn.HeteroBatchNorm(3, 2),
        lambda: gn.PowerNorm(3),
        lambda: gn.DiffGroupNorm(3, 2),
        lambda: gn.UnitedNorm(3),
        lambda: gn.SuperNorm(3),
    ],
)
def test_checkpoints_without_counters_load(make: Callable[[], torch.nn.Module]) -> None:
    """As torch's norms load them: files that have no versions, or those of old ones."""
    norm, saved = make(), make()
    with torch.no_grad():
        for buffer in saved.buffers():
            buffer.add_(2)
    plain = {key: value for key, value in saved.state_dict().items() if "num_batches" not in key}
    assert len(plain) < len(saved.state_dict())
    norm.load_state_dict(plain)
    assert all(torch.equal(value, norm.state_dict()[key]) for key, value in plain.items())
    counters = [v for key, v in norm.state_dict().items() if key.endswith("num_batches_tracked")]
    assert [counter.item() for counter in counters] == [0]
    # A file that says that it is a new one has lost something.
    state = saved.state_dict()
    for key in set(state) - set(plain):
        del state[key]
    with pytest.raises(RuntimeError, match=r"Missing key.*num_batches_tracked"):
        norm.load_state_dict(state)
    # Averages have no such excuse.
    with pytest.raises(RuntimeError, match=r"Missing key.*running_"):
        norm.load_state_dict({key: v for key, v in plain.items() if "running_" not in key})


def test_pyg_and_ours_load_the_same_old_instance_norm() -> None:
    theirs = import_pyg().InstanceNorm(3, affine=True, track_running_stats=True)
    state = {k: v + 1 for k, v in theirs.state_dict().items() if k != "num_batches_tracked"}
    norm = gn.InstanceNorm(3, affine=True, track_running_stats=True)
    for layer in (theirs, norm):
        layer.load_state_dict(state)
    torch.testing.assert_close(dict(norm.state_dict()), dict(theirs.state_dict()))


def test_hetero_batch_norm_can_turn_to_the_plain_average() -> None:
    """Its batches are counted for each type from the beginning."""
    norm = gn.HeteroBatchNorm(1, 2, momentum=0.5, dtype=torch.float64)
    types = torch.tensor([0, 0, 1, 1])
    norm(torch.tensor([[0.0], [2.0], [4.0], [6.0]], dtype=torch.float64), types)
    assert norm.running_mean is not None
    assert norm.running_mean.flatten().tolist() == [0.5, 2.5]
    norm.momentum = None
    norm(torch.tensor([[1.5], [3.5]], dtype=torch.float64), types[:2])
    assert norm.running_mean.flatten().tolist() == [(0.5 + 2.5) / 2, 2.5]


def test_a_variance_beyond_float32_stays_infinite() -> None:
    """As torch's: not NaN, which one more batch would make of `r + m (v - r)`."""
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)) * 1e20
    ours, theirs = gn.BatchNorm(4), torch.nn.BatchNorm1d(4)
    counted = gn.BatchNorm(4, momentum=None)
    for _ in range(3):
        for norm in (ours, theirs, counted):
            norm(x)
    torch.testing.assert_close(ours.module.running_mean, theirs.running_mean)
    for norm in (theirs, ours.module, counted.module):
        assert torch.equal(norm.running_var, torch.full((4,), torch.inf))


@pytest.mark.parametrize("kind", [gn.BatchNorm, gn.InstanceNorm])
def test_evaluation_does_not_count_masked_rows(kind: type[torch.nn.Module]) -> None:
    layer = kind(21, track_running_stats=True)
    x, batch = normal(60, 21, dtype=torch.float32), torch.arange(60) // 15
    mask = torch.arange(60) % 3 != 0
    layer(x, batch, 4, mask=mask)
    layer.eval()
    y = layer(x, batch, 4, mask=mask)
    assert torch.equal(y[~mask], x[~mask])
    assert torch.equal(y[mask], layer(x[mask], batch[mask], 4))
