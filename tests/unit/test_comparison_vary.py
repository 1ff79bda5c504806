"""Options that are varied: their values are treatments, paired and judged as norms are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from graphnorms.cli.option_parameters import takes_options
from graphnorms.data import load_dataset
from graphnorms.errors import RunExistsError
from graphnorms.lab.compare import compare, prepare
from graphnorms.lab.comparison import Comparison, open_comparison
from graphnorms.lab.duration import estimate
from graphnorms.lab.model_export import chosen_trial
from graphnorms.lab.options import Options
from graphnorms.lab.plan_sentences import plan_lines
from graphnorms.lab.predict import predict
from graphnorms.lab.resolve import resolve
from graphnorms.lab.settings import Settings
from graphnorms.lab.speed import Target, times_to_target
from graphnorms.lab.trials import group_trials
from graphnorms.report.style import display_name, style_of
from graphnorms.training import load_model
from tests.records import synthetic_records

SMALL: dict[str, Any] = {
    "vary": {"layers": [1, 2]},
    "folds": 2,
    "epochs": 1,
    "learning_rate": (0.003, 0.01),
    "hidden": 8,
    "workers": 1,
}


@pytest.fixture(scope="module")
def mutag():
    return load_dataset("MUTAG")


@pytest.fixture(scope="module")
def depths(in_this_process_of_module, stub_page_of_module, tmp_path_factory) -> Comparison:
    """Two norms, two depths."""
    out = tmp_path_factory.mktemp("depths") / "run"
    return compare("MUTAG", norms="none,graph", out=out, **SMALL)


def test_every_norm_with_every_value_is_trained_and_paired(depths):
    names = [f"{norm} layers={depth}" for norm in ("none", "graph") for depth in (1, 2)]
    assert list(depths.trials) == names
    assert len(depths.records) == depths.planned == 4 * (2 * 2 + 2)
    by_place: dict[tuple, list] = {}
    for record in depths.records:
        config = record.config
        assert config["model"]["layers"] == config["varied"]["layers"]
        place = config["stage"], config["split"]["fold"]
        by_place.setdefault(place, []).append(config)
    for (stage, _), configs in by_place.items():
        assert len({config["seed"] for config in configs}) == 1
        assert len(configs) == 4 * (2 if stage == "select" else 1)
    verdict = depths.verdict
    assert {row.norm for row in verdict.rows} == set(names)
    assert len(verdict.differences) == 6
    assert verdict.noun == "treatment"
    assert verdict.baseline == "none layers=1"
    shallow, deep = (verdict.row(f"graph layers={depth}").parameters for depth in (1, 2))
    assert shallow < deep


def test_a_treatment_trains_as_the_same_settings_without_vary(depths, tmp_path):
    """Its scores are those of a comparison of that depth alone."""
    options = {name: value for name, value in SMALL.items() if name != "vary"}
    plain = compare("MUTAG", norms="none,graph", layers=2, out=tmp_path / "run", **options)
    for norm in ("none", "graph"):
        expected = {p: r.outcome for p, r in plain.trials[norm].done.items()}
        found = {p: r.outcome for p, r in depths.trials[f"{norm} layers=2"].done.items()}
        assert found == expected


def test_a_run_is_read_back_and_resumed_with_its_values(depths, in_this_process, stub_page):
    stored = open_comparison(depths.folder)
    assert stored.settings == depths.settings == Settings.from_dict(depths.settings.to_dict())
    assert stored.verdict.to_dict() == depths.verdict.to_dict()
    assert "--vary layers=1,2" in depths.command
    again = compare("MUTAG", resume=True, out=depths.folder, workers=1)
    assert not in_this_process
    assert again.settings == depths.settings
    frame = depths.to_frame()
    assert set(frame["treatment"]) == set(depths.trials)
    assert set(frame["model_layers"]) == {1, 2}


def test_more_values_are_added_and_none_taken_away(in_this_process, stub_page, tmp_path):
    out = tmp_path / "run"
    first = compare("MUTAG", out=out, **SMALL)
    assert list(first.trials) == ["batch layers=1", "batch layers=2"], "one norm, no baseline"
    assert first.settings.baseline == "batch layers=1"
    more = {"vary": {"layers": [3, 1, 2]}}
    plan, _ = prepare("MUTAG", Options(**SMALL | more, out=out))
    grown = compare("MUTAG", **SMALL | more, out=out)
    assert len(in_this_process) == len(set(in_this_process)) == grown.planned
    assert grown.settings == plan.settings
    whole = compare("MUTAG", **SMALL | more, out=tmp_path / "whole")
    assert [r.without_timing() for r in grown.records] == [
        r.without_timing() for r in whole.records
    ]
    for wrong in (
        {"vary": {"layers": [1, 3]}},
        {"vary": {"hidden": [4, 8]}, "hidden": None, "layers": 1},
        {"vary": None, "layers": 1},
        {"hidden": 16},
    ):
        with pytest.raises(RunExistsError):
            compare("MUTAG", **SMALL | more | wrong, out=out)
    with_norm = compare("MUTAG", resume=True, norms="batch,graph", out=out, workers=1)
    assert len(with_norm.trials) == 6


def test_the_best_model_is_exported_and_predicts(depths, tmp_path):
    graphs = load_dataset("MUTAG")
    record = chosen_trial(depths, "graph layers=2")
    assert record.config["varied"] == {"layers": 2}
    path = depths.export(tmp_path / "best.safetensors", norm="graph layers=2")
    assert load_model(path).config.key == record.key
    assert len(list(predict(path, "MUTAG").rows())) == len(graphs)
    of_values = chosen_trial(depths, "layers=2").outcome["validation_score"]
    scores = [
        r.outcome["validation_score"]
        for r in depths.records
        if r.config["stage"] == "final" and r.config["varied"] == {"layers": 2}
    ]
    assert of_values == max(scores)
    assert chosen_trial(depths, "graph").config["norm"] == "graph"
    with pytest.raises(ValueError, match="no treatment is 'layers=7'"):
        chosen_trial(depths, "layers=7")


def test_models_and_sizes_together(mutag, tmp_path, monkeypatch):
    """Models differ in more than their name; one is the user's own."""
    (tmp_path / "own_depth.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, in_channels, out_channels, norm, hidden=8):\n"
        "        super().__init__()\n"
        "        self.one = nn.Linear(in_channels, hidden)\n"
        "        self.norm = norm(hidden)\n"
        "        self.other = nn.Linear(hidden, out_channels)\n"
        "    def forward(self, x, batch, batch_size):\n"
        "        h = self.other(self.norm(self.one(x), batch, batch_size).relu())\n"
        "        return h.new_zeros(batch_size, h.shape[1]).index_add(0, batch, h)\n"
    )
    monkeypatch.chdir(tmp_path)
    vary = {"model": ["gin", "own_depth:Net"], "batch_size": [16, 64]}
    options = Options(vary=vary, hidden=8)
    settings = resolve(options, mutag, "MUTAG")
    names = [f"batch model={m} batch_size={b}" for m in vary["model"] for b in vary["batch_size"]]
    assert list(settings.treatments) == names
    assert settings.of_treatment(names[0], "architecture")["layers"] == 4
    assert settings.of_treatment(names[2], "architecture")["layers"] is None
    assert [settings.of_treatment(name, "batch_size") for name in names] == [16, 64, 16, 64]
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    again = Options.of(settings, {})
    assert again.layers is None
    assert again.hidden == 8
    assert resolve(again, mutag, "MUTAG") == settings
    plan, _ = prepare("MUTAG", options)
    assert plan.runs_own_code
    assert plan.folder.name == "MUTAG-vary-model-batch_size"


