"""From choices to settings: what data, preset and budget add, and every value that is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

from graphnorms.data import GraphSet, load_dataset, random_graphs
from graphnorms.lab.budgets import BUDGETS
from graphnorms.lab.detectable import expected_of
from graphnorms.lab.number_format import Scale
from graphnorms.lab.option_kinds import DEFAULT_NORMS
from graphnorms.lab.options import Options
from graphnorms.lab.plan_sentences import what_it_can_show
from graphnorms.lab.resolve import resolve
from graphnorms.lab.settings import Settings
from graphnorms.layers.catalog import CATALOG
from graphnorms.training import metric_named


@pytest.fixture(scope="module")
def mutag():
    return load_dataset("MUTAG")


@pytest.fixture(scope="module")
def nci5k():
    return load_dataset("nci5k")


def settings(graphs: GraphSet, **choices) -> Settings:
    return resolve(Options(**choices), graphs, graphs.name)


def test_what_is_not_said_comes_from_data_preset_and_budget(mutag):
    found = settings(mutag)
    assert (found.protocol, found.budget, found.preset) == ("nested", "quick", "default")
    assert (found.model, found.metric, found.unit) == ("gin", "accuracy", "")
    assert found.norms == DEFAULT_NORMS
    assert (found.folds, found.runs, found.split) == (10, 1, "fold")
    assert (found.epochs, found.batch_size, found.weight_decay) == (50, 32, 0.0)
    assert found.learning_rates == (0.001, 0.005, 0.02)
    assert (found.seed, found.split_seed, found.device) == (0, 0, "cpu")
    paper = settings(mutag, preset="graphnorm-paper", epochs=7, weight_decay=0.5)
    assert (paper.epochs, paper.batch_size, paper.split_seed) == (7, 128, 9)
    assert paper.architecture["self_weight"] == 2.0
    assert paper.weight_decay == 0.5


@pytest.mark.parametrize("protocol", ["nested", "paper", "split"])
@pytest.mark.parametrize("count", [2, 5, 13, 14, len(CATALOG)])
def test_what_is_not_said_is_enough_to_judge_so_many_norms(mutag, protocol, count):
    others = [name for name in CATALOG if name != "none"][: count - 1]
    found = settings(mutag, protocol=protocol, norms=["none", *others])
    assert len(found.norms) == count
    pairs = found.runs if protocol == "split" else found.folds
    assert pairs >= 10
    expected = expected_of(found, mutag)
    assert expected.pairs == pairs
    scale = Scale.fitting(metric_named("accuracy"), None)
    said = what_it_can_show(expected.design, scale, count, pairs)
    assert "inconclusive" not in said


def test_folds_that_are_named_are_taken(mutag):
    norms = list(CATALOG)
    assert settings(mutag, norms=norms, folds=3).folds == 3


def test_the_default_model_and_metric_suit_the_task(mutag, nci5k):
    found = settings(nci5k, protocol="split")
    assert (found.model, found.metric, found.split) == ("gine", "mae", "given")
    assert found.architecture["head"] == "graph"
    assert settings(nci5k, preset="graphnorm-paper").model == "gin", "the paper has no GINE"
    assert settings(nci5k, model="gcn", metric="rmse").metric == "rmse"
    nodes = of_nodes(mutag)
    assert settings(nodes).model == "gcn"
    assert settings(nodes).architecture["head"] == "node"


def test_several_numbers_are_scored_in_their_deviations(nci5k):
    """They may have different units, so that one MAE of them means nothing."""
    task = replace(nci5k.task, targets=("a", "b"))
    both = nci5k.with_targets(torch.cat((nci5k.y, 1e6 * nci5k.y), 1), task)
    assert settings(both).metric == "std_mae"
    assert settings(both, metric="rmse").metric == "std_rmse"
    assert settings(nci5k, metric="std_mae").metric == "std_mae"
    assert Scale.fitting(metric_named("std_mae"), 0.5, "eV").score(0.5) == "0.500"


def of_nodes(graphs: GraphSet) -> GraphSet:
    """The same graphs, each node with the class of its graph."""
    return GraphSet(
        name="nodes",
        x=graphs.x,
        ptr=graphs.ptr,
        edge_ptr=graphs.edge_ptr,
        edge_index=graphs.edge_index,
        y=torch.repeat_interleave(graphs.y, graphs.ptr.diff()),
        task=replace(graphs.task, level="node"),
        features=graphs.features,
    )


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("protocol", ["nested", "split", "paper"])
def test_a_budget_is_the_same_for_every_norm(mutag, budget, protocol):
    found = settings(mutag, budget=budget, protocol=protocol)
    about = BUDGETS[budget]
    assert found.learning_rates == about.learning_rates
    assert found.epochs == 100 * about.epochs
    rates = len(about.learning_rates)
    selecting, reported = {
        "nested": (10 * rates, 10 * about.runs),
        "split": (about.seeds * rates, about.seeds),
        "paper": (0, 10 * rates),
    }[protocol]
    assert found.selection_trials == selecting
    assert found.reported_trials == reported
    assert found.scored_trials == (10 if protocol == "paper" else reported)
    assert found.planned == 5 * (selecting + reported)


def test_the_grid_has_five_rates_and_three_in_the_quick_budget():
    assert {name: len(budget.learning_rates) for name, budget in BUDGETS.items()} == {
        "quick": 3,
        "standard": 5,
        "full": 5,
    }
    assert all(list(b.learning_rates) == sorted(b.learning_rates) for b in BUDGETS.values())


def test_one_rate_leaves_nothing_to_choose(mutag):
    found = settings(mutag, learning_rate=0.02)
    assert found.learning_rates == (0.02,)
    assert (found.selects, found.selection_trials, found.planned) == (False, 0, 50)


def test_the_paper_reads_social_graphs_by_the_mean(mutag):
    assert settings(mutag, preset="graphnorm-paper").architecture["readout"] == "sum"
    social = load_dataset("MUTAG", features="degree")
    assert settings(social, preset="graphnorm-paper").architecture["readout"] == "mean"


@pytest.mark.parametrize(
    ("given", "norms"),
    [
        ("none, graph", ("none", "graph")),
        ("graph", ("none", "graph")),
        (("graph", "batch"), ("none", "graph", "batch")),
        (["graph", "none"], ("graph", "none")),
        (
            "graph,pair:scale=2,scale_individually=true",
            ("none", "graph", "pair:scale=2,scale_individually=true"),
        ),
        (["pair: scale = 2"], ("none", "pair:scale=2")),
    ],
)
def test_none_is_always_among_the_norms(mutag, given, norms):
    assert settings(mutag, norms=given).norms == norms


def test_numbers_are_floats_however_they_are_written(mutag):
    """1 and 1.0 would be two trials, and the command that is printed another comparison."""
    one = settings(mutag, learning_rate=[1, 0.5], weight_decay=0, margin=1)
    other = settings(mutag, learning_rate=(0.5, 1.0), weight_decay=0.0, margin=1.0)
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())


def test_places_of_norm_and_residual(mutag):
    chosen = settings(mutag, norm_place="after-activation", residual="before-norm").architecture
    assert (chosen["norm_place"], chosen["residual"]) == ("after-activation", True)
    assert chosen["residual_place"] == "before-norm"
    paper = settings(mutag, preset="graphnorm-paper", residual="none").architecture
    assert not paper["residual"]
    assert settings(mutag, layers=2, hidden=8).architecture["hidden"] == 8


def test_the_place_of_a_norm_in_a_block_says_where_its_sum_is(mutag):
    for place, where in (
        ("post", "before-norm"),
        ("pre", "after-norm"),
        ("sandwich", "after-norm"),
    ):
        chosen = settings(mutag, model="gps", norm_place=place).architecture
        assert (chosen["norm_place"], chosen["residual_place"]) == (place, where)
        assert chosen["residual"]
    assert settings(mutag, model="gps").architecture["norm_place"] == "post"


def test_models_have_no_settings_of_others(mutag):
    new = {"heads", "qk_norm", "edge_norm", "layer_dropout", "attention_dropout"}
    assert not new & settings(mutag, model="gin").architecture.keys()
    assert new & settings(mutag, model="gatedgcn").architecture.keys() == {"edge_norm"}
    assert settings(mutag, model="gatedgcn").architecture["residual"]


def test_data_with_a_split_are_judged_on_it_unless_folds_are_asked_for(mutag, nci5k):
    assert settings(mutag).protocol == "nested"
    assert settings(mutag, split="random").protocol == "split"
    found = settings(nci5k)
    assert (found.protocol, found.split, found.folds, found.runs) == ("split", "given", 1, 10)
    assert settings(nci5k, split="random").protocol == "split"
    for choice in ({"protocol": "nested"}, {"folds": 5}, {"repeats": 2}, {"group_twins": True}):
        found = settings(nci5k, **choice)
        assert (found.protocol, found.split) == ("nested", "fold")
        assert found.folds == choice.get("folds", 10)


def test_a_split_is_the_given_one_where_there_is_one(mutag, nci5k):
    assert settings(nci5k, protocol="split").split == "given"
    assert settings(nci5k, protocol="split", split="random").split == "random"
    assert settings(mutag, protocol="split").split == "random"
    assert settings(mutag, protocol="split").folds == 1


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"protocol": "paper", "preset": "graphnorm-paper", "folds": 4},
        {"protocol": "split", "budget": "full", "margin": 0.02, "runs": 3},
        {"norms": "pair:scale=2,eps=0.1", "learning_rate": (0.1, 0.3), "seed": 5},
        {"residual": "before-norm", "norm_place": "after-activation", "hidden": 8, "model": "gcn"},
        {"model": "gps"},
        {"model": "gps", "norm_place": "pre", "qk_norm": "rms", "heads": 2, "residual": "rezero"},
        {"model": "gps", "norm_place": "sandwich"},
        {"model": "gps", "residual": "deepnorm", "qk_norm": "l2"},
        {"model": "gps", "residual": "after-norm"},
        {"model": "gatedgcn", "edge_norm": "batch", "residual": "none"},
        {"model": "gat", "heads": 8, "residual": "rezero"},
        {"model": "sage", "residual": "deepnorm"},
    ],
)
def test_settings_survive_json_and_say_the_choices_that_make_them(mutag, choices):
    found = settings(mutag, **choices)
    assert Settings.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert resolve(Options.of(found, {}), mutag, "MUTAG") == found


def test_a_missing_setting_is_named():
    with pytest.raises(ValueError, match="architecture is missing"):
        Settings.from_dict({})


def test_settings_are_read_where_their_device_is_not(mutag):
    """A run that was made on a GPU can be looked at anywhere."""
    data = settings(mutag).to_dict() | {"device": "cuda:99"}
    assert Settings.from_dict(data).device == "cuda:99"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "nestd"}, "unknown protocol 'nestd'; did you mean nested"),
        ({"budget": "huge"}, "unknown budget 'huge'; known: quick, standard, full"),
        ({"folds": 1}, "folds is 1, expected an integer ≥ 2"),
        ({"folds": 10.0}, "folds is 10.0"),
        (
            {"protocol": "split", "folds": 5},
            "folds is 5, but it goes with",
        ),
        ({"repeats": 0}, "repeats is 0, expected an integer ≥ 1"),
        (
            {"protocol": "split", "repeats": 3},
            "repeats is 3, but it goes with protocol nested or paper, and the protocol is split",
        ),
        (
            {"protocol": "nested", "split": "random"},
            "split is 'random', but it goes with protocol split",
        ),
        ({"split": "random", "folds": 5}, "folds is 5, but it goes with"),
        ({"protocol": "split", "split": "scafold"}, "unknown split 'scafold'; known: given, rando"),
        ({"protocol": "split", "split": "given"}, "MUTAG comes without a split; ask for --split"),
        ({"runs": 0}, "runs is 0, expected an integer ≥ 1"),
        ({"epochs": 0}, "epochs is 0, expected an integer ≥ 1"),
        ({"batch_size": -3}, "batch_size is -3, expected an integer ≥ 1"),
        ({"layers": 0}, "layers is 0, expected an integer ≥ 1"),
        ({"hidden": True}, "hidden is True, expected an integer ≥ 1"),
        ({"seed": -1}, "seed is -1, expected an integer ≥ 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected a number > 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan, expected a number > 0"),
        ({"learning_rate": (0.1, -0.1)}, "learning_rate is -0.1, expected a number > 0"),
        ({"learning_rate": (0.1, 0.1)}, "learning rate 0.1 is named more than once"),
        ({"learning_rate": ()}, "no learning rate; name at least one"),
        ({"learning_rate": "0.1"}, "learning_rate is '0.1', expected a number > 0"),
        ({"learning_rate": (0.1, "x")}, "learning_rate is 'x', expected a number > 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1, expected a number ≥ 0"),
        ({"margin": 0}, "margin is 0, expected a number > 0"),
        ({"norms": ()}, "nothing to compare with 'none'; name a norm"),
        ({"norms": ""}, "nothing to compare with 'none'; name a norm"),
        ({"norms": "none"}, "nothing to compare with 'none'; name a norm"),
        ({"norms": ("graph", "none", "graph")}, "norm 'graph' is named more than once"),
        ({"norms": ("pair:scale=2", "pair: scale=2")}, "norm 'pair:scale=2' is named more than"),
        ({"norms": ("grpah",)}, "unknown norm 'grpah'; did you mean graph"),
        ({"norms": "pair:scal=2"}, "unknown argument of pair 'scal'; did you mean scale"),
        ({"model": "gan"}, "unknown model 'gan'; did you mean gin"),
        ({"preset": "paper"}, "unknown preset 'paper'"),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; did you mean accuracy"),
        ({"metric": "mae"}, "metric 'mae' does not score classification tasks"),
        ({"norm_place": "between"}, "unknown norm_place 'between'"),
        ({"residual": "sometimes"}, "unknown residual_place 'sometimes'"),
        ({"model": "gps", "norm_place": "before-activation"}, "gps has post, pre, sandwich"),
        ({"model": "gin", "norm_place": "sandwich"}, "norm_place is sandwich, which is for gps"),
        ({"model": "gps", "residual": "none"}, "residual is none, but the parts of gps"),
        (
            {"model": "gps", "norm_place": "pre", "residual": "deepnorm"},
            "residual is deepnorm, where the norm follows the sum",
        ),
        ({"qk_norm": "rms"}, "qk_norm is rms, which is for gps, but the model is gin"),
        ({"edge_norm": "batch"}, "edge_norm is batch, which is for gatedgcn"),
        ({"heads": 0, "model": "gat"}, "heads is 0, expected an integer ≥ 1"),
        ({"heads": 5, "model": "gat"}, "hidden is 64, expected a multiple of the 5 heads"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
    ],
)
def test_impossible_values_are_refused_in_one_line(mutag, change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        settings(mutag, **change)
    assert "\n" not in str(caught.value)


def test_metrics_of_several_tasks_are_told_apart():
    answers = GraphSet(
        **{
            name: getattr(graphs, name)
            for graphs in (random_graphs(12),)
            for name in ("name", "x", "ptr", "edge_ptr", "edge_index", "features")
        },
        y=torch.zeros(12, 2),
        task=replace(random_graphs(2).task, kind="binary", targets=("a", "b")),
    )
    assert settings(answers).metric == "roc_auc"
    assert settings(answers, metric="average_precision").metric == "average_precision"
