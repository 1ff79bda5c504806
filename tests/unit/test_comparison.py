"""The facade, with real trials of a few epochs."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from graphnorms import training
from graphnorms.data import load_dataset
from graphnorms.errors import DatasetError, GraphnormsError, RunExistsError
from graphnorms.lab import engines, progress
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import Comparison, open_comparison
from graphnorms.lab.comparison_errors import ComparisonInterrupted, ReportError
from graphnorms.lab.journal import read_records
from graphnorms.lab.options import Options
from graphnorms.lab.prepare import prepare
from graphnorms.lab.run import Run
from graphnorms.lab.schedule import Schedule
from graphnorms.lab.sentences import sentences
from graphnorms.training import Record, load_model, score

SMALL = {
    "norms": ("none", "graph"),
    "folds": 3,
    "epochs": 2,
    "learning_rate": (0.003, 0.01),
    "hidden": 16,
    "layers": 2,
    "workers": 1,
}
PLANNED = 2 * 3 * (2 + 1)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, stub_page_of_module) -> Comparison:
    """One that worker processes made."""
    folder = tmp_path_factory.mktemp("runs") / "mutag"
    return compare("MUTAG", **SMALL | {"workers": 2}, out=folder)


def untimed(records) -> list[dict]:
    return [record.without_timing() for record in records]


def test_a_comparison_leaves_config_records_and_report(comparison):
    names = {path.name for path in comparison.folder.iterdir()}
    assert names == {
        *("config.json", "run.toml", "records.jsonl"),
        *("judgement.json", "report.html"),
    }
    assert len(comparison.records) == comparison.planned == PLANNED
    assert all(record.status == "done" for record in comparison.records)
    written = {record.key: record for record in read_records(comparison.folder / "records.jsonl")}
    assert written == {record.key: record for record in comparison.records}
    stages = [record.config["stage"] for record in comparison.records]
    assert (stages.count("select"), stages.count("final")) == (12, 6)


def test_a_figure_of_it_can_be_drawn(comparison):
    figure = comparison.plot()
    assert figure.panels[0].spec["encoding"]["y"]["title"] == "Training accuracy (%)"
    assert len(comparison.plot("score_by_pair").panels) == 2  # scores, and differences to the best
    with pytest.raises(ValueError, match="unknown figure 'scores'"):
        comparison.plot("scores")


def test_final_trials_have_the_rate_that_was_best_in_their_fold(comparison):
    chosen = {}
    for record in comparison.records:
        place = (record.config["norm"], record.config["split"]["fold"])
        if record.config["stage"] == "select":
            score = record.outcome["validation_score"], -record.outcome["validation_loss"]
            chosen.setdefault(place, []).append((score, -record.config["learning_rate"]))
        else:
            assert record.config["learning_rate"] == -max(chosen[place])[1]
            assert "test_score" in record.outcome


def test_a_comparison_shows_itself(comparison):
    text = repr(comparison)
    assert "graph" in text
    assert " ".join(sentences(comparison.verdict).score.split())[:20] in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert max(map(len, comparison.table(60).splitlines())) <= 60
    assert "\x1b" not in text
    page = comparison._repr_html_()
    assert page.startswith("<pre")
    assert "graph" in page


def test_a_comparison_is_json(comparison):
    data = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert data["trials"] == {"planned": PLANNED, "done": PLANNED, "failed": 0}
    assert data["settings"]["epochs"] == 2
    assert [row["norm"] for row in data["verdict"]["rows"]]
    assert data["folder"] == str(comparison.folder)


def test_the_frame_has_a_row_per_trial(comparison, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = comparison.to_frame()
    assert len(frame) == PLANNED
    assert set(frame["norm"]) == {"none", "graph"}
    assert frame["validation_score"].between(0, 1).all()
    path = comparison.to_parquet(tmp_path / "trials.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet(path), frame, check_dtype=False)


def test_a_finished_comparison_trains_nothing_again(comparison, in_this_process, stub_page):
    again = compare("MUTAG", **SMALL, out=comparison.folder)
    assert in_this_process == []
    assert again.records == comparison.records
    assert again.verdict == comparison.verdict


def test_a_comparison_can_be_opened_again(comparison, tmp_path):
    again = open_comparison(comparison.folder)
    assert again.records == comparison.records
    assert again.to_dict() == comparison.to_dict()
    with pytest.raises(GraphnormsError, match=r"holds no run \(config.json is missing\)"):
        open_comparison(tmp_path)


def test_a_run_without_a_trial_can_be_opened(comparison, tmp_path):
    """As a process leaves it that is killed before the first trial ends."""
    (tmp_path / "config.json").write_text((comparison.folder / "config.json").read_text())
    early = open_comparison(tmp_path)
    assert (early.records, early.planned, early.judgeable) == ((), PLANNED, False)
    assert repr(early).startswith("Comparison(no verdict yet")
    assert early._repr_html_().startswith("<pre>")
    assert early.to_dict()["verdict"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"epochs": None},
            "config.json: epochs is None, expected an integer ≥ 1; the file is damaged",
        ),
        ({"epochs": True}, "epochs is True, expected an integer"),
        ({"norms": 5}, "norms is 5, expected a list"),
        ({"norms": ["none", 5]}, "norms is 5, expected text"),
        ({"protocol": 5}, "protocol is 5, expected text"),
        ({"reading": []}, "'reading' is "),
        ({"architecture": "gin"}, "architecture is 'gin', expected names with values"),
        ({"fingerprint": ...}, "'fingerprint' is missing"),
    ],
)
def test_a_damaged_config_is_named(comparison, tmp_path, change, message):
    config = json.loads((comparison.folder / "config.json").read_text()) | change
    kept = {name: value for name, value in config.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    with pytest.raises(GraphnormsError, match=message):
        open_comparison(tmp_path)


def test_other_settings_are_refused(comparison, in_this_process):
    with pytest.raises(RunExistsError, match="epochs: 2 there, 3 here"):
        compare("MUTAG", **SMALL | {"epochs": 3}, out=comparison.folder)
    assert in_this_process == []


def test_where_trials_run_changes_nothing(comparison, in_this_process, stub_page, tmp_path):
    other = compare("MUTAG", **SMALL, out=tmp_path / "run")
    assert untimed(other.records) == untimed(comparison.records)
    assert len(in_this_process) == len(set(in_this_process)) == PLANNED


@pytest.mark.parametrize("stop", [0, 3, 5, 8, 17])
def test_an_interruption_keeps_what_is_done_and_the_same_call_continues(
    comparison, in_this_process, stub_page, tmp_path, stop
):
    def interrupt(status):
        if len(status.records) == stop:
            raise KeyboardInterrupt

    match = rf"^interrupted: {stop} of 18 trials; run the same command again to continue$"
    with pytest.raises(ComparisonInterrupted, match=match) as caught:
        compare("MUTAG", **SMALL, out=tmp_path / "run", progress=interrupt)
    assert isinstance(caught.value, KeyboardInterrupt)
    early = caught.value.comparison
    assert len(early.records) == len(in_this_process) == stop
    assert early.judgeable == (stop > 4), "fold 0 has 4 trials that select"
    assert (early.folder / "report.html").exists() == early.judgeable

    statuses = []
    whole = compare("MUTAG", **SMALL, out=tmp_path / "run", progress=statuses.append)
    assert len(in_this_process) == len(set(in_this_process)) == 18, "nothing was trained twice"
    assert len(statuses[0].records) == stop
    assert untimed(whole.records) == untimed(comparison.records)


def test_a_failing_trial_is_counted_and_stops_nobody(
    monkeypatch, in_this_process, stub_page, tmp_path
):
    run_trial = training.run_trial

    def failing(config, dataset, on_epoch=None):
        if config.norm == "graph" and config.split["fold"] == 0:
            raise RuntimeError("out of luck")
        return run_trial(config, dataset, on_epoch)

    monkeypatch.setattr(training, "run_trial", failing)
    comparison = compare("MUTAG", **SMALL, out=tmp_path / "run")
    assert comparison.to_dict()["trials"] == {"planned": 18, "done": 15, "failed": 3}
    assert "out of luck" in sentences(comparison.verdict).failures
    assert (tmp_path / "run" / "report.html").exists()


def test_where_everything_fails_there_is_still_a_verdict(
    monkeypatch, in_this_process, stub_page, tmp_path
):
    def failing(config, dataset, on_epoch=None):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(training, "run_trial", failing)
    comparison = compare("MUTAG", **SMALL, out=tmp_path / "run")
    assert comparison.to_dict()["trials"] == {"planned": 18, "done": 0, "failed": 18}
    assert comparison.verdict.best is None
    assert "out of luck" in repr(comparison)
    json.dumps(comparison.to_dict(), allow_nan=False)
    with pytest.raises(ValueError, match="no trial was done; there is no model to write"):
        comparison.export(tmp_path / "model")


def test_status_counts_and_learns_the_time_left(in_this_process, stub_page, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_TO_KNOW_THE_SPEED", 0.0)
    statuses = []
    # Trials of a halving are shorter than those that are reported.
    shorter = SMALL | {"search": "halving", "epochs": 4, "learning_rate": (0.003, 0.01, 0.03)}
    compare("MUTAG", **shorter, out=tmp_path / "run", progress=statuses.append)
    assert [len(s.records) for s in statuses if s.latest] == list(range(1, 37))
    assert statuses[0].remaining is None
    assert statuses[-1].remaining == 0
    assert all(status.latest in status.records for status in statuses if status.latest)
    trained = Counter()
    for record in statuses[-1].records:
        trained[record.config["norm"]] += record.config["epochs"]
    settings = statuses[-1].plan.settings
    assert statuses[-1].epochs == trained == dict.fromkeys(settings.norms, settings.epochs_of_norm)


def test_a_page_that_cannot_be_written_takes_nothing_with_it(
    in_this_process, stub_page, tmp_path, monkeypatch
):
    def full(self, path=None, *, figures=True):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Comparison, "report", full)
    with pytest.raises(ReportError, match=r"No space left .* graphnorms report .*run makes") as one:
        compare("MUTAG", **SMALL, out=tmp_path / "run")
    found = one.value.comparison
    assert len(found.records) == PLANNED
    assert sentences(found.verdict).score
    assert "\n" not in str(one.value)
    assert len(open_comparison(tmp_path / "run").records) == PLANNED


@pytest.mark.parametrize("number", [40, 400])
def test_a_record_is_told_without_going_through_the_plan(stub_page, tmp_path, monkeypatch, number):
    """The work per record does not grow with the number of trials."""

    def made(config, dataset, on_epoch=None):
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="done",
            outcome={"epoch": 1, "validation_score": 0.5, "test_score": 0.5},
        )

    class Instant(engines.ThisProcess):
        def run(self, configs, on_progress=None, then=None):
            for config in configs:
                on_progress({config.key: 1})
                record = made(config, None)
                yield record
                assert not then(record)

    monkeypatch.setattr(
        engines, "make_engine", lambda name, trial, data, **options: Instant(trial, data)
    )
    monkeypatch.setattr(Comparison, "report", lambda self, path=None, figures=True: None)
    monkeypatch.setattr("graphnorms.lab.journal.os.fsync", lambda descriptor: None)
    looked = Counter()
    find = Schedule._trial

    def counted(self, *which):
        looked["trial"] += 1
        return find(self, *which)

    monkeypatch.setattr(Schedule, "_trial", counted)
    statuses = []
    choices = SMALL | {"folds": 2, "protocol": "paper", "learning_rate": 0.01, "runs": number // 4}
    compare("MUTAG", **choices, out=tmp_path / "run", progress=statuses.append)
    assert statuses[-1].ended == number
    assert len(statuses) == 2 * number + 1
    # At the beginning and for the comparison that is returned; not for any record.
    assert looked["trial"] <= 4 * number
    assert [len(statuses[n].records) for n in (0, 10, 2 * number)] == [0, 5, number]


# What resume takes from the run.


@pytest.fixture
def begun(in_this_process, stub_page, tmp_path):
    """A run of a comparison that was stopped before its first trial ended."""

    def begun(dataset="MUTAG", folder: Path | None = None, **changes) -> Path:
        out = tmp_path / "run" if folder is None else folder
        with pytest.raises(ComparisonInterrupted):
            compare(dataset, **SMALL | changes, out=out, progress=_interrupt)
        return out

    return begun


def _interrupt(status):
    raise KeyboardInterrupt


def planned(dataset=None, **choices):
    """The settings that a call resolves to, and what the run's folder would keep."""
    return prepare(dataset, Options(**choices))


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"features": "degree", "model": "gcn", "margin": 0.05, "seed": 3},
        {"protocol": "paper", "preset": "graphnorm-paper", "residual": "before-norm"},
        {"protocol": "split", "folds": None, "runs": 3, "weight_decay": 0.1},
        {"norms": "graph,pair:scale=2,eps=0.1", "learning_rate": 0.02},
    ],
)
def test_resume_takes_everything_from_the_run(begun, choices):
    folder = begun(**choices)
    kept = json.loads((folder / "config.json").read_text())
    plan, config = planned(out=folder, resume=True)
    assert json.loads(json.dumps(config)) == kept
    with Run(plan.folder, config):
        pass
    again, config = planned("MUTAG", out=folder, resume=True)
    assert again.settings == plan.settings


