"""Every study: its texts, and that it has tests of its own."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from graphnorms.studies.evidence import decide
from graphnorms.studies.study import VERDICTS, Settings
from graphnorms.studies.study_list import LIMITS, NAMES, TOPICS, study_named

HERE = Path(__file__).parent


def test_every_study_has_a_question():
    assert list(TOPICS) == list(NAMES)
    assert all(topic.endswith("?") for topic in TOPICS.values())


def test_limits_are_of_studies_that_there_are():
    assert set(LIMITS) < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_study_says_everything(name):
    study = study_named(name)
    assert study.name == name
    for text in (study.claim, study.source, study.prediction, study.protocol, study.rule):
        assert text
        assert text == " ".join(text.split())
    assert "https://" in study.source
    assert any(character.isdigit() for character in study.rule + study.prediction)
    assert 0 < study.seconds <= 200
    assert study.cases(Settings(size="tiny"))
    assert len(inspect.getsource(inspect.getmodule(study.measure)).splitlines()) <= 340


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"preconditioning"}))
def test_the_protocol_has_the_seeds_and_steps_of_the_code(name):
    study = study_named(name)
    module = inspect.getmodule(study.measure)
    assert f"{module.SEEDS['default']} seeds" in study.protocol
    cases = study.cases(Settings())
    assert max(case["seed"] for case in cases) + 1 == module.SEEDS["default"]
    steps = getattr(module, "STEPS", {}).get("default")
    if isinstance(steps, int):
        assert f"{steps} steps" in study.protocol


@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_tests_that_run_it_and_reach_every_verdict(name):
    text = (HERE / f"test_{name.replace('-', '_')}.py").read_text()
    assert "run_tiny(STUDY)" in text
    assert all(f'"{verdict}"' in text for verdict in VERDICTS)


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_gives_other_cases(name):
    study = study_named(name)
    first, other = study.cases(Settings()), study.cases(Settings(seed=1))
    assert len(first) == len(other)
    seeds = [{case.get("seed") for case in cases} for cases in (first, other)]
    assert seeds[0].isdisjoint(seeds[1]) or seeds == [{None}, {None}]


def test_decide():
    assert decide(confirmed=True, refuted=False) == "confirmed"
    assert decide(confirmed=False, refuted=True) == "not confirmed"
    assert decide(confirmed=False, refuted=False) == "inconclusive"
    with pytest.raises(ValueError, match="confirmed and refuted the same numbers"):
        decide(confirmed=True, refuted=True)
