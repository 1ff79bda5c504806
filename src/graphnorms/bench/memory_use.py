"""Bytes that a layer keeps for the backward, and its peak."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from graphnorms.bench.bench_settings import LARGE, QUICK_SHAPES
from graphnorms.bench.contenders import Contender, Problem, then_relu, torchs_own
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances, labels
from graphnorms.segments import Segments


def measure(session: Session) -> Iterator[Case]:
    """Count the bytes of every layer, PyG's with a ReLU of its own where ours fuses one.

    Raises:
        WrongNumbersError: A layer computes something else than it should.
    """
    settings = session.settings
    shape = settings.shape or (QUICK_SHAPES[0] if settings.quick else LARGE)
    rows = settings.rows_of_catalog()
    for threads, dtype in settings.circumstances():
        problem = Problem.make(shape, dtype, settings.device)
        contenders = [c for c in torchs_own(problem) if c.trained]
        for contender in session.contenders(rows, problem):
            contenders.append(contender)
            if contender.name.startswith("PyG ") and "relu" in settings.activations:
                contenders.append(then_relu(contender))
        values = {c.name: _bytes(c, problem, settings.device) for c in contenders}
        title = f"{shape}; {circumstances(dtype, threads)}"
        session.say(f"{title}: done")
        yield Case(
            title,
            {**labels(shape, dtype, threads), "bytes_of_x": problem.x.nbytes},
            "bytes",
            values,
            elements=problem.x.numel(),
        )


def _bytes(contender: Contender, problem: Problem, device: str) -> dict[str, float]:
    module = contender.module
    state = [] if module is None else [*module.parameters(), *module.buffers()]
    return {
        "kept": kept_for_backward(contender, problem.x, besides=[problem.batch, *state]),
        "peak": peak(contender, problem.x, device),
    }


def kept_for_backward(contender: Contender, x: Tensor, besides: Iterable[Tensor] = ()) -> int:
    """Count the bytes that autograd keeps between forward and backward.

    Memory is counted once however many tensors look at it, and whole if one looks at a part:
    it is kept as a whole. The features count where they are kept.

    Args:
        contender: What is called.
        x: The features.
        besides: What lives anyway and is not counted: parameters, the batch vector.
    """
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        # A view without a gradient of its own: hooks must not give back what they were given.
        return tensor.detach()

    leaf = x.detach().clone().requires_grad_()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        # Held until the count is done: an address that was freed could come again.
        y = contender.call(leaf)
    for tensor in _held_by_functions(y):
        pack(tensor)
    for tensor in besides:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    del y
    return sum(kept.values())


def _held_by_functions(y: Tensor) -> Iterator[Tensor]:
    """Iterate over the tensors that functions written in Python keep beside the saved ones."""
    waiting, seen = [y.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        values = list(getattr(node, "__dict__", {}).values())
        while values:
            value = values.pop()
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, tuple | list):
                values += value
            elif isinstance(value, Segments):
                values += [value.ptr, value.order]


def peak(contender: Contender, x: Tensor, device: str = "cpu") -> int:
    """Measure the most bytes held at a time in forward and backward, above what was held before.

    The result and the gradients are in it; the features and the cotangent are not.
    """
    grad_y = torch.randn_like(x)
    leaves = [x.detach().clone().requires_grad_(), *contender.parameters()]

    def step() -> None:
        torch.autograd.grad(contender.call(leaves[0]), leaves, grad_y)

    step()  # what is made once and kept, such as Segments, is no part of a step
    if device == "cpu":
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
            step()
        return _highest(trace)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    return torch.cuda.max_memory_allocated(device) - before


def _highest(trace: profile) -> int:
    """Replay the allocations of a trace and return the highest sum."""
    assert trace.profiler is not None
    results = trace.profiler.kineto_results
    assert results is not None
    # torch's stubs lack nbytes.
    events: list[Any] = [event for event in results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest
