"""A step of force training through one layer: forward, backward, and the backward of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor

from graphnorms.bench.bench_settings import QUICK_SHAPES, Shape
from graphnorms.bench.contenders import LAYER_NORM, Contender, Problem, torchs_own
from graphnorms.bench.number_checks import check_forces, of_energy_and_force
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances, labels
from graphnorms.bench.timing import in_turn

SHAPES: Final = (
    Shape("20000 rows", 20000, 64, 1000),
    Shape("2000 rows", 2000, 64, 100),
    Shape("200 rows", 200, 64, 10),
)
_PYG_GRAPH_NORM: Final = "PyG GraphNorm"


def measure(session: Session) -> Iterator[Case]:
    """Time a force step of LayerNorm, RMSNorm and GraphNorm.

    The energy is a function of y, and the loss one of energy and force; γ, β and α get gradients
    from the loss alone, as in training.

    Raises:
        WrongNumbersError: A layer computes something else than it should, in the second derivative
            too.
    """
    settings = session.settings
    shapes = SHAPES if settings.standard else settings.shapes()
    if settings.quick and settings.shape is None:
        shapes = QUICK_SHAPES[:1]
    for threads, dtype in settings.circumstances():
        for shape in shapes:
            problem = Problem.make(shape, dtype, settings.device)
            contenders = list(_contenders(session, problem))
            generator = torch.Generator().manual_seed(2)
            cotangents = [
                torch.randn(problem.x.shape, generator=generator).to(problem.x) for _ in range(3)
            ]
            steps = {c.name: _step(c, problem.x, cotangents) for c in contenders}
            title = f"{shape}; {circumstances(dtype, threads)}; force step"
            values = in_turn(steps, settings.rounds, settings.device)
            session.say(f"{title}: done")
            baselines = tuple(name for name in (_PYG_GRAPH_NORM, LAYER_NORM) if name in values)
            where = labels(shape, dtype, threads)
            yield Case(title, where, "seconds", values, baselines, problem.x.numel())


def _contenders(session: Session, problem: Problem) -> Iterator[Contender]:
    yield next(c for c in torchs_own(problem) if c.name == LAYER_NORM)
    for row in session.settings.rows_of_catalog("layer", "rms", "graph"):
        session.checks += check_forces(row, problem)
        for contender in session.contenders([row], problem):
            # The rival of statistics within rows is nn.LayerNorm.
            if row.point.spans_rows or not contender.name.startswith("PyG "):
                yield contender


def _step(contender: Contender, x: Tensor, cotangents: list[Tensor]) -> Callable[[], object]:
    leaf, *others = (t.detach().clone().requires_grad_() for t in (x, *cotangents))
    return lambda: of_energy_and_force(contender.call, contender.parameters(), leaf, others)
