"""`Watch` as a callback of Lightning."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import graphnorms as gn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch")

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning, about its Trainer and loaders


class Lit(pl.LightningModule):
    """Its second layer gets a far too large learning rate at step 10; trains without `forward`."""

    def __init__(self, *, planted: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
        self.planted = planted

    def training_step(self, batch, index):
        x, y = batch
        return (self.layers(x) - y).square().mean()

    def on_before_optimizer_step(self, optimizer):
        if self.planted and self.trainer.global_step == 10:
            optimizer.param_groups[1]["lr"] = 1e4

    def configure_optimizers(self):
        first, second, third = (layer.parameters() for layer in self.layers)
        others = [*first, *third]
        return torch.optim.SGD([{"params": others}, {"params": second}], lr=1e-3)


def fit(tmp_path, *callbacks, planted, **options):
    torch.manual_seed(0)
    module = Lit(planted=planted)
    items = [(torch.randn(4), torch.randn(4)) for _ in range(64)]
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **options,
    )
    trainer.fit(module, torch.utils.data.DataLoader(items, batch_size=4))
    return module


def test_the_layer_is_named_and_the_training_ends_if_asked(tmp_path) -> None:
    callback = gn.watch_callback(stop=True)
    with pytest.raises(gn.BlowUpError):
        fit(tmp_path, callback, planted=True)
    assert callback.blow_up is not None
    assert (callback.blow_up.layer, callback.blow_up.how) == ("layers.1", "update")
    assert callback.blow_up.first == 10


def test_weights_are_the_same_and_steps_are_those_of_the_optimizer(tmp_path) -> None:
    callback = gn.watch_callback(every=2)
    options = {"planted": False, "accumulate_grad_batches": 4}
    watched, plain = fit(tmp_path, callback, **options), fit(tmp_path, **options)
    both = zip(watched.state_dict().values(), plain.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in both)
    assert callback.watch.records[-1].step == 7
    assert callback.blow_up is None
    assert not any(module._forward_hooks for module in watched.modules())
