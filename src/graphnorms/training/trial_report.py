"""What user code that trains reports: curves, checkpoints, and the weights that are kept."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from torch import Tensor, nn

from graphnorms.training.checkpoints import (
    Checkpoints,
    generator_states,
    restore,
    set_generators,
    state_of,
)
from graphnorms.training.trial_start import TrialStart

RENAMED: Final = {
    "val_loss": "validation_loss",
    "val_score": "validation_score",
    "val": "validation",
}

_OURS: Final = "of the lab"
"""The entry of a checkpoint that is not the user's."""


class Report:
    """Takes the curves of a trial: `report(step, train_loss=0.3, val_score=0.8)`.

    `train_loss`, `train_score`, `val_loss` and `val_score` are drawn; `train_score` is what norms
    are timed by. Other values are kept in the record. `report(0, model=model)` before the first
    step shows the initial weights, where they are not seen by themselves.

    A trial that was killed, or was over its time limit, goes on where it saved last:

        for epoch in range(report.load(model=model, optimizer=optimizer), 30):
            ...
            report.save(epoch + 1, model=model, optimizer=optimizer)

    Args:
        start: Sees the model.
        on_report: Called after each report.
        files: The files of the trial; None: nothing is saved.
        keeps: Whether the trial keeps weights: one that chooses a learning rate does not.
    """

    def __init__(
        self,
        start: TrialStart,
        on_report: Callable[[], None] | None = None,
        files: Checkpoints | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        self.history: dict[str, list[float]] = {}
        self.seconds: list[float] = []
        self._start, self._on_report = start, on_report
        self._files = files or Checkpoints(None, "")
        self._keeps = keeps
        self._begun = self._last = time.perf_counter()

    def __call__(self, step: float, *, model: nn.Module | None = None, **values: Any) -> None:
        """Report numbers.

        Args:
            step: The epoch or training step.
            model: The model, to be seen before its first step.
            values: The numbers by name.

        Raises:
            ValueError: One is not a number.
        """
        if model is not None:
            self._start.see(model)
        if not values:
            return
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        length = len(self.seconds)
        for name, value in {"step": step, **values}.items():
            column = self.history.setdefault(RENAMED.get(name, name), [])
            column += [math.nan] * (length - 1 - len(column))
            column.append(as_number(f"report: {name}", value))
        if self._on_report is not None:
            self._on_report()
        self._last = time.perf_counter()

    def save(self, step: int, **state: Any) -> None:
        """Replace the checkpoint of the trial; its curves and the generators go with it.

        It is removed when the trial has ended. A worker that does not see the run's folder saves
        nothing.

        Args:
            step: Epochs or steps that are done, which `load` returns.
            state: What has a `state_dict`, `torch.Generator`s, tensors, numbers, texts, or lists
                and mappings of these, by name.

        Raises:
            ValueError: Something has no such state.
            OSError: The file cannot be written.
        """
        saved = {name: state_of(name, value) for name, value in state.items()}
        if not self._files.usable:
            return
        ours = {
            "history": self.history,
            "seconds": self.seconds,
            "elapsed": self.elapsed,
            "start": self._start.seen(),
            "generators": generator_states(),
        }
        self._files.write({"step": step, **saved, _OURS: ours})
        self._last = time.perf_counter()

    @cached_property
    def checkpoint(self) -> dict[str, Any] | None:
        """What an earlier attempt of this trial saved, by name, and its `"step"`; None without one.

        Reading it takes up the curves where they were then.
        """
        found = self._files.read()
        if found is None:
            return None
        ours = found.pop(_OURS)
        self.history, self.seconds = ours["history"], ours["seconds"]
        self._begun -= ours["elapsed"]
        self._start.take_up(ours["start"])
        self._generators = ours["generators"]
        if self._on_report is not None:
            for _ in self.seconds:
                self._on_report()
        return found

    def load(self, **objects: Any) -> int:
        """Give objects the state of the checkpoint, and set the generators to theirs.

        Args:
            objects: What was saved and has a `load_state_dict`, or is a `torch.Generator`, by name.

        Returns:
            The step of the checkpoint; 0 if there is none, and then nothing is changed.

        Raises:
            ValueError: Something was not saved, or takes no state.
        """
        found = self.checkpoint
        if found is None:
            return 0
        for name, target in objects.items():
            if name not in found:
                raise ValueError(f"report.load: {name} was not saved; {', '.join(found)} were")
            restore(name, target, found[name])
        set_generators(self._generators)
        self._last = time.perf_counter()
        step: int = found["step"]
        return step

    def keep(self, **state: Any) -> None:
        """Keep the weights of a reported trial for the user, in place of those kept before.

        `graphnorms.lab.comparison.Comparison.kept` reads them. In trials that choose a learning
        rate nothing is kept.

        Args:
            state: As for `save`.

        Raises:
            ValueError: Something has no such state, or this machine does not see the run's folder.
            OSError: The file cannot be written.
        """
        kept = {name: state_of(name, value) for name, value in state.items()}
        if not self._keeps or self._files.folder is None:
            return
        if not self._files.usable:
            raise ValueError(
                f"report.keep: this machine has no folder {self._files.folder}, the run's; keep "
                "nothing, or put the run where every worker sees it (--out)"
            )
        self._files.keep(kept)
        self._last = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds of the trial, with those of earlier attempts up to their checkpoint."""
        return time.perf_counter() - self._begun

    def columns(self) -> dict[str, list[float]]:
        """Return the values by name, NaN where one was not reported."""
        length = len(self.seconds)
        return {
            name: column + [math.nan] * (length - len(column))
            for name, column in self.history.items()
        }


def as_number(what: str, value: Any) -> float:
    """Convert a number, a NumPy scalar or a tensor of one entry.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    plain = getattr(value, "item", None)  # NumPy's scalars
    value = plain() if callable(plain) and getattr(value, "size", 1) == 1 else value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{what} is {value!r:.100}, expected a number")
    return float(value)
