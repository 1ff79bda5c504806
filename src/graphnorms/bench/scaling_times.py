"""Cost per element against rows, channels, number of graphs and length of a segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch

from graphnorms.bench.bench_settings import Shape
from graphnorms.bench.contenders import COPY, LAYER_NORM, Problem, torchs_own
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances, labels
from graphnorms.bench.timing import forward_and_backward, in_turn

DEFAULT_NORM: Final = "graph"
"""The norm that is measured by default."""

MINIBATCH: Final = 128  # graphs
NODES: Final = 30  # of a graph, as molecules have


@dataclass(frozen=True)
class Sweep:
    """One quantity varied, the others kept.

    Args:
        name: The quantity, in words.
        kept: What is kept, in words.
        points: The value and the shape of each point.
    """

    name: str
    kept: str
    points: tuple[tuple[int, Shape], ...]


def sweeps(*, quick: bool) -> tuple[Sweep, ...]:
    """Return the sweeps: each quantity over as many orders of magnitude as fit in memory."""
    most = 10**3 if quick else 10**6
    width = 4 if quick else 16
    elements = 2**10 if quick else 2**21
    steps = [10**power for power in range(len(str(most)))]
    half_steps = sorted({*steps, *(3 * step for step in steps[:-1])})
    channels = [2**power for power in range(5 if quick else 11)]
    graphs = [count for count in half_steps if count * NODES <= most]
    return (
        Sweep(
            "rows",
            f"{MINIBATCH} graphs, {2 * width} channels",
            tuple(
                (n, _shape(n, 2 * width, min(n, MINIBATCH))) for n in half_steps if n >= MINIBATCH
            ),
        ),
        Sweep(
            "channels",
            f"{elements} elements, graphs of {NODES} rows",
            tuple((c, _shape(elements // c, c, max(elements // c // NODES, 1))) for c in channels),
        ),
        Sweep(
            "graphs",
            f"graphs of {NODES} rows, {2 * width} channels",
            tuple((g, _shape(g * NODES, 2 * width, g)) for g in graphs),
        ),
        Sweep(
            "segment length",
            f"{most} rows, {width} channels",
            tuple((n, _shape(most, width, most // n, even=True)) for n in half_steps),
        ),
    )


def measure(session: Session) -> Iterator[Case]:
    """Time forward and backward at every point of every sweep.

    Raises:
        WrongNumbersError: A layer computes something else than it should.
    """
    settings = session.settings
    rows = settings.rows_of_catalog(DEFAULT_NORM)
    if settings.shape is not None:
        session.note("scaling has sizes of its own: --rows, --channels and --graphs do nothing")
    for threads, dtype in settings.circumstances():
        for sweep in sweeps(quick=settings.quick):
            for value, shape in sweep.points[:: 3 if settings.quick else 1]:
                problem = Problem.make(shape, dtype, settings.device)
                own = [c for c in torchs_own(problem) if c.name in (COPY, LAYER_NORM)]
                contenders = [*own, *session.contenders(rows, problem)]
                grad_y = torch.randn_like(problem.x)
                actions = {c.name: forward_and_backward(c, problem.x, grad_y) for c in contenders}
                where = {**labels(shape, dtype, threads), "sweep": sweep.name, "value": value}
                values = in_turn(actions, settings.rounds, settings.device, queued=True)
                yield Case(
                    f"{sweep.name} ({sweep.kept}); {circumstances(dtype, threads)}",
                    where,
                    "seconds",
                    values,
                    (COPY, LAYER_NORM),
                    problem.x.numel(),
                )
                session.say(f"{sweep.name} = {value}; {circumstances(dtype, threads)}: done")


def _shape(rows: int, channels: int, graphs: int, *, even: bool = False) -> Shape:
    return Shape("scaling", rows, channels, graphs, even)
