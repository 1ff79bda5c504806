"""The options of a comparison: said once, and the same wherever they are read."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from typing import get_args, get_origin

import pytest
import typer

from graphnorms.cli.option_parameters import parameter
from graphnorms.data import load_dataset
from graphnorms.data.readers.read_options import Reading
from graphnorms.lab.budgets import BUDGETS
from graphnorms.lab.compare import compare
from graphnorms.lab.option_table import about
from graphnorms.lab.options import Options
from graphnorms.lab.repeat import command_of
from graphnorms.lab.resolve import resolve
from graphnorms.lab.settings import Settings
from graphnorms.models import FORCE_MODELS, MODELS
from graphnorms.models.attention import QK_NORMS
from graphnorms.models.model_config import BLOCK_PLACES, PRESETS, RESIDUALS
from graphnorms.models.norm_slot import NORM_PLACES
from graphnorms.training import METRICS

NAMES = [each.name for each in fields(Options)]


def test_compare_has_a_parameter_for_every_option_in_the_same_order():
    given = inspect.signature(compare).parameters
    assert [name for name in given if name not in ("dataset", "progress")] == NAMES
    assert {name: given[name].default for name in NAMES} == {
        each.name: each.default for each in fields(Options)
    }


def test_compare_documents_every_option():
    text = inspect.cleandoc(compare.__doc__ or "")
    arguments = text[text.index("Args:") : text.index("Raises:")]
    documented = re.findall(r"^    (\w[\w, ]*):", arguments, flags=re.MULTILINE)
    assert [name for line in documented for name in line.split(", ")] == [
        "dataset",
        *NAMES,
        "progress",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_has_every_option_with_its_help(name):
    made = parameter(name)
    assert get_origin(made.annotation) is not None
    _, option = get_args(made.annotation)
    assert isinstance(option, typer.models.OptionInfo)
    assert option.help == about(name).help


def test_words_are_those_of_what_they_name():
    assert set(about("model").words) == {*MODELS, *FORCE_MODELS}
    assert set(about("preset").words) == set(PRESETS)
    assert set(about("metric").words) == set(METRICS)
    assert set(about("budget").words) == set(BUDGETS)
    assert set(about("norm_place").words) == {*NORM_PLACES, *BLOCK_PLACES}
    assert set(about("residual").words) == {"none", *RESIDUALS}
    assert set(about("qk_norm").words) == set(QK_NORMS)


def test_data_are_read_by_options_of_theirs():
    asked = Options(features="degree", keep_loops=False, drop_rare=3, epochs=2)
    assert asked.reading == {"features": "degree", "keep_loops": False, "drop_rare": 3}
    Reading(**asked.reading)
    by_scaffold = Options(split="scaffold:hashed")
    assert by_scaffold.reading == {"split_by": "scaffold:hashed"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"folds": True}, "an integer"),
        ({"epochs": 0}, "an integer ≥ 1"),
        ({"learning_rate": (0.1, -1)}, "a number > 0"),
        ({"margin": float("nan")}, "a number > 0"),
        ({"weight_decay": 10**400}, "a number ≥ 0"),
        ({"protocol": 3}, "text"),
        ({"out": 3}, "a folder"),
        ({"group_twins": "yes"}, "true or false"),
        ({"model": 3}, "a name"),
        ({"timeout": 0}, ".* in seconds"),
    ],
)
def test_a_value_is_checked_by_its_option(given, expected):
    ((name, _),) = given.items()
    with pytest.raises(ValueError, match=f"^{name} is .*expected {expected}"):
        Options(**given).check()


@pytest.mark.parametrize(
    ("given", "protocol"),
    [
        ({"folds": 3}, "split"),
        ({"repeats": 3}, "split"),
        ({"split": "random"}, "nested"),
        ({"patience": 3}, "paper"),
    ],
)
def test_an_option_of_another_protocol_is_refused(given, protocol):
    with pytest.raises(ValueError, match=f"the protocol is {protocol}"):
        resolve(Options(**given, protocol=protocol), load_dataset("MUTAG"), "MUTAG")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"protocol": "paper", "repeats": 2, "residual": "before-norm"},
        {"protocol": "split", "split": "random", "group_twins": True},
        {"model": "gps", "norm_place": "pre", "qk_norm": "rms", "heads": 2},
        {"vary": {"layers": [2, 4], "weight_decay": [0, 0.1]}, "hidden": 8, "norms": "none,graph"},
        {"vary": {"model": ["gcn", "gin"], "residual": ["none", "after-norm"]}},
        {"margin": 1, "weight_decay": 1, "learning_rate": 1, "norms": "graph,pair:scale=2"},
        {"optimizer": "adamw", "schedule": "cosine", "warmup": 5, "clip": 1, "patience": 10},
        {"optimizer": "sgd:momentum=0.5", "dropout": 0, "schedule": "constant"},
        {"model": "gps", "dropout": 0.1},
        {"vary": {"model": ["gin", "gps"], "dropout": [0, 0.5]}},
        {"vary": {"model": ["gin", "gps"]}},
    ],
)
def test_settings_come_back_as_options_and_as_a_command(given):
    graphs = load_dataset("MUTAG")
    settings = resolve(Options(**given), graphs, "MUTAG")
    again = Options.of(settings, {"features": "degree"})
    assert resolve(again, graphs, "MUTAG") == settings
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert again.features == "degree"
    words = command_of(settings, {"keep_loops": False, "split_by": "scaffold:hashed"}).split()
    assert words[:3] == ["graphnorms", "compare", "MUTAG"]
    assert "--drop-loops" in words
    assert words[words.index("--split") + 1] == "scaffold:hashed"


def test_later_settings_are_left_out_at_their_defaults_and_adamw_decays():
    graphs = load_dataset("MUTAG")
    settings = resolve(Options(), graphs, "MUTAG")
    later = {"optimizer", "warmup", "clip", "patience"}
    assert settings.to_dict().keys().isdisjoint(later)
    assert "optimizer" not in command_of(settings, {})
    assert settings.weight_decay == 0
    assert resolve(Options(optimizer="adamw"), graphs, "MUTAG").weight_decay == 0.01
    assert resolve(Options(optimizer="adamw", weight_decay=0), graphs, "MUTAG").weight_decay == 0
    with pytest.raises(ValueError, match="warmup is 50, expected fewer than the 50 epochs"):
        resolve(Options(warmup=50), graphs, "MUTAG")
