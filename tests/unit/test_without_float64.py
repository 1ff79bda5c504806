"""Scores, targets and probes of tensors on a device that has no float64: worked out on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from graphnorms.data import Task, random_graphs
from graphnorms.kernels import point
from graphnorms.probes.batch_noise import batch_noise
from graphnorms.probes.landscape import filter_direction
from graphnorms.training.class_scores import average_precision, roc_auc
from graphnorms.training.objective import Objective
from graphnorms.training.scores import score


class Elsewhere(Tensor):
    """A tensor on such a device: `cpu()` takes it to the host, and nothing makes it float64."""

    def cpu(self, *_: object, **__: object) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)

    def double(self, *_: object, **__: object) -> Tensor:  # type: ignore[override]
        raise TypeError("this device does not support float64")


def there(values: Tensor) -> Tensor:
    return values.as_subclass(Elsewhere)


@pytest.fixture(autouse=True)
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point, "WITHOUT_FLOAT64", ("cpu",))


def test_the_stand_in_refuses() -> None:
    with pytest.raises(TypeError, match="does not support float64"):
        there(torch.ones(2)).double()


def test_scores() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(50, 1), (torch.rand(50, 1) > 0.5).float()
    y, z = targets[:, 0].numpy(), outputs[:, 0].numpy()
    known = there(outputs[:, 0]), there(targets[:, 0]) > 0.5
    assert roc_auc(*known) == pytest.approx(roc_auc_score(y, z), rel=1e-12)
    assert average_precision(*known) == pytest.approx(average_precision_score(y, z), rel=1e-12)
    for metric, kind in (("roc_auc", "binary"), ("accuracy", "binary"), ("mae", "regression")):
        got = score(metric, kind, there(outputs), there(targets))
        assert got == score(metric, kind, outputs, targets)
    large = torch.tensor([[16777216.0], [float("nan")]])
    assert score("mae", "regression", there(large - 2), there(large)) == 2.0


def test_targets_of_a_regression() -> None:
    targets = 1e6 + torch.arange(6.0).view(6, 1)
    task = Task(kind="regression", targets=("energy",))
    objective = Objective.of(task, there(targets))
    assert objective.mean is not None
    assert objective.std is not None
    assert objective.mean.item() == 1000002.5
    assert objective.std.item() == pytest.approx(np.arange(6).std(), rel=1e-12)
    z = (targets.double() - 1000002.5) / objective.std
    judged = objective.judge("mae", there(z.float() + 1), there(z.float()))
    assert judged.score == pytest.approx(np.arange(6).std(), rel=1e-6)
    predictions = objective.predictions(there(torch.zeros(1, 1)))
    assert predictions.item() == 1000002.5


def test_targets_are_rounded_for_such_a_device_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point, "WITHOUT_FLOAT64", ("meta",))
    y = torch.tensor([[16777216.0], [16777217.0]], dtype=torch.float64)
    task = Task(kind="regression", targets=("energy",))
    far = random_graphs(2, 3).with_targets(y, task)
    assert torch.equal(far.y, y)
    assert far.to("meta").y.dtype == torch.float32
    monkeypatch.setattr(point, "WITHOUT_FLOAT64", ())
    assert far.to("meta").y.dtype == torch.float64


def test_probes() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 3) + 5
    parts = [x[:8], x[8:]]
    noise = batch_noise([there(part) for part in parts])
    wide = [part.double() for part in parts]
    var = x.double().var(0, unbiased=False)
    means = torch.stack([part.mean(0) for part in wide]) - x.double().mean(0)
    torch.testing.assert_close(noise.mean_ratio, means.square().mean(0) / var)


def test_directions_in_parameters() -> None:
    model = nn.Linear(4, 3)
    expected = filter_direction(model, 1)
    model.weight = nn.Parameter(there(model.weight.detach()))
    assert type(model.weight) is Elsewhere
    direction = filter_direction(model, 1)
    norms = [part["weight"].as_subclass(Tensor).norm(dim=1) for part in (direction, expected)]
    torch.testing.assert_close(*norms)
    torch.testing.assert_close(norms[0], model.weight.detach().cpu().norm(dim=1))