def test_a_plan_counts_and_times_every_treatment(tmp_path):
    vary = {"residual": ["none", "after-norm"], "weight_decay": [0, 0.01]}
    plan, _ = prepare("MUTAG", Options(vary=vary, folds=2, epochs=1, learning_rate=0.01, layers=2))
    assert plan.settings.planned == 8
    assert {t.varied["weight_decay"] for t in plan.settings.treatments.values()} == {0.0, 0.01}
    text = " ".join(plan_lines(plan))
    assert "4 treatments (batch residual=none weight_decay=0, " in text
    assert estimate(plan).seconds > 0


@pytest.mark.parametrize(
    ("vary", "more", "message"),
    [
        ({}, {}, "vary is empty"),
        ({"layers": [2]}, {}, "one value of layers"),
        ({"layers": [2, 2]}, {}, "more than once"),
        ({"layers": [2, 0]}, {}, "layers is 0, expected an integer"),
        ({"layers": 2}, {}, "expected a list of values"),
        ({"layers": [2, 4]}, {"layers": 3}, "leave one of them out"),
        ({"layer": [2, 4]}, {}, "did you mean layers"),
        ({"folds": [2, 4]}, {}, "paired by fold and seed"),
        ({"features": ["labels", "degree"]}, {}, "it changes the data"),
        ({"learning_rate": [0.1, 0.2]}, {}, "--lr says among which"),
        ({"epochs": [1, 2]}, {}, "the same budget"),
        ({"model": ["gin", "gxn"]}, {}, "unknown model 'gxn'"),
        ({"model": ["gin", lambda in_channels, out_channels: None]}, {}, "made in memory"),
        ({"residual": ["none", "before"]}, {}, "unknown"),
    ],
)
def test_what_cannot_be_varied_is_one_line(mutag, vary, more, message):
    with pytest.raises(ValueError, match=message) as caught:
        resolve(Options(vary=vary, **more), mutag, "MUTAG")
    assert "\n" not in str(caught.value)


