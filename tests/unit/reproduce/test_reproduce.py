"""Published tables trained again: the protocol's parts, the differences, the records, the page."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from graphnorms import cli
from graphnorms.adjacency import Adjacency
from graphnorms.data import SplitConfig, load_dataset, split_items
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.prepare import prepare
from graphnorms.lab.statistics import Estimate
from graphnorms.lab.trials import group_trials
from graphnorms.models import GNN, preset
from graphnorms.reproduce.against_published import (
    Gap,
    Row,
    Trained,
    conclusion,
    difference_of_summaries,
    gaps_of,
    leads,
    rows_of,
)
from graphnorms.reproduce.kept_records import PACKED, keep, restore
from graphnorms.reproduce.outcome import Outcome
from graphnorms.reproduce.paper_runs import (
    Cell,
    Part,
    cells_of,
    read_data,
    split_by_class,
    train,
    trained,
)
from graphnorms.reproduce.published_values import GRAPHNORM, LUO, SCRIPT, Published
from graphnorms.reproduce.reproduction_page import fill, write_page
from graphnorms.reproduce.tuned_gcn import residual_gcn
from graphnorms.reproduce.tuned_gcn_of_a_question import residual_gcn_of_a_question
from graphnorms.training import Record

PART = Part(
    datasets=("MUTAG",),
    models=("gin",),
    norms=("none", "graph"),
    protocols=("paper",),
    folds=1,
    epochs=2,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two norms on the first fold of MUTAG for two epochs."""
    out = tmp_path_factory.mktemp("reproduction")
    (cell,) = cells_of(GRAPHNORM, PART)
    train(cell, read_data(GRAPHNORM, "MUTAG", None), out / "graphnorm", PART, 0, lambda line: None)
    return out


def test_a_trial_has_the_protocol_of_the_authors(run: Path) -> None:
    ((_, comparison),) = trained(GRAPHNORM, PART, run / "graphnorm")
    first, second = comparison.records
    assert (first.config["norm"], second.config["norm"]) == ("none", "graph")
    for record in (first, second):
        config, model = record.config, record.config["model"]
        # Linearly to 0 by epoch: 0.01 · (1 - t / 2).
        assert record.history["learning_rate"] == [0.01, 0.005]
        assert (config["batch_size"], config["weight_decay"]) == (128, 0.0)
        assert config["split"] == {
            "kind": "paper",
            "folds": 10,
            "fold": 0,
            "seed": 9,
            "holdout": 0.1,
        }
        # 188 graphs in ten folds of 18 or 19, and no test part.
        assert (record.counts["train_items"], record.counts["validation_items"]) == (169, 19)
        assert record.counts["test_items"] == 0
        assert (model["layers"], model["hidden"], model["readout"]) == (4, 64, "sum")


@pytest.mark.parametrize("model", ["gin", "gcn"])
@pytest.mark.parametrize("protocol", ["paper", "nested"])
def test_the_whole_paper_is_planned(model: str, protocol: str, tmp_path: Path) -> None:
    """Ten folds of five norms for 400 epochs, and no trial that chooses a rate."""
    cell = Cell(paper=GRAPHNORM, dataset="MUTAG", model=model, protocol=protocol)
    graphs = read_data(GRAPHNORM, "MUTAG", None)
    plan, _ = prepare(graphs, cell.options(tmp_path))
    planned = Agenda(plan.schedule).known()
    assert len(planned) == 50
    assert {(each.epochs, each.learning_rate, each.schedule) for each in planned} == {
        (400, 0.01, "linear")
    }
    assert {each.norm for each in planned} == {"none", "batch", "layer", "instance", "graph"}


def test_a_cell_with_a_script_of_its_own_has_its_settings(tmp_path: Path) -> None:
    """`example-test-comparison` of the authors: `--learn_eps`, decay 0.05 or the rate 0.001."""
    cells = {each.dataset: each for each in cells_of(GRAPHNORM, Part(protocols=(SCRIPT,)))}
    assert {each.model for each in cells.values()} == {"gin"}
    found = {}
    for name, cell in cells.items():
        plan, _ = prepare(load_dataset("MUTAG"), cell.options(tmp_path))
        first = next(iter(Agenda(plan.schedule).known()))
        assert first.model["train_eps"]
        assert (first.model["self_weight"], first.split["kind"]) == (2.0, "paper")
        found[name] = first.weight_decay, first.learning_rate, first.epochs
    assert found == {"PROTEINS": (0.05, 0.01, 400), "REDDIT-BINARY": (0.0, 0.001, 400)}


def test_a_node_counts_twice_and_its_neighbours_once() -> None:
    """A path of three nodes with features 1, 10, 100: (1 + ε) x + Σ over neighbours and itself."""
    layer: Any = GNN(preset("gin", "graphnorm-paper"), "none", 1, 2, seed=0).convolutions[0]
    assert layer.self_weight == 2.0
    path = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]) + layer.self_weight * torch.eye(3)
    assert (path @ torch.tensor([1.0, 10, 100])).tolist() == [12, 121, 210]


def test_epsilon_is_learned() -> None:
    """Of the path above with ε = 0.5, 1/2 of each feature more; dL/dε is Σ x W of what follows."""
    model = GNN(preset("gin", "graphnorm-table"), "none", 1, 2, seed=0)
    layer: Any = model.convolutions[0]
    assert layer.eps.item() == 0
    with torch.no_grad():
        layer.eps.fill_(0.5)
    seen: list[torch.Tensor] = []
    layer.transformed = lambda gathered, *_: seen.append(gathered) or gathered
    edges = Adjacency.from_edge_index(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    x = torch.tensor([[1.0], [10], [100]])
    context = SimpleNamespace(adjacency=edges)
    layer(x, context).sum().backward()
    assert seen[0].flatten().tolist() == [12.5, 126, 260]
    assert layer.eps.grad.tolist() == [111]


def test_dropout_is_on_the_logits_and_halves_them() -> None:
    """Of the logits half are 0, and the others twice as large as in eval mode."""
    graphs = load_dataset("MUTAG")
    batch = graphs.batch(torch.arange(100))
    model = GNN(preset("gin", "graphnorm-paper"), "none", graphs.num_features, 2, seed=0)
    torch.manual_seed(0)
    dropped = model.train()(batch.x, batch.adjacency, batch.segments)
    whole = model.eval()(batch.x, batch.adjacency, batch.segments)
    kept = dropped != 0
    assert 70 < int(kept.sum()) < 130
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


def test_degrees_count_the_self_loop(tmp_path: Path) -> None:
    """A path of three nodes and a single edge: in-degrees with loops 2, 3, 2 and 2, 2."""
    path = tmp_path / "paths.txt"
    path.write_text("2\n3 0\n0 1 1\n0 2 0 2\n0 1 1\n2 1\n0 1 1\n0 1 0\n")
    with_loops = torch.tensor([2, 3, 2, 2, 2])
    values = torch.unique(with_loops)
    assert load_dataset(path).x.tolist() == (with_loops[:, None] == values).float().tolist()


def by_hand(norm: str, curves: list[list[float]]) -> list[Record]:
    return [
        Record(
            key=f"{norm}{fold}",
            config={
                "norm": norm,
                "stage": "paper",
                "run": 0,
                "metric": "accuracy",
                "learning_rate": 0.01,
                "split": {"kind": "paper", "folds": 10, "fold": fold, "seed": 9},
            },
            status="done",
            history={"train_loss": [1.0] * 3, "train_score": curve, "validation_score": curve},
            counts={"train_items": 90, "validation_items": 10},
        )
        for fold, curve in enumerate(curves)
    ]


def test_one_epoch_is_selected_for_all_folds() -> None:
    """Means by epoch 60, 70, 65%: at the second the folds have 90 and 50, and 20 around it.

    Every fold at its own best epoch would give 85%.
    """
    records = by_hand("graph", [[0.5, 0.9, 0.5], [0.7, 0.5, 0.8]])
    records += by_hand("batch", [[0.4, 0.4, 0.5], [0.4, 0.4, 0.7]])
    comparison: Any = SimpleNamespace(
        trials=group_trials(records, protocol="paper"), settings=SimpleNamespace(scored_trials=10)
    )
    cell = Cell(paper=GRAPHNORM, dataset="MUTAG", model="gin", protocol="paper")
    row, other = rows_of([(cell, comparison)])
    found = row.trained["paper"]
    assert (found.mean, found.std, found.epoch) == (pytest.approx(70), pytest.approx(20), 2)
    assert (found.number, found.planned) == (2, 10)
    assert row.published == Published(91.6, 6.5)
    assert other.trained["paper"].epoch == 3
    (gap,) = gaps_of([(cell, comparison)], "graph")
    assert (gap.other, gap.published) == ("batch", pytest.approx(2.2))
    # (90 - 50, 50 - 70) less at those epochs: 40 and -20; t₁ = 12.706, Nadeau & Bengio 1/2 + 1/9.
    estimate = gap.trained["paper"]
    assert estimate.mean == pytest.approx(10)
    assert estimate.half_width == pytest.approx(
        12.7062 * 42.4264 * (1 / 2 + 1 / 9) ** 0.5, rel=1e-4
    )


def test_the_interval_is_welchs() -> None:
    """By hand: √(36/9 + 31.36/9) = 2.7358, ν = 7.4844² / (4²/9 + 3.4844²/9) = 17.91, t = 2.1018."""
    found = difference_of_summaries((90.0, 6.0, 10), (89.4, 5.6, 10))
    assert found.mean == pytest.approx(0.6)
    assert found.half_width == pytest.approx(2.7358 * 2.1018, rel=1e-4)
    assert not found.low > 0


def trained_of(mean: float, std: float = 5.0, number: int = 10) -> Trained:
    less = difference_of_summaries((mean, std, number), (80.0, 5.0, 10))
    return Trained(mean=mean, std=std, number=number, planned=10, less_published=less)


def row_of(mean: float, std: float = 5.0, number: int = 10) -> Row:
    return Row(
        dataset="PTC",
        model="gin",
        norm="graph",
        published=Published(80.0, 5.0),
        trained={"paper": trained_of(mean, std, number)},
    )


def test_what_is_missed_is_said_with_its_size() -> None:
    half = difference_of_summaries((80.0, 5.0, 10), (80.0, 5.0, 10)).half_width
    assert 4.9 < half < 5.1
    assert "None is missed" in conclusion([row_of(84.5)], ["paper"])
    said = conclusion([row_of(84.5), row_of(74.0)], ["paper"])
    assert "Of 2 published values trained here in full, 1 comes out again: the interval" in said
    assert "1 of the 2 is lower here than published; the mean difference is −0.8 points." in said
    assert "Not reproduced: GraphNorm on PTC in GIN by −6.0 [" in said
    by_script = replace(row_of(74.0), trained=row_of(74.0).trained | {SCRIPT: trained_of(79.0)})
    assert "None is missed" in conclusion([by_script], [SCRIPT, "paper"]), "the script goes first"
    assert "nothing is said" in conclusion([row_of(74.0, number=9)], ["paper"]), "a fold is missing"
    remembered = replace(row_of(84.5), published=Published(80.0, 5.0, recalled=True))
    said = conclusion([row_of(84.5), remembered], ["paper"])
    assert (
        "Of 2 published values trained here in full (1 of them quoted from memory), 2 come" in said
    )


def test_it_is_said_how_many_published_leads_are_leads_here() -> None:
    def gap(published: float | None, **trained: tuple[float, float, float]) -> Gap:
        found = {name: Estimate(*each) for name, each in trained.items()}
        return Gap(
            dataset="PTC",
            model="gin",
            norm="graph",
            other="batch",
            published=published,
            recalled=False,
            trained=found,
        )

    gaps = [
        gap(2.2, paper=(-0.6, -6.0, 4.9)),
        gap(-1.3, paper=(-3.0, -5.0, -1.0)),
        gap(1.2, paper=(-2.5, -7.2, 2.2), script=(1.8, -2.0, 5.6)),
        gap(None, paper=(3.0, 1.0, 5.0)),
        gap(9.0, nested=(9.0, 8.0, 10.0)),
    ]
    assert leads(gaps, (SCRIPT, "paper")) == (
        "Of 3 published differences between GraphNorm and another norm (−1.3 to +2.2 points), "
        "2 have the same sign here, and 1 is told apart from 0."
    )
    assert leads(gaps[3:], (SCRIPT, "paper")) == ""


def test_published_values_say_which_are_from_memory() -> None:
    values = GRAPHNORM.values
    assert values["MUTAG", "gin", "graph"] == Published(91.6, 6.5)
    assert values["COLLAB", "gin", "batch"] == Published(80.2, 1.9)
    assert {place[2] for place, value in values.items() if value.recalled} == {"layer", "instance"}
    assert LUO.values["chameleon_filtered", "gcn", "none"] == Published(46.29, 3.40)


def test_packed_records_go_on(run: Path, tmp_path: Path) -> None:
    (cell,) = cells_of(GRAPHNORM, PART)
    folder = tmp_path / cell.folder
    keep(run / "graphnorm" / cell.folder, folder)
    assert {each.name for each in folder.iterdir()} == {"config.json", PACKED}
    said: list[str] = []
    train(cell, read_data(GRAPHNORM, "MUTAG", None), tmp_path, PART, 0, said.append)
    assert said == [f"{cell.title}: 2 of 2 trials are there"]
    ((_, here),), ((_, there),) = (
        list(trained(GRAPHNORM, PART, each)) for each in (tmp_path, run / "graphnorm")
    )
    for one, other in zip(here.records, there.records, strict=True):
        assert one.outcome == other.outcome
        assert one.history["validation_score"] == other.history["validation_score"]
        losses = (each.history["train_loss"] for each in (one, other))
        torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-3, atol=0)
    before = (folder / PACKED).read_bytes()
    keep(folder, folder)
    assert (folder / PACKED).read_bytes() == before, "equal records give equal bytes"


