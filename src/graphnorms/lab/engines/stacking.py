"""Trials that share their batches, handed to an engine several at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from graphnorms.lab.engines.attempt import Trial, attempt
from graphnorms.lab.engines.engine import Engine, OnProgress, Then

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.training import Record, TrialConfig

_ON_A_GPU: Final = 8  # not measured


@dataclass(frozen=True)
class Stack:
    """Trials that are trained at once; to an engine it is the config of a trial."""

    configs: tuple[TrialConfig, ...]

    @cached_property
    def key(self) -> str:
        """What tells it from others."""
        text = " ".join(config.key for config in self.configs)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return what the record of a stack that was lost says of it: nothing."""
        return {}


@dataclass(frozen=True)
class Outcome:
    """The records of a stack; to an engine it is the record of a trial."""

    key: str
    records: tuple[Record, ...]


def stack_size(choice: str | int | None, device: str) -> int:
    """Return how many trials to train at once; 1 is each alone.

    Args:
        choice: `"auto"` (or None): several on a GPU, which one small model leaves idle, and one
            on a CPU, where nothing is gained; `"off"`; or a number.
        device: Where models are trained.

    Raises:
        ValueError: It is none of these.
    """
    if choice is None or choice == "auto":
        return 1 if device == "cpu" else _ON_A_GPU
    if choice == "off":
        return 1
    if str(choice).isascii() and str(choice).isdigit() and int(choice) > 0:
        return int(choice)
    raise ValueError(f"stack is {choice!r}, expected auto, off or a number of trials")


def run_stacked(trial: Trial, stack: Any, dataset: GraphSet, on_epoch: Any) -> Outcome:
    """Train the trials of a stack at once; if that raises, each of them alone.

    Args:
        trial: The trial function, for those that are alone.
        stack: A `Stack`.
        dataset, on_epoch: Of the trial function.
    """
    from graphnorms.training.stacked import run_stack

    configs = stack.configs
    if len(configs) > 1:
        try:
            return Outcome(stack.key, tuple(run_stack(configs, dataset, on_epoch)))
        except Exception:  # a model that does not run, or too little memory for all of them
            pass
    return Outcome(
        stack.key, tuple(attempt(trial, config, dataset, on_epoch) for config in configs)
    )


class Stacking(Engine):
    """Hand trials to an engine in stacks.

    Trials that share their batches, see `graphnorms.training.stacked.stack_of`, come together, the
    norms of one name next to each other. A stack whose process died twice is taken apart.

    Args:
        engine: What runs them; its trial function is `run_stacked`.
        size: How many at most.
    """

    def __init__(self, engine: Engine, size: int) -> None:
        self._engine = engine
        self._size = size

    @property
    def workers(self) -> int:
        """See `Engine.workers`; how many stacks."""
        return self._engine.workers

    def run(
        self,
        configs: Iterable[TrialConfig],
        on_progress: OnProgress | None = None,
        then: Then | None = None,
    ) -> Generator[Record, None, None]:
        """See `Engine.run`."""
        seen: set[str] = set()
        stacks: dict[str, Stack] = {}  # all that were handed on
        later: list[Stack] = []

        def handed(new: Iterable[Stack]) -> list[Stack]:
            listed = list(new)
            stacks.update((stack.key, stack) for stack in listed)
            return listed

        def following(outcome: Any) -> list[Stack]:
            waiting = handed(later)
            later.clear()
            return waiting

        def tell(epochs: Mapping[str, int]) -> None:
            if on_progress is not None:
                on_progress({
                    config.key: min(number, config.epochs)
                    for key, number in epochs.items()
                    for config in stacks[key].configs
                })  # fmt: skip

        # An engine looks at the keys of what it is given, and passes it on.
        engine = cast(Any, self._engine)
        first = handed(self._stacked(configs, seen))
        with closing(engine.run(first, tell, following)) as ended:
            for outcome in ended:
                stack = stacks[outcome.key]
                if not isinstance(outcome, Outcome) and len(stack.configs) > 1:
                    later += [Stack((config,)) for config in stack.configs]
                    continue
                new: list[TrialConfig] = []
                for record in _records(outcome, stack):
                    yield record
                    if then is not None:
                        new += then(record)
                later += self._stacked(new, seen)

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def _stacked(self, configs: Iterable[TrialConfig], seen: set[str]) -> Iterator[Stack]:
        """Put trials that have not been here before together, in the order of their first."""
        from graphnorms.training.stacked import stack_of

        groups: dict[str, list[TrialConfig]] = {}
        for config in configs:
            if config.key not in seen:
                seen.add(config.key)
                groups.setdefault(stack_of(config) or config.key, []).append(config)
        for group in groups.values():
            group.sort(key=lambda config: config.norm)
            number = -(-len(group) // self._size)
            size = -(-len(group) // number)  # as few stacks as need be, all about as large
            for start in range(0, len(group), size):
                yield Stack(tuple(group[start : start + size]))


def _records(outcome: Outcome | Record, stack: Stack) -> Iterable[Record]:
    """Return the records of a stack; that of a lost one is the record of its only trial."""
    if isinstance(outcome, Outcome):
        return outcome.records
    config = stack.configs[0]
    return [replace(outcome, key=config.key, config=config.to_dict())]