def test_resume_finds_the_folder_by_the_data(in_this_process, stub_page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ComparisonInterrupted):
        compare("MUTAG", **SMALL, progress=_interrupt)
    plan, _ = planned(resume=True)
    assert plan.folder == Path("runs/MUTAG-gin")
    assert plan.settings.epochs == 2
    with pytest.raises(GraphnormsError, match=r"^runs/MUTAG-gcn holds no run \(config.json is mis"):
        planned(resume=True, model="gcn")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"epochs": 3}, r"epochs: 2 there, 3 here"),
        ({"model": "gcn"}, r"model: gin there, gcn here"),
        ({"protocol": "split"}, r"protocol: nested there, split here"),
        ({"protocol": "paper"}, r"protocol: nested there, paper here"),
        ({"budget": "full"}, r"budget: quick there, full here"),
        ({"learning_rate": 0.5}, r"learning rates: 0.003,0.01 there, 0.5 here"),
        ({"features": "degree"}, r"features: not set there, degree here"),
        ({"seed": 1}, r"seed: 0 there, 1 here"),
    ],
)
def test_resume_refuses_what_contradicts_the_run(begun, in_this_process, choices, message):
    folder = begun()
    with pytest.raises(RunExistsError, match=message) as caught:
        compare(out=folder, resume=True, workers=1, **choices)
    assert "\n" not in str(caught.value)
    assert f"choose another folder, e.g. --out {folder}-2" in str(caught.value)
    assert in_this_process == []