def test_a_copy_follows_the_run_that_goes_on(run: Path, tmp_path: Path) -> None:
    """Records that were restored from a copy are not shown when the run has more of them."""
    (cell,) = cells_of(GRAPHNORM, PART)
    going_on, copy = tmp_path / cell.folder, tmp_path / "copy"
    shutil.copytree(run / "graphnorm" / cell.folder, going_on)
    journal = going_on / "records.jsonl"
    whole = journal.read_text()
    journal.write_text("".join(whole.splitlines(keepends=True)[:1]))
    keep(going_on, copy)
    restore(copy)
    journal.write_text(whole)
    keep(going_on, copy)
    restore(copy)
    assert len((copy / "records.jsonl").read_text().splitlines()) == len(whole.splitlines())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / PACKED).write_bytes(b"no records")
    with pytest.raises(Exception, match="damaged"):
        restore(tmp_path)


def test_the_page_has_tables_figures_and_no_path(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "results")
    whole = Cell(paper=GRAPHNORM, dataset="MUTAG", model="gin", protocol="paper")
    (cut,) = cells_of(GRAPHNORM, PART)
    results = tmp_path / "results" / "graphnorm"
    (results / cut.folder).rename(results / whole.folder)
    page = tmp_path / "page.md"
    slots = "".join(f"<!-- reproduce: {name} -->\n<!-- end -->\n" for name in ("graphnorm", "luo"))
    page.write_text(slots)
    (kept,) = fill(page, tmp_path / "results")
    assert kept == tmp_path / "page" / "graphnorm" / "MUTAG-gin-paper" / PACKED
    text = page.read_text()
    assert "| GraphNorm | 91.6 ± 6.5 |" in text
    assert text.endswith("<!-- reproduce: luo -->\n<!-- end -->\n"), "a slot without results stays"
    assert "![convergence](page/graphnorm/convergence.svg)" in text
    assert str(tmp_path) not in text
    shutil.copytree(run / "graphnorm" / cut.folder, results / cut.folder)
    assert len(fill(page, tmp_path / "results")) == 2
    whole_paper, cut_down = page.read_text().split("### Cut down to 2 epochs")
    assert "#### GIN on MUTAG" in cut_down, "with a table of its own"
    assert "no published value is reproduced" in cut_down
    assert whole_paper.count("| GraphNorm | 91.6") == 1
    for name in ("scores", "convergence"):
        assert (tmp_path / "page" / "graphnorm" / f"{name}.svg").stat().st_size > 1000


