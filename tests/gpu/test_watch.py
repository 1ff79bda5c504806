"""Watching a training on a GPU: no wait for the device, the same weights, the layer named."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import graphnorms as gn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def train(*, watched: bool, planted: bool) -> tuple[nn.Module, gn.Watch | None]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), gn.BatchNorm(8), nn.Linear(8, 8), nn.Linear(8, 1)).cuda()
    x, y = torch.randn(64, 8).cuda(), torch.randn(64, 1).cuda()
    last = list(model[2].parameters())
    others = [p for p in model.parameters() if all(p is not each for each in last)]
    optimizer = torch.optim.SGD([{"params": others}, {"params": last}], lr=1e-3)
    watch = gn.Watch(model) if watched else None
    for step in range(60):
        if planted and step == 40:
            optimizer.param_groups[1]["lr"] = 1e4
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        if watch is not None:
            torch.cuda.set_sync_debug_mode("error" if step > 2 else "default")
            try:
                watch.step(loss)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    return model, watch


def test_weights_are_the_same_and_the_device_is_not_waited_for() -> None:
    (plain, _), (watched, watch) = (train(watched=w, planted=False) for w in (False, True))
    both = zip(plain.state_dict().values(), watched.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in both)
    assert watch is not None
    assert watch.finish() is None
    assert [record.step for record in watch.records] == list(range(60))
    assert all(record.full for record in watch.records)


def test_the_layer_is_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gn.BlowUpWarning)
        _, watch = train(watched=True, planted=True)
        assert watch is not None
        found = watch.finish()
    assert found is not None
    assert (found.layer, found.how, found.first) == ("2", "update", 40)
