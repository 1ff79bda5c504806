"""Comparisons of LightningModules, trained by a Trainer of Lightning."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from graphnorms.data import load_dataset
from graphnorms.lab.compare import compare, prepare
from graphnorms.lab.options import Options
from graphnorms.models import ModelFactory
from graphnorms.training.lightning_trial import makes_lightning, package_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch")
    from torch_geometric.nn import GraphConv, global_mean_pool

ROOT = Path(__file__).parents[2]
SMALL = {"norms": "none,graph", "folds": 2, "workers": 1, "epochs": 2}
pytestmark = [
    pytest.mark.usefixtures("stub_page", "in_this_process"),
    pytest.mark.filterwarnings("ignore"),  # of Lightning, about its Trainer and loaders
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)


class Lit(pl.LightningModule):
    """It knows nothing of graphnorms: its norms are replaced, but not the one of graphs."""

    logged = ("loss", "accuracy")
    monitor: str | None = None

    def __init__(self, in_channels, out_channels, hidden=8):
        super().__init__()
        self.conv = GraphConv(in_channels, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.of_graphs = nn.BatchNorm1d(hidden)
        self.head = nn.Linear(hidden, out_channels)

    def forward(self, x, edge_index, batch):
        x = self.norm(self.conv(x, edge_index)).relu()
        return self.head(self.of_graphs(global_mean_pool(x, batch)))

    def training_step(self, data, index):
        return nn.functional.cross_entropy(self(data.x, data.edge_index, data.batch), data.y)

    def _log(self, part, data):
        logits = self(data.x, data.edge_index, data.batch)
        loss = nn.functional.cross_entropy(logits, data.y)
        right = (logits.argmax(1) == data.y).float().mean()
        values = {"loss": loss, "accuracy": right, "f": right, "g": right}
        for name in self.logged:
            self.log(f"{part}_{name}", values[name], batch_size=data.num_graphs)

    def validation_step(self, data, index):
        self._log("val", data)

    def test_step(self, data, index):
        self._log("test", data)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        if self.monitor is None:
            return optimizer
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min")
        watched = {"scheduler": scheduler, "monitor": self.monitor}
        return {"optimizer": optimizer, "lr_scheduler": watched}


class Watching(Lit):
    monitor = "val_loss"


class Two(Lit):
    logged = ("loss", "f", "g")


class Mute(Lit):
    logged = ()


class Untested(Lit):
    def test_step(self, data, index):
        self.log("something", 1.0)


class Needing(Lit):
    def __init__(self, in_channels, out_channels, gamma):
        super().__init__(in_channels, out_channels)


def annotated() -> Lit:
    return Lit(7, 2)


def with_data() -> tuple[Lit, list[int]]:
    return Lit(7, 2), []


def plain(in_channels, out_channels):
    return Lit(in_channels, out_channels)


@pytest.fixture(scope="module")
def graphs():
    return load_dataset("MUTAG", edge_features="none")


def test_what_makes_a_lightning_module_is_known_before_it_is_called() -> None:
    assert [makes_lightning(each) for each in (Lit, annotated, with_data)] == [True] * 3
    assert [makes_lightning(each) for each in (nn.Linear, plain)] == [False] * 2
    assert package_of(Lit) == "lightning.pytorch"
    assert ModelFactory.of(Lit).name == "Lit"


def test_a_lightning_module_is_trained_by_its_own_steps(graphs) -> None:
    comparison = compare(graphs, model=Lit, **SMALL)
    assert [record.reason for record in comparison.records] == [""] * 4
    assert comparison.settings.metric == "val_accuracy:max"
    assert comparison.command.startswith("graphnorms.compare(dataset")
    assert "model=Lit" in comparison.command
    assert "trial=" not in comparison.command
    record = comparison.records[0]
    scores = record.history["validation_score"]
    assert scores == record.history["val_accuracy"]
    assert record.outcome["validation_score"] == max(scores)
    assert record.outcome["epoch"] == scores.index(max(scores)) + 1
    assert 0 <= record.outcome["test_score"] <= 1
    starts = comparison.verdict.starts
    assert starts is not None
    assert (starts.weights.equal, starts.order.equal, starts.order.groups) == (2, 2, 2)
    parameters = {r.config["norm"]: r.counts["parameters"] for r in comparison.records}
    assert parameters["graph"] - parameters["none"] == 3 * 8  # of nodes alone


@pytest.mark.parametrize(
    ("model", "metric", "expected"),
    [
        (Watching, None, "val_loss:min"),
        (Lit, "val_loss", "val_loss:min"),
        (Lit, "loss", "val_loss:min"),
        (Two, "f:max", "f:max"),
        (Mute, "val_x:max", "val_x:max"),
    ],
)
def test_what_is_monitored_is_the_score(graphs, model, metric, expected) -> None:
    plan, _ = prepare(graphs, Options(model=model, metric=metric))
    assert plan.settings.metric == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"model": Two}, "monitors nothing and logs val_f, val_g; choose one with --metric"),
        ({"model": Two, "metric": "val_g"}, "choose --metric val_g:max or val_g:min"),
        ({"model": Mute}, "monitors nothing and logs nothing"),
        ({"model": Lit, "metric": "val_f1"}, "logs no 'val_f1' .*it logs val_loss, val_accuracy"),
        ({"model": Needing}, "has the argument 'gamma', expected some of norm, norm_name"),
        ({"model": Lit, "optimizer": "adamw"}, "trains itself; leave it out"),
        ({"model": Lit, "learning_rate": 0.1}, "takes no learning_rate"),
        ({"model": plain}, "expected one that is annotated"),
    ],
)
def test_what_is_not_possible_is_told_in_one_line(graphs, options, expected) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        prepare(graphs, Options(**options))
    assert "\n" not in str(caught.value)


def test_a_value_that_is_not_logged_for_the_test_part_fails_the_trial(graphs) -> None:
    comparison = compare(graphs, model=Untested, **SMALL)
    assert {record.status for record in comparison.records} == {"failed"}
    assert "logs no test_accuracy in test_step; it logs something" in comparison.records[0].reason


def test_the_example_with_its_data_module_is_compared(graphs) -> None:
    comparison = compare(
        graphs, model="examples.lightning_model:make", learning_rate=0.01, batch_size=32, **SMALL
    )
    assert [record.reason for record in comparison.records] == [""] * 4
    assert "--model examples.lightning_model:make" in str(comparison.command) or (
        "model='examples.lightning_model:make'" in comparison.command
    )
    starts = comparison.verdict.starts
    assert starts is not None
    assert (starts.weights.equal, starts.order.equal) == (2, 2)


def test_chemprop_on_a_csv_is_compared() -> None:
    pytest.importorskip("chemprop")
    ends = {"": 0.0, "O": -1.2, "N": -1.0, "Cl": 0.7}
    rows = [f"{'C' * n}{end},{n / 2 + value}" for n in range(1, 10) for end, value in ends.items()]
    Path("molecules.csv").write_text("\n".join(["smiles,target", *rows]))
    sys.modules.pop("examples.chemprop_mpnn", None)
    importlib.invalidate_caches()
    comparison = compare(
        "examples.chemprop_mpnn:molecules", model="examples.chemprop_mpnn:make", hidden=8, **SMALL
    )
    assert [record.reason for record in comparison.records] == [""] * 4
    assert comparison.settings.metric == "val/mse:min"