def test_resume_goes_on_where_the_run_was(comparison, begun, in_this_process):
    folder = begun()
    with pytest.raises(ComparisonInterrupted):
        compare(out=folder, resume=True, workers=1, progress=_after(4))
    assert untimed(compare(out=folder, resume=True).records) == untimed(comparison.records)
    assert len(in_this_process) == len(set(in_this_process)) == 18


def _after(number: int):
    def interrupt(status):
        if len(status.records) == number:
            raise KeyboardInterrupt

    return interrupt


def test_resume_where_no_run_is_says_so(tmp_path):
    with pytest.raises(GraphnormsError, match="holds no run") as caught:
        compare(out=tmp_path / "nowhere", resume=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "nowhere").exists()


# Graphs in memory.


def test_graphs_may_be_an_object(in_this_process, stub_page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graphs = load_dataset("MUTAG", features="degree")
    found = compare(graphs, **SMALL)
    assert found.folder == Path("runs/MUTAG-gin")
    assert found.command.startswith("graphnorms.compare(dataset, norms=('none', 'graph'), ")
    again = eval(found.command, {"graphnorms": sys.modules["graphnorms"], "dataset": graphs})
    assert again.records == found.records, "the call that is printed is the same comparison"
    assert len(in_this_process) == 18
    opened = open_comparison(found.folder)
    assert opened.command == found.command
    with pytest.raises(GraphnormsError, match="was made from graphs in memory; call compare"):
        opened.export(tmp_path / "model", norm="graph")
    with pytest.raises(GraphnormsError, match="was made from graphs in memory; call compare"):
        compare(resume=True, out=found.folder)
    assert compare(graphs, resume=True, out=found.folder).records == found.records
    with pytest.raises(RunExistsError, match="fingerprint"):
        compare(load_dataset("MUTAG"), **SMALL)
    with pytest.raises(ValueError, match="features says how data are read, but the data are a Gra"):
        compare(graphs, features="labels")


def test_graphs_of_pyg_are_read_as_asked_also_when_resumed(begun):
    data = pytest.importorskip("torch_geometric.data")
    items = [
        data.Data(
            edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])[:, : 2 + n % 2 * 2],
            y=torch.tensor(float(n % 2)),
            x=torch.ones(3, 2) * n,
        )
        for n in range(12)
    ]
    folder = begun(items, task="regression", features="degree")
    plan, config = planned(items, resume=True, out=folder)
    assert json.loads((folder / "config.json").read_text()) == json.loads(json.dumps(config))
    assert plan.dataset.task.kind == "regression"
    assert plan.dataset.features == "one-hot degree"
    assert "task='regression', features='degree'" in plan.command
    assert open_comparison(folder).command == plan.command


