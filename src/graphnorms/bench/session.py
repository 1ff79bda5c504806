"""One run of a benchmark: settings, checks, notes and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from graphnorms.bench import pyg_layers
from graphnorms.bench.bench_settings import Settings, Shape
from graphnorms.bench.beside import Beside, Elsewhere
from graphnorms.bench.contenders import (
    Contender,
    Problem,
    activations_of,
    groups_of,
    ours,
    theirs,
    title,
)
from graphnorms.bench.number_checks import Check, Exact, check_layer, check_twin
from graphnorms.errors import GraphnormsError
from graphnorms.layers.normalization import Normalization


class Session:
    """One run of one benchmark.

    Args:
        settings: How to run it.
        say: Receives progress, a line at a time.
        beside: Another installation, to be timed in the same turns.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None] = lambda line: None,
        beside: Beside | None = None,
    ) -> None:
        self.settings = settings
        self.beside = beside
        self.say = say
        self.checks: list[Check] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a remark for the reader of the result, once."""
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)

    def contenders(
        self, rows: Iterable[Normalization], problem: Problem, *, compiled: bool = False
    ) -> Iterator[Contender]:
        """Check and build the layers, each with every activation asked for, and PyG's twins.

        A twin with wrong numbers is left out, with a note.

        Args:
            rows: The rows of the catalogue.
            problem: Features and graphs for checks and timing.
            compiled: Whether to add the twins compiled.

        Raises:
            WrongNumbersError: A layer of the catalogue computes something else than it should.
        """
        for row in rows:
            plain = Exact.of(row, None, problem)
            for activation in activations_of(row, self.settings.activations):
                exact = plain if activation is None else Exact.of(row, activation, problem)
                self.checks += check_layer(row, activation, problem, exact)
                yield ours(row, activation, problem)
            yield from self._twins(row, problem, plain, compiled)

    def elsewhere(self, name: str, kind: str, **case: Any) -> dict[str, Elsewhere]:
        """Make a case of the installation beside, if there is one and it can do it.

        Args:
            name: What the case is called here.
            kind, case: See `graphnorms.bench.beside.Beside.make`.

        Returns:
            The case by its name in tables; a case that cannot be made is left out, with a note.
        """
        if self.beside is None:
            return {}
        called = self.beside.called(name)
        try:
            return {called: self.beside.make(kind, **case)}
        except GraphnormsError as error:
            self.note(f"{called} left out: {error}")
            return {}

    def layers_elsewhere(
        self, rows: Iterable[Normalization], problem: Problem, *, backward: bool = True
    ) -> dict[str, Elsewhere]:
        """Make the layers of the installation beside, each with every activation asked for."""
        if self.beside is None:
            return {}
        found: dict[str, Elsewhere] = {}
        for row in rows:
            for activation in activations_of(row, self.settings.activations):
                fused = {} if activation is None else {"activation": activation}
                found |= self.elsewhere(
                    title(row, activation),
                    "layer",
                    threads=torch.get_num_threads(),
                    norm=row.name,
                    arguments={**fused, **groups_of(row, problem)},
                    channels=problem.shape.channels,
                    counts=torch.bincount(problem.batch).tolist(),
                    dtype=str(problem.x.dtype).removeprefix("torch."),
                    backward=backward,
                )
        return found

    def _twins(
        self, row: Normalization, problem: Problem, exact: Exact, compiled: bool
    ) -> Iterator[Contender]:
        if not pyg_layers.is_installed():
            self.note(f"PyG is not installed and left out: {pyg_layers.INSTALL}")
            return
        for is_compiled in (False, True)[: 1 + compiled]:
            twin = theirs(row, problem, compiled=is_compiled)
            if twin is None:
                self.note(f"PyG has no {row.title} that takes features and batch alone")
                return
            check = check_twin(problem, twin, exact)
            self.checks.append(check)
            if check.passed:
                yield twin
            else:
                self.note(
                    f"{twin.name} left out: wrong numbers on {problem.shape} in {check.dtype}, "
                    f"off by {check.error:.1e}, allowed {check.allowed:.1e}"
                )


def labels(shape: Shape, dtype: torch.dtype, threads: int) -> dict[str, str | int]:
    """Return shape, dtype and threads of a case as data."""
    return {
        "shape": shape.name,
        "rows": shape.rows,
        "channels": shape.channels,
        "graphs": shape.graphs,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": threads,
    }


def circumstances(dtype: torch.dtype, threads: int) -> str:
    """Write dtype and threads in words."""
    name = str(dtype).removeprefix("torch.")
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


@contextmanager
def fresh_compiler() -> Iterator[None]:
    """Forget what was compiled before and after.

    Compiled layers of one class share their code: after a few shapes torch would stop compiling
    and time the eager layer under the name of the compiled one.
    """
    torch.compiler.reset()
    try:
        yield
    finally:
        torch.compiler.reset()