def test_a_paper_that_was_only_cut_down_has_a_page(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- reproduce: graphnorm -->\n<!-- end -->\n")
    shutil.copytree(run, tmp_path / "results")
    fill(page, tmp_path / "results")
    text = page.read_text()
    assert "**Cut down to 2 epochs, so that no published value is reproduced.**" in text
    assert "### GIN on MUTAG" in text
    (
        tmp_path / "results" / "graphnorm" / "MUTAG-gin-paper-3-epochs"
    ).mkdir()  # left by a run that was broken off
    fill(page, tmp_path / "results")
    assert page.read_text() == text


@pytest.mark.parametrize("protocol", ["paper", "nested"])
def test_the_page_of_a_part_has_the_figures_it_can_draw(
    protocol: str, run: Path, tmp_path: Path
) -> None:
    """Without InstanceNorm there is no ablation, and without the paper's selection no curves."""
    (cut,) = cells_of(GRAPHNORM, PART)
    part = replace(PART, protocols=(protocol,))
    (cell,) = cells_of(GRAPHNORM, part)
    shutil.copytree(run / "graphnorm" / cut.folder, tmp_path / cell.folder)
    page = write_page(Outcome.of(GRAPHNORM, tmp_path, part), tmp_path)
    assert page.name == "page-2-epochs.md"
    figures = {each.stem.removesuffix("-2-epochs") for each in page.parent.glob("*.svg")}
    assert figures == ({"scores", "convergence"} if protocol == "paper" else {"scores"})


@pytest.mark.parametrize("dataset", LUO.datasets)
def test_every_set_of_luo_is_trained_and_has_a_page(dataset: str, tmp_path: Path) -> None:
    """They compare BatchNorm and LayerNorm with no norm: no α, and no curves published."""
    nodes, half = 1800, 30
    y = np.arange(nodes) % 2
    draw = np.random.default_rng(0)
    masks = {
        f"{part}_masks": np.tile(np.arange(nodes) % 3 == number, (10, 1))
        for number, part in enumerate(("train", "val", "test"))
    }
    np.savez(
        tmp_path / f"{dataset}.npz",
        node_features=draw.standard_normal((nodes, 4), dtype=np.float32),
        node_labels=y,
        edges=draw.integers(nodes, size=(half, 2)),
        **masks,
    )
    part = Part(datasets=(dataset,), norms=("none", "batch"), folds=2)
    (cell,) = cells_of(LUO, part)
    small = {"epochs": 2, "hidden": 4, "runs": 1}
    short = replace(LUO, options=lambda *given: {**(LUO.options(*given) or {}), **small})
    cell = replace(cell, paper=short)
    graphs = read_data(LUO, cell.dataset, tmp_path)
    train(cell, graphs, tmp_path / "luo", part, 0, lambda line: None)
    outcome = Outcome.of(LUO, tmp_path / "luo", part)
    assert {row.norm: row.trained["split"].failed for row in outcome.rows} == {
        "none": 0,
        "batch": 0,
    }
    text = write_page(outcome, tmp_path / "luo").read_text()
    assert f"### GCN on {dataset}" in text
    if dataset not in LUO.split_seeds:  # of two splits
        assert "### BatchNorm less the other norms, in points" in text
        assert f"| GCN on {dataset} | none | – |" in text
    assert {each.stem for each in (tmp_path / "luo").glob("*.svg")} == {"scores"}


def test_a_split_by_class_is_that_of_the_authors() -> None:
    """What `class_rand_splits` of their `medium_graph/data_utils.py` returns after seed 123."""
    y = torch.arange(3000) % 3
    split = split_by_class(y, 123)
    found = {part: (split == part).nonzero().flatten() for part in (0, 1, 2)}
    assert {part: (each[:5].tolist(), int(each.sum())) for part, each in found.items()} == {
        0: ([34, 38, 49, 93, 126], 89_736),
        1: ([0, 5, 6, 7, 9], 757_515),
        2: ([2, 4, 10, 13, 17], 1_491_289),
    }
    assert [len(each) for each in found.values()] == [60, 500, 1000]
    assert torch.bincount(y[found[0]]).tolist() == [20, 20, 20]


def test_nodes_of_unknown_class_are_in_no_part() -> None:
    y = torch.arange(3000) % 3 - 1
    assert (split_by_class(y, 123)[y < 0] == -1).all()


def test_the_split_of_cora_is_drawn_even_if_the_file_has_one(tmp_path: Path) -> None:
    y = np.arange(2000) % 7
    np.savez(
        tmp_path / "cora.npz",
        x=np.eye(7)[y],
        edges=np.array([[0, 1]]),
        y=y,
        split=np.zeros(2000, dtype=np.int8),
    )
    graphs = read_data(LUO, "cora", tmp_path)
    assert graphs.split is not None
    assert torch.bincount(graphs.split + 1).tolist() == [360, 140, 500, 1000]


def test_a_paper_that_used_three_of_ten_splits_is_whole_with_three() -> None:
    cell = Cell(paper=LUO, dataset="minesweeper", model="gcn", protocol="split")
    trial: Any = SimpleNamespace
    wanted = [
        cell.wants(trial(norm="batch", run=0, split={"fold": fold}), Part()) for fold in range(10)
    ]
    assert wanted == [True] * 3 + [False] * 7
    assert not cell.wants(trial(norm="batch", run=0, split={"fold": 2}), Part(folds=2))
    assert not cell.wants(trial(norm="batch", run=0, split={"fold": 0}), Part(norms=("none",)))
    assert not cell.wants(trial(norm="batch", run=2, split={}), Part(folds=2)), "a third seed"


def test_a_missing_file_is_told_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("MUTAG").mkdir()
    Path("MUTAG", "MUTAG.txt").write_text("never read")
    code = call(monkeypatch, "graphnorm", "--data", ".", "--datasets", "MUTAG,PTC")
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err == (
        "graphnorms: . has no PTC, expected PTC/PTC.txt or PTC/PTC.txt.gz; leave it out with "
        "--datasets, or name another folder with --data\n"
    )
    assert not Path("reproduction").exists()


def test_the_command_shows_what_is_trained(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    run: Path,
) -> None:
    shutil.copytree(run / "graphnorm", tmp_path / "kept")
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "graphnorm", "--show", "--out", "kept", "--epochs", "2") == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert ["GIN", "on", "MUTAG"] in lines
    assert ["norm", "published", "the", "paper's", "selection", "less", "published"] in lines
    assert "Cut down to 2 epochs, so that no published value is reproduced." in out
    assert err == ""
    assert out.endswith("page: kept/page-2-epochs.md\n")
    assert {each.name for each in Path("kept").glob("*.svg")} == {
        "scores-2-epochs.svg",
        "convergence-2-epochs.svg",
    }
    assert call(monkeypatch, "graphnorm", "--show", "--out", "kept") == 2
    assert capsys.readouterr().err == (
        "graphnorms: kept has trials of graphnorm for 2 epochs, and no others; see them with: "
        "graphnorms reproduce graphnorm --out kept --show --epochs 2\n"
    )
    assert call(monkeypatch, "graphnorm", "--show", "--out", "kept", "--folds", "1") == 2
    assert "leave --norms and --folds out" in capsys.readouterr().err


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `graphnorms reproduce` in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["graphnorms", "reproduce", *arguments])
    return cli.main()


