"""Timing in turn: every contender once a round, in one process, in a new order each round."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from graphnorms.bench.beside import Elsewhere
from graphnorms.bench.contenders import Contender
from graphnorms.bench.number_checks import of_energy_and_force

_WARM_UP: Final = 3
"""Calls that do not count: they compile, and touch memory for the first time."""

_SAMPLE: Final = 1e-3
"""Shortest sample in seconds; quicker calls are repeated, and the time is divided."""

_MOST_REPEATS: Final = 200

_MOST_QUEUED: Final = 10
"""Most calls queued on a GPU at a time: some hundred launches, of which it holds a thousand."""

_CYCLES: Final = 2e9
"""Most cycles of a GPU per second: it pauses for at least the time asked for."""


def summary(samples: list[float]) -> dict[str, float]:
    """Return minimum and median of the samples of one contender, in seconds."""
    return {"minimum": min(samples), "median": statistics.median(samples)}


def in_turn(
    actions: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str = "cpu",
    *,
    queued: bool = False,
) -> dict[str, dict[str, float]]:
    """Time functions in turn.

    Each contender warms the cache for the next, so the order is shuffled every round, with a
    fixed seed. Garbage is collected between rounds only.

    Args:
        actions: The functions, by name.
        rounds: Samples of each.
        device: Synchronized before the clock is read.
        queued: On a GPU, time the GPU alone: calls are queued while it pauses, so that it never
            waits for a launch. Otherwise the slower of CPU and GPU sets the time.

    Returns:
        Seconds per call by name: their minimum and median over the rounds.
    """
    repeats = {name: _repeats(action, device) for name, action in actions.items()}
    if queued and torch.device(device).type == "cuda":
        repeats = {name: min(number, _MOST_QUEUED) for name, number in repeats.items()}
    samples: dict[str, list[float]] = {name: [] for name in actions}
    order = list(actions)
    shuffle = random.Random(0).shuffle
    with _garbage_kept():
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                samples[name].append(_seconds(actions[name], repeats[name], device, queued))
            gc.collect(0)  # what the round made; all of it would take longer than the round
    return {name: summary(values) for name, values in samples.items()}


def forward_and_backward(contender: Contender, x: Tensor, grad_y: Tensor) -> Callable[[], object]:
    """Return one training step of a contender: forward, and backward through autograd."""
    if not contender.trained:
        return lambda: contender.call(x)
    leaf = x.detach().clone().requires_grad_()
    leaves = [leaf, *contender.parameters()]
    call = contender.call

    def step() -> None:
        for tensor in leaves:
            tensor.grad = None
        call(leaf).backward(grad_y)

    return step


def force_step(contender: Contender, x: Tensor, cotangents: list[Tensor]) -> Callable[[], object]:
    """Return a step of force training of a contender; see `of_energy_and_force`."""
    leaf, *others = (t.detach().clone().requires_grad_() for t in (x, *cotangents))
    return lambda: of_energy_and_force(contender.call, contender.parameters(), leaf, others)


def forward(contender: Contender, x: Tensor) -> Callable[[], object]:
    """Return one call of a contender without a graph behind it."""
    call = contender.call

    def step() -> None:
        with torch.no_grad():
            call(x)

    return step


def _repeats(action: Callable[[], object], device: str) -> int:
    """Warm an action up, and find how often to call it so that a sample lasts long enough."""
    seconds = math.inf
    for _ in range(_WARM_UP):
        seconds = min(seconds, _seconds(action, 1, device))
    return min(max(math.ceil(_SAMPLE / max(seconds, 1e-9)), 1), _MOST_REPEATS)


def _seconds(
    action: Callable[[], object], repeats: int, device: str, queued: bool = False
) -> float:
    if isinstance(action, Elsewhere):
        return action.seconds(repeats)
    _wait(device)
    if torch.device(device).type == "cuda":
        return _seconds_on_gpu(action, repeats, device, queued)
    begin = time.perf_counter()
    for _ in range(repeats):
        action()
    _wait(device)
    return (time.perf_counter() - begin) / repeats


def _seconds_on_gpu(action: Callable[[], object], repeats: int, device: str, queued: bool) -> float:
    """Time by the GPU's own clock, which leaves out what waiting for it costs."""
    with torch.cuda.device(torch.device(device)):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if queued:
            started = time.perf_counter()
            action()
            launching = time.perf_counter() - started
            torch.cuda.synchronize()
            torch.cuda._sleep(int(_CYCLES * (1.5 * repeats * launching + 1e-4)))
        begin.record()
        for _ in range(repeats):
            action()
        end.record()
        end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / repeats


def _wait(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(torch.device(device))


@contextmanager
def _garbage_kept() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