def test_how_data_are_read_is_part_of_the_command(tmp_path):
    lines = {
        "A": "1, 2\n2, 1\n1, 1\n3, 4\n4, 3\n4, 3\n",
        "graph_indicator": "1\n1\n3\n3\n" + "".join(f"{n}\n" for n in range(4, 24)),
        "graph_labels": "7\n8\n" + "8\n7\n" * 10 + "9\n",
    }
    for part, text in lines.items():
        (tmp_path / f"DS_{part}.txt").write_text(text)
    reading = {
        "keep_loops": True,
        "keep_repeats": False,
        "drop_empty": True,
        "drop_rare": 2,
        "features": "degree",
    }
    plan, config = planned(tmp_path, **reading, folds=2)
    assert config["reading"] == reading
    assert (len(plan.dataset), plan.dataset.class_names) == (22, ("7", "8"))
    words = shlex.split(plan.command)
    assert {"--keep-loops", "--merge-repeats", "--drop-empty"} <= set(words)
    assert words[words.index("--drop-rare") + 1] == "2"
    with pytest.raises(DatasetError, match="1 of 23 graphs has no nodes"):
        planned(tmp_path)


def test_a_split_by_scaffold_is_part_of_the_reading(begun, monkeypatch):
    data = pytest.importorskip("torch_geometric.data")
    monkeypatch.setattr(
        "graphnorms.data.ScaffoldSplit.scaffolds", lambda self, smiles: list(smiles)
    )
    items = [
        data.Data(edge_index=torch.empty(2, 0).long(), num_nodes=1 + n, y=float(n), smiles=f"C{n}")
        for n in range(20)
    ]
    name = "scaffold:balanced:0,1,2"
    folder = begun(items, protocol="split", folds=None, split=name)
    plan, config = planned(items, resume=True, out=folder)
    assert (config["split"], config["folds"]) == ("given", 3)
    assert config["reading"] == {"split_by": name}
    assert plan.dataset.split_name == name
    assert f"split='{name}'" in plan.command
    assert "split_by" not in plan.command
    with pytest.raises(ValueError, match="unknown split 'scaffold:none'; did you mean scaffold:"):
        planned(items, protocol="split", split="scaffold:none")


