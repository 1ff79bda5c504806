"""A step of force training through one layer: forward, backward, and the backward of both."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import torch

from graphnorms.bench import equivariant_times
from graphnorms.bench.bench_settings import Shape
from graphnorms.bench.contenders import LAYER_NORM, Contender, Problem, torchs_own
from graphnorms.bench.force_training import measure_training
from graphnorms.bench.number_checks import check_forces
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances, labels
from graphnorms.bench.timing import force_step, in_turn
from graphnorms.layers.normalization import Normalization

SHAPES: Final = (
    Shape("20000 rows", 20000, 64, 1000),
    Shape("2000 rows", 2000, 64, 100),
    Shape("200 rows", 200, 64, 10),
)


def measure(session: Session) -> Iterator[Case]:
    """Time a force step of LayerNorm and RMSNorm beside `nn.LayerNorm`, GraphNorm beside PyG's.

    The energy is a function of y, and the loss one of energy and force; γ, β and α get gradients
    from the loss alone, as in training. Norms of features that rotate follow, beside their peers,
    and at last a training step of a whole model.

    Raises:
        WrongNumbersError: A layer computes something else than it should, in the second derivative
            too.
    """
    settings = session.settings
    shapes = SHAPES if settings.standard else settings.shapes()[:1]
    rows = settings.rows_of_catalog("layer", "rms", "graph")
    groups = {
        "within rows": [row for row in rows if not row.point.spans_rows],
        "over nodes": [row for row in rows if row.point.spans_rows],
    }
    for threads, dtype in settings.circumstances():
        for shape, (where, group) in itertools.product(shapes, groups.items()):
            if not group:
                continue
            problem = Problem.make(shape, dtype, settings.device)
            contenders = list(_contenders(session, group, problem))
            generator = torch.Generator().manual_seed(2)
            cotangents = [
                torch.randn(problem.x.shape, generator=generator).to(problem.x) for _ in range(3)
            ]
            steps = {c.name: force_step(c, problem.x, cotangents) for c in contenders}
            values = in_turn(steps, settings.rounds, settings.device)
            title = f"{where}, {shape}; {circumstances(dtype, threads)}; force step"
            session.say(f"{title}: done")
            baseline = next((name for name in values if name.startswith("PyG ")), LAYER_NORM)
            about = {**labels(shape, dtype, threads), "statistics": where}
            yield Case(title, about, "seconds", values, (baseline,), problem.x.numel())
    if not settings.norms:
        yield from equivariant_times.measure(session, shapes[-2:])
        yield from measure_training(session)


def _contenders(
    session: Session, rows: list[Normalization], problem: Problem
) -> Iterator[Contender]:
    yield next(c for c in torchs_own(problem) if c.name == LAYER_NORM)
    for row in rows:
        session.checks += check_forces(row, problem)
        for contender in session.contenders([row], problem):
            # The rival of statistics within rows is nn.LayerNorm.
            if row.point.spans_rows or not contender.name.startswith("PyG "):
                yield contender
