"""The trials of a comparison, against the same trials written with PyG, in as many processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final

import torch

from graphnorms.bench import pyg_layers
from graphnorms.bench.epoch_times import PYG
from graphnorms.bench.number_checks import Check
from graphnorms.bench.pyg_trial import PygData, pyg_trial
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session
from graphnorms.bench.timing import summary
from graphnorms.data import GraphSet, SplitConfig, load_dataset, random_graphs
from graphnorms.lab.engines import Engine, default_workers, make_engine
from graphnorms.layers.catalog import CATALOG
from graphnorms.models import ModelConfig
from graphnorms.training import TrialConfig, run_trial
from graphnorms.version import __version__

OURS: Final = "graphnorms"
_WITH_REASONS: Final = f"{OURS}, with reasons"
_MODEL: Final[dict[str, Any]] = {"name": "gin", "dropout": 0.0}
_NORMS: Final = ("none", "batch", "layer", "instance", "graph")
_TOLERANCE: Final = 1e-6
"""In float64, after two steps. A bias in front of GraphNorm begins with a gradient of 0, of which
Adam divides the rounding errors by themselves: 1e-7 from the second step on."""
_MOST_ROUNDS: Final = 3
"""A round takes a minute: the times are of many trials, and vary little."""


@dataclass(frozen=True)
class _Protocol:
    """How much is trained on each set.

    Args:
        random: Number of random graphs, and of their nodes on average; empty for MUTAG.
        folds: How many of the ten folds are tested.
        rates: Learning rates.
        epochs: Passes over the training graphs.
    """

    random: tuple[int, ...]
    folds: int
    rates: tuple[float, ...]
    epochs: int

    @cached_property
    def graphs(self) -> GraphSet:
        """The set."""
        return random_graphs(*self.random) if self.random else load_dataset("MUTAG")

    def configs(self, norms: tuple[str, ...], device: str) -> list[TrialConfig]:
        """List the trials: every fold × rate × norm."""
        model = ModelConfig(**_MODEL).to_dict()
        return [
            TrialConfig(
                dataset=self.graphs.name,
                fingerprint=self.graphs.fingerprint,
                model=model,
                norm=norm,
                split=SplitConfig(kind="fold", folds=10, fold=fold).to_dict(),
                stage="final",
                run=0,
                metric="accuracy",
                epochs=self.epochs,
                batch_size=32,
                learning_rate=rate,
                schedule="linear",
                weight_decay=0.0,
                seed=fold,
                device=device,
                dtype="float32",
                graphnorms_version=__version__,
                torch_version=torch.__version__,
            )
            for fold in range(self.folds)
            for rate in self.rates
            for norm in norms
        ]


def measure(session: Session) -> Iterator[Case]:
    """Time all trials of a small comparison, on MUTAG and on 2000 graphs of NCI1's size.

    All sides run in the same engine, on processes that have loaded everything before. PyG's is
    written as in its examples, and once more with torch's fused Adam, which ours uses. Dropout
    is off. Every side evaluates the same: the training and validation graphs after each epoch,
    the test graphs where that was the best so far. What `compare` measures in reported trials for
    its reasons, which PyG's side has not, is a column of its own.

    Raises:
        GraphnormsError: PyG is not installed.
        WrongNumbersError: The trials do not compute the same.
    """
    settings = session.settings
    pyg_layers.load()
    norms = tuple(_norms_of(session))
    workers = 0 if settings.quick else default_workers(settings.device)
    for protocol in _protocols(quick=settings.quick):
        graphs, configs = protocol.graphs, protocol.configs(norms, settings.device)
        data = PygData.of(graphs, configs)
        session.checks += check_trials(graphs, data, configs)
        sides: dict[str, tuple[Callable[..., Any], Any]] = {
            OURS: (partial(run_trial, measured=False), graphs),
            _WITH_REASONS: (run_trial, graphs),
            PYG: (pyg_trial, data),
            f"{PYG}, fused Adam": (partial(pyg_trial, fused=True), data),
        }
        with ExitStack() as stack:
            engines = {
                name: stack.enter_context(make_engine("local", *side, workers=workers))
                for name, side in sides.items()
            }
            for engine in engines.values():  # once beforehand, so that all processes are up
                _seconds(engine, [replace(config, epochs=1) for config in configs])
            actions: dict[str, Callable[[], float]] = {
                name: partial(_seconds, engine, configs) for name, engine in engines.items()
            }
            beside = session.elsewhere(
                OURS,
                "trials",
                dataset=graphs.name,
                random=protocol.random,
                configs=[config.to_dict() for config in configs],
                model=_MODEL,  # another version has other defaults beside
                workers=workers,
            )
            actions |= {name: partial(one.seconds, 1) for name, one in beside.items()}
            samples: dict[str, list[float]] = {name: [] for name in actions}
            for number in range(min(settings.rounds, _MOST_ROUNDS)):
                for name in list(actions)[:: -1 if number % 2 else 1]:
                    samples[name].append(actions[name]())
        title = (
            f"{graphs.name}: {len(configs)} trials ({protocol.folds} folds × {len(norms)} norms × "
            f"{len(protocol.rates)} learning rates) of {protocol.epochs} epochs; GIN, 4 layers × "
            f"64, batches of 32; float32, {workers or 1} at a time, one thread each"
        )
        session.say(f"{title}: done")
        where = {"dtype": "float32", "threads": 1, "graphs": len(graphs), "trials": len(configs)}
        values = {name: summary(times) for name, times in samples.items()}
        yield Case(title, where, "seconds", values, (OURS, PYG))


def check_trials(graphs: GraphSet, data: PygData, configs: list[TrialConfig]) -> list[Check]:
    """Compare the losses of two epochs in float64, for each norm.

    In one batch, where the order of the graphs, which each side draws in its own way, does not
    matter: in several, the batches would be others.

    Raises:
        WrongNumbersError: They differ.
    """
    checks = []
    for config in {config.norm: config for config in configs}.values():
        config = replace(config, dtype="float64", epochs=2, batch_size=len(graphs))
        found, exact = (
            trial.history for trial in (pyg_trial(config, data), run_trial(config, graphs))
        )
        error = max(
            abs(one - other)
            for name in ("train_loss", "train_score", "validation_loss", "validation_score")
            for one, other in zip(found[name], exact[name], strict=True)
        )
        who = f"{PYG}, {graphs.name}, {CATALOG[config.norm].title}"
        checks.append(Check(who, "graphnorms in float64", "float64", error, _TOLERANCE).require())
    return checks


def _protocols(*, quick: bool) -> tuple[_Protocol, ...]:
    if quick:
        return (_Protocol((40, 8), folds=1, rates=(0.01,), epochs=1),)
    return (
        _Protocol((), folds=2, rates=(0.003, 0.01), epochs=30),
        _Protocol((2000,), folds=1, rates=(0.003, 0.01), epochs=3),
    )


def _norms_of(session: Session) -> Iterator[str]:
    for row in session.settings.rows_of_catalog(*_NORMS):
        if row.name == "none" or (row.name in CATALOG and pyg_layers.twin(row, 64) is not None):
            yield row.name
        else:
            session.note(f"{row.title} left out: PyG has none that takes features and batch alone")


def _seconds(engine: Engine, configs: list[TrialConfig]) -> float:
    begin = time.perf_counter()
    for record in engine.run(configs):
        if record.status != "done":
            raise RuntimeError(f"a trial failed: {record.reason}")
    return time.perf_counter() - begin