def test_a_data_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match="unknown data set 'MUTTAG'"):
        compare("MUTTAG", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"engine": "locl"}, "unknown engine 'locl'; did you mean local"),
        ({"engine": "dask"}, "needs the address of a scheduler"),
        ({"scheduler": "tcp://x:1"}, "is for the dask engine; the engine is local"),
        ({"workers": 0}, "workers is 0, expected an integer ≥ 1"),
        ({"folds": 64}, "64 folds need 64 or more members of every class"),
        ({"model": "gine"}, "use 'gin'"),
        ({"norms": "graph,group:num_groups=7"}, "7"),
        ({"features": "attributes"}, "data set 'MUTAG': no node attributes"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, choices, message):
    with pytest.raises(ValueError, match=message) as caught:
        compare("MUTAG", out=tmp_path / "run", **choices)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# The model that is exported.


def test_an_exported_model_scores_what_its_record_says(comparison, tmp_path, threads, monkeypatch):
    train = training.train

    def watched(config, dataset, **more):
        assert torch.get_num_threads() == 1, "several threads round sums differently"
        return train(config, dataset, **more)

    monkeypatch.setattr(training, "train", watched)
    torch.set_num_threads(2)
    path = comparison.export(tmp_path / "best.safetensors", norm="graph")
    assert torch.get_num_threads() == 2
    model = load_model(path)
    assert model.config.norm == "graph"
    record = next(record for record in comparison.records if record.key == model.config.key)
    rivals = [
        r.outcome["validation_score"]
        for r in comparison.records
        if r.config["norm"] == "graph" and r.config["stage"] == "final"
    ]
    assert record.config["stage"] == "final"
    assert record.outcome["validation_score"] == max(rivals)
    from graphnorms.data import SplitConfig, split_items

    graphs = load_dataset("MUTAG")
    test = split_items(graphs, SplitConfig(**record.config["split"])).test
    torch.set_num_threads(1)
    with torch.no_grad():
        outputs = model(graphs.batch(test))
    assert (
        score("accuracy", "classification", outputs, graphs.y[test]) == record.outcome["test_score"]
    )


