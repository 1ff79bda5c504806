"""What an inspection leaves as it was, and what the command says."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import graphnorms
from graphnorms.cli.app import app
from graphnorms.doctor import RANKS, RULES, inspect
from tests.unit.doctor.models import HIDDEN, Net, batches, pyg

BATCHES = batches(2)
PAGE = Path(__file__).parents[3] / "docs" / "inspect.md"


def test_nothing_of_the_model_changes() -> None:
    model = Net(nn.BatchNorm1d(HIDDEN), batch=False).eval()
    model.conv.train()
    before = copy.deepcopy(model.state_dict())
    hooks = [len(part._forward_hooks) for part in model.modules()]
    state = torch.get_rng_state()
    inspect(model, BATCHES)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [len(part._forward_hooks) for part in model.modules()] == hooks
    assert model.conv.training
    assert not model.norm.training
    assert "forward" not in vars(model)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_numbers_of_a_norm() -> None:
    """Against values computed by hand from the batch."""
    x = torch.randn(40, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5
    norm = nn.BatchNorm1d(4)
    norm.running_mean.copy_(x.mean(0) + 2 * x.std(0, correction=0))
    norm.running_var.copy_(x.var(0, correction=0) * 16)
    norm.num_batches_tracked += 100
    (facts,) = inspect(norm, (x,)).facts.norms
    assert facts.mean_gap == pytest.approx(2, rel=1e-5)
    assert facts.scale_gap == pytest.approx(4, rel=1e-5)
    assert facts.largest == pytest.approx(float(x.abs().max()))
    # Of 40 rows z = (x - mean) / std in training and (z - 2) / 4 in evaluation.
    z = (x - x.mean(0)) / x.std(0, correction=0)
    expected = (z - (z - 2) / 4).square().mean().sqrt() / z.square().mean().sqrt()
    assert facts.eval_gap == pytest.approx(float(expected), rel=1e-4)


def test_the_forms_of_a_batch() -> None:
    model = Net(pyg.GraphNorm(HIDDEN))
    part = BATCHES[0]
    forms: list[Any] = [
        part,
        (part.x, part.edge_index, part.batch),
        {"x": part.x, "edge_index": part.edge_index, "batch": part.batch},
        [part],
    ]
    facts = [inspect(model, form).facts for form in forms]
    assert {each.graphs for each in facts} == {32}
    assert {each.norms[0].of_a_statistic for each in facts} == {facts[0].norms[0].of_a_statistic}
    for wrong, words in (((part.x,), "missing"), ([], "no batch")):
        with pytest.raises(ValueError, match=words):
            inspect(model, wrong)
    with pytest.raises(ValueError, match="no norm"):
        inspect(nn.Linear(2, 2), (part.x,))


@pytest.mark.full("loads lightning")
def test_a_lightning_module() -> None:
    lightning = pytest.importorskip("lightning")

    class Lit(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net(pyg.GraphNorm(HIDDEN), batch=False)

        def training_step(self, data: Any, index: int) -> Any:
            return self.net(data.x, data.edge_index, data.batch).square().mean()

    found = inspect(Lit(), BATCHES)
    assert [finding.name for finding in found.findings] == ["batch-missing"]
    assert list(found.findings[0].evidence) == ["net.norm"]


@pytest.mark.full("compiled and exported layers")
def test_what_blocks_a_compiler(capfd: pytest.CaptureFixture[str]) -> None:
    model = Net(pyg.GraphNorm(HIDDEN))
    found = inspect(model, BATCHES[0], compilers=True)
    assert not any(capfd.readouterr())
    assert [finding.name for finding in found.findings] == ["blocks-compile"]


def test_the_table() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert [rule.rank for rule in RULES] == sorted((r.rank for r in RULES), key=RANKS.index)


MODELS = """
import torch
from torch import nn
import graphnorms

class Net(nn.Module):
    def __init__(self, in_channels, out_channels, hidden=8):
        super().__init__()
        self.first = nn.Linear(in_channels, hidden, bias=False)
        self.norm = graphnorms.GraphNorm(hidden)
        self.last = nn.Linear(hidden, out_channels)

    def forward(self, x, batch):
        x = self.norm(self.first(x)).relu()
        return self.last(x.new_zeros(int(batch.max()) + 1, x.shape[1]).index_add(0, batch, x))

class Deep(nn.Module):
    def __init__(self, depth):
        super().__init__()

ready = Net(7, 2)

def other():
    return 3

def single():
    return [(torch.randn(6, 7), torch.zeros(6, dtype=torch.long))]

def pairs():
    return [(torch.randn(6, 7), torch.tensor([0, 0, 0, 1, 1, 1]))] * 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "doctored_models.py").write_text(MODELS, encoding="utf-8")
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["inspect", *arguments])


def test_the_command(folder: Path) -> None:
    shown = run("doctored_models:Net", "--data", "MUTAG", "--batch-size", "16", "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert (found["graphs"], found["batches"]) == (16, 8)
    assert [(one["name"], one["rank"]) for one in found["findings"]] == [("batch-missing", "error")]
    failing = ("doctored_models:ready", "--data", "doctored_models:pairs", "--fail-on")
    codes = [
        CliRunner().invoke(app, ["inspect", *failing, rank], standalone_mode=False).return_value
        for rank in ("error", "note")
    ]
    assert codes == [1, 1]
    passing = ("doctored_models:ready", "--data", "doctored_models:single", "--fail-on", "warning")
    assert CliRunner().invoke(app, ["inspect", *passing], standalone_mode=False).return_value == 0
    text = run("doctored_models:ready", "--data", "MUTAG").stdout
    assert "batch-missing" in text
    assert "replace_norms" in text


def test_a_checkpoint(folder: Path) -> None:
    import doctored_models

    state = {f"model.{name}": value for name, value in doctored_models.ready.state_dict().items()}
    state["model.norm.weight"] = torch.zeros(8)
    torch.save({"state_dict": state, "epoch": 3}, "last.ckpt")
    asked = ("doctored_models:Net", "--data", "MUTAG", "--json", "--checkpoint")
    names = [one["name"] for one in json.loads(run(*asked, "last.ckpt").stdout)["findings"]]
    assert "gamma-near-zero" in names
    torch.save({"norm.weight": torch.zeros(5), "spare": torch.zeros(1)}, "wrong.pt")
    torch.save({"norm.weight": Path("x")}, "code.pt")
    for file, words in (
        (
            "wrong.pt",
            r"no first.weight, norm.bias and 3 more; the model has no spare; .* \(5,\)",
        ),
        ("code.pt", "could run code"),
        ("none.pt", "No such file"),
        ("doctored_models.py", "could run code|cannot be read"),
    ):
        error = str(run(*asked, file).exception)
        assert re.search(words, error)
        assert "\n" not in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("doctored_models:Nett --data MUTAG", "no 'Nett'"),
        ("doctored_models:Deep --data MUTAG", "argument 'depth'"),
        ("doctored_models:other --data MUTAG", "type int"),
        ("doctored_models:Net --data doctored_models:pairs", "in_channels"),
        ("Net --data MUTAG", "no module:name"),
        ("doctored_models:Net --data MUTAG --fail-on bad", "unknown rank"),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: str, words: str) -> None:
    error = str(run(*arguments.split()).exception)
    assert words in error
    assert "\n" not in error


@pytest.mark.skipif(not PAGE.exists(), reason="the tests stand without the docs")
def test_the_page_names_every_rule() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert not [rule.name for rule in RULES if f"`{rule.name}`" not in text]


def test_it_is_public() -> None:
    assert graphnorms.inspect is inspect