def test_the_command_line_reads_values_as_their_options_do():
    seen = []

    @takes_options("vary")
    def command(*, options: Options) -> int:
        seen.append(options.vary)
        return 0

    command(vary=["layers=2, 4", "weight-decay=0,1e-3", "model=gin,gcn"])
    command(vary=None)
    assert seen == [
        {"layers": [2, 4], "weight_decay": [0.0, 1e-3], "model": ["gin", "gcn"]},
        None,
    ]
    for wrong in ("layers", "=2,4", "layers="):
        with pytest.raises(ValueError, match="expected an option and its values"):
            command(vary=[wrong])


def test_a_miss_is_bounded_by_the_steps_of_its_own_treatment():
    """Minibatches of half the size take twice the steps; a miss of the other is no later for it."""
    records = [
        replace(
            record,
            config={**record.config, "varied": {"batch_size": size}},
            key=f"{record.key}/{size}",
            counts={**record.counts, "steps_per_epoch": 128 // size},
        )
        for size in (32, 64)
        for record in synthetic_records(("graph",), rates=(0.01,), epochs=5)
        if record.config["stage"] == "final"
    ]
    times = times_to_target(group_trials(records, protocol="nested"), Target(1.0, None))
    bounds = {name: set(of.bounds.values()) for name, of in times.items()}
    assert bounds == {"graph batch_size=32": {24.0}, "graph batch_size=64": {12.0}}


def test_treatments_look_different():
    names = [
        f"{norm} {option}={value}"
        for norm in ("batch", "graph")
        for option, values in (
            ("layers", (2, 3, 4, 6, 8, 16)),
            ("model", ("gin", "gcn", "gine")),
            ("weight_decay", (0, 0.0001, 0.001)),
        )
        for value in values
    ]
    assert style_of("batch layers=2").color != style_of("batch layers=4").color
    for norm in ("batch", "graph"):
        for option in ("layers", "model", "weight_decay"):
            looks = [style_of(n) for n in names if n.startswith(f"{norm} {option}")]
            assert len({look.color for look in looks}) == len(looks)
    assert style_of("batch layers=2").marker != style_of("graph layers=2").marker
    assert display_name("layer-graph layers=2").endswith(" layers=2")
    assert display_name("pair:scale=2 layers=4") == f"{display_name('pair:scale=2')} layers=4"