def test_what_is_exported_is_the_recommended_norm(comparison, tmp_path, monkeypatch):
    opened = open_comparison(comparison.folder)
    advice = opened.verdict.recommendation
    if advice is None:
        with pytest.raises(ValueError, match="recommends no norm, so say whose model to write"):
            opened.export(tmp_path / "model")
        advice = SimpleNamespace(norm="graph")
        verdict = SimpleNamespace(recommendation=advice)
        monkeypatch.setitem(vars(opened), "verdict", verdict)
    assert load_model(opened.export(tmp_path / "model")).config.norm == advice.norm
    with pytest.raises(ValueError, match="unknown norm 'grpah'"):
        opened.export(tmp_path / "other", norm="grpah")
    with pytest.raises(ValueError, match="no trial with the norm 'batch' was done"):
        opened.export(tmp_path / "other", norm="batch")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_of_changed_data_or_of_another_outcome_is_not_exported(comparison, tmp_path):
    path = tmp_path / "model"
    path.write_text("of yesterday")
    changed = replace(comparison, dataset=load_dataset("MUTAG", features="degree"))
    with pytest.raises(GraphnormsError, match="MUTAG has changed since the run"):
        changed.export(path, norm="graph")
    other = [
        replace(r, outcome=r.outcome | {"test_loss": 0.5}) if r.outcome else r
        for r in comparison.records
    ]
    with pytest.raises(GraphnormsError, match="did not end as it did before"):
        replace(comparison, records=tuple(other)).export(path, norm="graph")
    assert path.read_text() == "of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