def test_two_classes_have_the_cross_entropy_of_two_logits() -> None:
    """As the authors train Minesweeper: log-softmax of two outputs, `NLLLoss`."""
    graphs = load_dataset("MUTAG")
    batch = graphs.batch(torch.arange(4))
    made = residual_gcn_of_a_question
    model: Any = made(graphs.num_features, 1, lambda width: torch.nn.Identity(), 8, 2, 0.0)
    for norm in model.model.norms:
        norm.forward = lambda x, batch: x
    logits: list[torch.Tensor] = []
    model.model.head.register_forward_hook(lambda module, given, found: logits.append(found))
    one = model(batch.x, batch.adjacency, batch.segments)
    y = torch.arange(len(one)) % 2
    expected = torch.nn.functional.nll_loss(logits[0].log_softmax(1), y)
    found = torch.nn.functional.binary_cross_entropy_with_logits(one[:, 0], y.float())
    assert logits[0].shape[1] == 2
    torch.testing.assert_close(found, expected)


def test_the_tuned_gcn_is_the_formula() -> None:
    """Two nodes and an edge: Q is 1/2 everywhere, and the Linear of the node itself is added."""
    model = residual_gcn(2, 3, lambda width: torch.nn.Identity(), hidden=4, layers=1, dropout=0.5)
    model.norms[0].forward = lambda x, batch: x
    graphs = load_dataset("MUTAG").subset([0])
    batch = graphs.batch([0])
    x = torch.randn(len(batch.x), 2, generator=torch.Generator().manual_seed(0))
    dense = torch.eye(len(x))
    rows = torch.repeat_interleave(torch.arange(len(x)), batch.adjacency.in_degree)
    dense[rows, batch.adjacency.index] = 1
    scale = dense.sum(1).rsqrt()
    weight, own = model.convolutions[0].linear.weight, model.linears[0]
    z = scale[:, None] * dense * scale @ x @ weight.T + x @ own.weight.T + own.bias
    want = z.relu() @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model.eval()(x, batch.adjacency, batch.segments), want)


def test_what_the_paper_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="COLLAPSE"):
        Part(datasets=("COLLAPSE",)).checked(GRAPHNORM)
    with pytest.raises(ValueError, match="no protocol script for these"):
        Part(datasets=("MUTAG",), protocols=("script",)).checked(GRAPHNORM)
    with pytest.raises(ValueError, match="folds is 0"):
        Part(folds=0).checked(GRAPHNORM)


def test_folds_are_those_of_both_protocols() -> None:
    """The fold that the paper selects by is the one that the honest protocol tests on."""
    graphs = load_dataset("MUTAG")
    for fold in range(10):
        paper = split_items(graphs, SplitConfig(kind="paper", folds=10, fold=fold, seed=9))
        honest = split_items(graphs, SplitConfig(kind="fold", folds=10, fold=fold, seed=9))
        assert torch.equal(paper.validation, honest.test)
