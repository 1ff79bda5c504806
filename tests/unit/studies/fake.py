"""A study that costs nothing, for tests of what runs studies.

`python -m tests.unit.studies.fake FOLDER` runs it in a process of its own, to be killed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphnorms.report.text_table import TextTable
from graphnorms.studies.evidence import decide
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import (
    Case,
    Finding,
    Measurement,
    Settings,
    Study,
    Values,
)

CASES = 6


def make_study(
    notes: Path | None = None, *, seconds: float = 0.0, broken: bool = False, **texts: Any
) -> Study:
    """Make a study whose cases take so long and are noted in a file when they begin.

    Its functions stand inside a function, which cloudpickle sends to workers by value.
    """

    def cases(settings: Settings) -> list[Case]:
        number = settings.pick(tiny=3, default=CASES, full=2 * CASES)
        return [
            {"norm": norm, "seed": seed} for seed in range(number) for norm in ("none", "graph")
        ]

    def measure(case: Case, settings: Settings) -> Values:
        if notes is not None:
            with notes.open("a") as file:
                file.write(f"{case['norm']}-{case['seed']}\n")
        time.sleep(seconds)
        if broken:
            raise RuntimeError("the disk\nis made of cheese")
        value = int(case["seed"]) + settings.seed + 10 * (case["norm"] == "graph")
        return {"value": value / 3, "missing": float("nan"), "curve": [1.0, float("inf")]}

    def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
        means = [
            sum(m.values["value"] for m in chosen) / len(chosen)
            for chosen in (where(measurements, norm=norm) for norm in ("graph", "none"))
        ]
        difference = means[0] - means[1]
        return Finding(
            decide(confirmed=difference > 1, refuted=difference < 0),
            f"They differ by {difference:.2f}.",
            {"difference": difference, "unknown": float("nan")},
            (TextTable("Means", ("[norm]", "mean"), (("graph", f"{means[0]:.2f} [-]"),)),),
        )

    def draw(measurements: Sequence[Measurement]) -> Any:
        from graphnorms.studies.drawing import label_axes, new_figure

        figure, (axis,) = new_figure()
        axis.plot([m.values["value"] for m in measurements])
        label_axes(axis, "case", "value")
        return figure

    study = Study(
        name="gradient-flow",
        claim="Cheese is a norm.",
        source="Nobody 2020, https://example.org/cheese.",
        prediction="More than 1.",
        protocol="Numbers.",
        rule="Confirmed above 1, not confirmed below 0.",
        seconds=1,
        cases=cases,
        measure=measure,
        judge=judge,
        draw=draw,
    )
    return replace(study, **texts)


if __name__ == "__main__":
    from graphnorms.studies.runner import run_study

    folder = Path(sys.argv[1])
    study = make_study(folder / "notes", seconds=0.3)
    run_study(study, Settings(), folder, workers=1, command="fake")
