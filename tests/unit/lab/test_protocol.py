"""From settings to paired trials, and every value that is refused."""

from __future__ import annotations

import json
import re

import pytest

from graphnorms.data import load_dataset
from graphnorms.lab import protocol
from graphnorms.lab.protocol import CompareSettings


@pytest.fixture(scope="module")
def mutag():
    return load_dataset("MUTAG")


def resolve(graphs, **changes) -> CompareSettings:
    arguments = {
        "dataset": "MUTAG",
        "norms": ("none", "batch", "graph"),
        "model": "gin",
        "preset": "default",
        "norm_place": None,
        "residual": None,
        "folds": 10,
        "epochs": None,
        "learning_rate": None,
        "weight_decay": None,
        "batch_size": None,
        "seed": 0,
        "device": "cpu",
    }
    return protocol.resolve(graphs, **(arguments | changes))


def test_trials_are_paired(mutag):
    trials = protocol.trials(resolve(mutag), mutag)

    assert len(trials) == 30
    assert len({trial.key for trial in trials}) == 30
    for fold in range(10):
        alike = [trial.to_dict() for trial in trials if trial.fold == fold]
        assert [trial.pop("norm") for trial in alike] == ["none", "batch", "graph"]
        assert alike[0] == alike[1] == alike[2], "the norm is all that differs"


def test_an_interruption_leaves_the_norms_balanced(mutag):
    trials = protocol.trials(resolve(mutag), mutag)
    for done in range(len(trials) + 1):
        counts = [
            sum(trial.norm == norm for trial in trials[:done])
            for norm in ("none", "batch", "graph")
        ]
        assert max(counts) - min(counts) <= 1


def test_no_two_folds_or_seeds_share_an_initialization(mutag):
    seeds = [
        trial.seed
        for seed in range(3)
        for trial in protocol.trials(resolve(mutag, seed=seed, norms="graph"), mutag)
    ]
    assert len(set(seeds)) == 30


def test_what_is_not_said_comes_from_the_preset(mutag):
    paper = resolve(mutag, preset="graphnorm-paper", epochs=7)
    assert (paper.epochs, paper.batch_size, paper.split_seed) == (7, 128, 9)
    assert paper.architecture["self_weight"] == 2.0
    assert resolve(mutag, weight_decay=0.5).weight_decay == 0.5


def test_the_paper_reads_social_graphs_by_the_mean(mutag):
    assert resolve(mutag, preset="graphnorm-paper").architecture["readout"] == "sum"
    social = load_dataset("MUTAG", features="degree")
    assert resolve(social, preset="graphnorm-paper").architecture["readout"] == "mean"


def test_norms_may_be_one_text(mutag):
    assert resolve(mutag, norms="none, graph").norms == ("none", "graph")


def test_settings_are_json(mutag):
    settings = resolve(mutag)
    assert json.loads(json.dumps(settings.to_dict()))["norms"] == ["none", "batch", "graph"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 1}, "folds must be an integer ≥ 2; got 1"),
        ({"folds": 10.0}, "folds must be an integer"),
        ({"epochs": 0}, "epochs must be an integer ≥ 1; got 0"),
        ({"batch_size": -3}, "batch size must be an integer ≥ 1; got -3"),
        ({"seed": -1}, "seed must be an integer ≥ 0; got -1"),
        ({"learning_rate": 0.0}, "learning rate must be a number > 0; got 0.0"),
        ({"learning_rate": float("nan")}, "learning rate must be a number > 0; got nan"),
        ({"weight_decay": -0.1}, "weight decay must be a number ≥ 0; got -0.1"),
        ({"norms": ()}, "no norms to compare"),
        ({"norms": ("graph", "none", "graph")}, "norm 'graph' is named more than once"),
        ({"norms": ("grpah",)}, "unknown norm 'grpah'; did you mean graph"),
        ({"model": "gan"}, "unknown model 'gan'; did you mean gin"),
        ({"preset": "paper"}, "unknown preset 'paper'"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
    ],
)
def test_impossible_values_are_refused_in_one_line(mutag, change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        resolve(mutag, **change)
    assert "\n" not in str(caught.value)


def test_places_of_norm_and_residual(mutag):
    chosen = resolve(mutag, norm_place="after-activation", residual="before-norm").architecture
    assert (chosen["norm_place"], chosen["residual"]) == ("after-activation", True)
    assert chosen["residual_place"] == "before-norm"
    paper = resolve(mutag, preset="graphnorm-paper", residual="none").architecture
    assert not paper["residual"]
    for change in ({"norm_place": "between"}, {"residual": "sometimes"}):
        with pytest.raises(ValueError, match=r"^unknown (norm|residual)_place '(betw|somet)"):
            resolve(mutag, **change)


def test_more_folds_than_members_of_a_class_are_refused(mutag):
    with pytest.raises(ValueError, match="64 folds need 64 or more members of every class"):
        protocol.trials(resolve(mutag, folds=64), mutag)
