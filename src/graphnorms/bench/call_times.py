"""Microseconds per small call, where calls count and not bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from graphnorms.bench.bench_settings import QUICK_SHAPES, SMALL
from graphnorms.bench.contenders import BASELINES, Contender, Problem, build, torchs_own
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances, labels
from graphnorms.bench.timing import forward, forward_and_backward, in_turn
from graphnorms.layers.catalog import CATALOG
from graphnorms.segments import Segments


def measure(session: Session) -> Iterator[Case]:
    """Time small calls: forward without a graph, and forward with backward.

    Raises:
        WrongNumbersError: A layer computes something else than it should.
    """
    settings = session.settings
    small = next(shape for shape in QUICK_SHAPES if shape.name == SMALL.name)
    shape = settings.shape or (small if settings.quick else SMALL)
    rows = settings.rows_of_catalog()
    for threads, dtype in settings.circumstances():
        problem = Problem.make(shape, dtype, settings.device)
        contenders = [
            *torchs_own(problem),
            *session.contenders(rows, problem),
            *_ways_to_say_batch(problem),
        ]
        grad_y = torch.randn_like(problem.x)
        passes: dict[str, dict[str, Callable[[], object]]] = {
            "forward without gradients": {c.name: forward(c, problem.x) for c in contenders},
            "forward + backward": {
                c.name: forward_and_backward(c, problem.x, grad_y) for c in contenders
            },
        }
        for words, actions in passes.items():
            title = f"{shape}; {circumstances(dtype, threads)}; {words}"
            where = {**labels(shape, dtype, threads), "pass": words}
            both = words == "forward + backward"
            beside = session.layers_elsewhere(rows, problem, backward=both)
            values = in_turn({**actions, **beside}, settings.rounds, settings.device)
            session.say(f"{title}: done")
            yield Case(title, where, "seconds", values, BASELINES, problem.x.numel())


def _ways_to_say_batch(problem: Problem) -> list[Contender]:
    """Build GraphNorm given its graphs in the ways that differ in price.

    Everything else is timed on a batch vector that was seen before, as the second layer of a
    model meets it. The first layer meets a new one.
    """
    layer = build(CATALOG["graph"], problem, problem.x.dtype)
    batch, graphs = problem.batch, problem.shape.graphs
    segments = Segments.from_batch(batch, graphs)
    return [
        Contender("GraphNorm, given Segments", lambda x: layer(x, segments), layer),
        Contender("GraphNorm, new batch", lambda x: layer(x, batch.clone(), graphs), layer),
    ]
