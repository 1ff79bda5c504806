"""Passes over large sets and large graphs, against PyG: seconds and the peak of memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from graphnorms.bench import pyg_layers
from graphnorms.bench.number_checks import Check
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session
from graphnorms.bench.size_problems import Problem, problems
from graphnorms.bench.size_worker import MAPPED, OURS, PYG, Worker
from graphnorms.bench.timing import summary

_EXACT: Final = 1e-8
"""In float64: the normalizations behind each other lose a digit or two."""

_SINGLE: Final = 1e-3
"""In float32, the first loss before a step; PyG sums without a pivot."""

_MOST_ROUNDS: Final = 3
"""A pass takes seconds: it is of many operations, and varies little."""


def measure(session: Session) -> Iterator[Case]:
    """Train GIN with GraphNorm on sets of each size, every side in a process of its own.

    The processes of one problem are there together and train in turn, from the same weights, on
    the same graphs in the same order. Their memory is what they hold at most beyond what they held
    with everything imported, the data included.

    Raises:
        GraphnormsError: PyG is not installed.
        WrongNumbersError: The sides have different losses.
    """
    settings = session.settings
    pyg_layers.load()
    if settings.device != "cpu":
        session.note("size is measured on the cpu alone")
    sweeps: dict[str, list[Case]] = {}
    for threads in settings.threads:
        for problem in problems(settings.data, quick=settings.quick):
            case = _measured(session, problem, threads)
            if problem.sweep:
                before = sweeps.setdefault(f"{problem.sweep}, {threads}", [])
                before.append(case)
                case = _with_growth(case, before)
            session.say(f"{case.title}: done")
            yield case


def _measured(session: Session, problem: Problem, threads: int) -> Case:
    size = {
        "sample": problem.sample,
        "batch": problem.batch,
        "layers": problem.layers,
        "hidden": problem.hidden,
        "threads": threads,
    }
    sides = (OURS, PYG, MAPPED) if problem.packed else (OURS, PYG)
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        packed = Path(folder) / "set"
        problem.graphs.save(packed)
        workers = {side: stack.enter_context(Worker(side, packed, size)) for side in sides}
        exact = {side: worker.answer()["loss"] for side, worker in workers.items()}
        rounds = 1 + min(session.settings.rounds, _MOST_ROUNDS)  # the first does not count
        for number in range(rounds):
            for side in sides[:: -1 if number % 2 else 1]:
                samples[side].append(workers[side].ask("pass"))
        peaks = {side: worker.ask("end") for side, worker in workers.items()}
    for side in sides[1:]:
        pairs = (
            (exact[side], exact[OURS], "float64", _EXACT),
            (samples[side][0]["loss"], samples[OURS][0]["loss"], "float32", _SINGLE),
        )
        for found, expected, dtype, allowed in pairs:
            error = abs(found - expected) / max(abs(expected), 1e-30)
            who = f"{side}, {problem.title}, loss"
            session.checks.append(Check(who, OURS, dtype, error, allowed).require())
    title = (
        f"{problem.title}: GIN, {problem.layers} layers × {problem.hidden}, GraphNorm; "
        f"{problem.sample} graphs in batches of {problem.batch}; float32, "
        f"{threads} thread{'s' * (threads > 1)}"
    )
    where: dict[str, Any] = {"dtype": "float32", **size, "graphs": len(problem.graphs)}
    where |= {"nodes": problem.graphs.num_nodes, "edges": problem.graphs.num_edges}
    where |= {"varied": problem.sweep, "value": problem.value} if problem.sweep else {}
    values = {}
    for side in sides:
        counted = samples[side][1:]
        values[side] = {
            **summary([sample["seconds"] for sample in counted]),
            "processor": min(sample["processor"] for sample in counted),
            **peaks[side],
        }
    return Case(title, where, "costs", values, (PYG,))


def _with_growth(case: Case, sweep: list[Case]) -> Case:
    """Add the exponents with which costs have grown from the first size to this: 1 is linear."""
    first = sweep[0]
    if first is case:
        return case
    times = math.log(case.labels["value"] / first.labels["value"])
    values = {
        side: {
            **costs,
            **{
                f"{key} grows": math.log(costs[key] / first.values[side][key]) / times
                for key in ("minimum", "peak")
            },
        }
        for side, costs in case.values.items()
    }
    return Case(case.title, case.labels, case.unit, values, case.baselines)
