"""Calibration: a true and a false world of every study that has them, and what is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphnorms.errors import GraphnormsError
from graphnorms.studies.calibration import (
    Calibration,
    calibrate,
    calibrated,
    load_calibrations,
    said_in,
    save_calibrations,
    worlds_of,
)
from graphnorms.studies.study import Settings
from graphnorms.studies.study_list import NAMES, study_named

FOUND = Calibration(
    "landscape",
    "true.",
    "false.",
    ("confirmed",) * 9 + ("inconclusive",),
    ("not confirmed",) * 10,
    1.0,
)


QUICK = {
    "activations",
    "gradient-flow",
    "residual-gradients",
    "preconditioning",
    "batch-noise",
}
"""Studies whose worlds take a fraction of a second each."""

IN_TURN = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.full("studies in their worlds"))
    for name in calibrated()
]


@pytest.mark.parametrize("name", IN_TURN)
@pytest.mark.parametrize("number", [0, 1], ids=["true", "false"])
def test_the_study_says_what_is_planted(name: str, number: int) -> None:
    right = ("confirmed", "not confirmed")[number]
    assert said_in(study_named(name), worlds_of(name)[number], seed=0) == right


@pytest.mark.parametrize("name", calibrated())
def test_what_is_planted_is_said(name: str) -> None:
    assert all(world.how.endswith(".") for world in worlds_of(name))


def test_nine_of_ten_right_in_both_worlds() -> None:
    assert FOUND.right == (9, 10)
    assert FOUND.passed
    assert not replace(FOUND, said_true=("confirmed",) * 8 + ("not confirmed",) * 2).passed
    assert not replace(FOUND, said_false=("not confirmed",) * 8 + ("confirmed",) * 2).passed


def test_a_calibration_asks_as_often_as_told() -> None:
    told = []
    found = calibrate("preconditioning", seeds=2, on_verdict=lambda *each: told.append(each))
    assert [(holds, seed) for holds, seed, _ in told] == [
        (True, 0),
        (True, 1),
        (False, 0),
        (False, 1),
    ]
    assert [verdict for *_, verdict in told] == [*found.said_true, *found.said_false]


def test_others_are_kept_in_the_file(tmp_path) -> None:
    path = tmp_path / "new" / "calibration.json"
    save_calibrations([FOUND], path)
    other = replace(FOUND, name="activations")
    save_calibrations([other], path)
    assert load_calibrations(path) == [other, FOUND]
    path.write_text('[{"name": 1}]')
    with pytest.raises(GraphnormsError, match="not the calibration of studies"):
        load_calibrations(path)


def test_studies_without_worlds_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        worlds_of("nothing")
    for name in set(NAMES) - set(calibrated()):
        with pytest.raises(ValueError, match="has no calibration worlds"):
            worlds_of(name)


def test_planted_seeds_are_others_for_every_seed() -> None:
    first, second = (
        set(Settings(size="planted", seed=seed).seeds(default=8, full=30)) for seed in (0, 1)
    )
    assert first.isdisjoint(second)


def test_intervals_of_claims_told_together_are_wider() -> None:
    assert Settings().together(19).confidence == pytest.approx(1 - 0.05 / 19)
    assert Settings().together(1) == Settings()
