"""Every layer against PyG's, eager and compiled, torch's own, and a plain copy."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from graphnorms.bench.bench_settings import Shape
from graphnorms.bench.contenders import BASELINES, Contender, Problem, torchs_own
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances, fresh_compiler, labels
from graphnorms.bench.timing import forward_and_backward, in_turn


def measure(session: Session) -> Iterator[Case]:
    """Time forward and backward of every layer on every shape.

    Raises:
        WrongNumbersError: A layer computes something else than it should.
    """
    for threads, dtype in session.settings.circumstances():
        for shape in session.settings.shapes():
            yield _one_shape(session, shape, dtype, threads)


def _one_shape(session: Session, shape: Shape, dtype: torch.dtype, threads: int) -> Case:
    settings = session.settings
    begin = time.perf_counter()
    problem = Problem.make(shape, dtype, settings.device)
    with fresh_compiler():
        contenders = _contenders(session, problem)
        checked = time.perf_counter()
        grad_y = torch.randn_like(problem.x)
        actions = {c.name: forward_and_backward(c, problem.x, grad_y) for c in contenders}
        beside = session.layers_elsewhere(settings.rows_of_catalog(), problem)
        values = in_turn({**actions, **beside}, settings.rounds, settings.device, queued=True)
    title = f"{shape}; {circumstances(dtype, threads)}; forward + backward"
    session.say(
        f"{title}: built and checked in {checked - begin:.0f} s, "
        f"timed in {time.perf_counter() - checked:.0f} s"
    )
    where = labels(shape, dtype, threads)
    return Case(title, where, "seconds", values, BASELINES, problem.x.numel())


def _contenders(session: Session, problem: Problem) -> list[Contender]:
    rows = session.settings.rows_of_catalog()
    ours_and_theirs = session.contenders(rows, problem, compiled=session.settings.compiled)
    return [*torchs_own(problem), *ours_and_theirs]
