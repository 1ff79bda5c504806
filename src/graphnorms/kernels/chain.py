"""Kernels that run behind each other as one node of autograd's graph.

On a small batch a node costs as much as a kernel, and so does the Python of a call. A `Chain` lists
its steps; none of them has a node, and one backward runs the backward kernels of all. In float32
all steps run in one call of C++, forward and backward, and what the backward needs lies in one
tensor; in other dtypes they run one by one, with the same results. Without gradients nothing is
kept, and results pass through two buffers, which stay in the cache. Where the backward is
differentiated again, the steps run once more as functions of the saved tensors, each with its own
node: so every derivative is that of the composition.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation.operands import Weights
from graphnorms.kernels.chain_steps import (
    BIAS,
    LINEAR,
    Normalization,
    Operands,
    Saved,
    Step,
    Sum,
)
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.joined_parameters import JOINED
from graphnorms.kernels.kept_memory import MEMORY
from graphnorms.kernels.point import Averages, Call, MovedAverages, Parameters
from graphnorms.tracing import is_plain


class Chain:
    """Steps behind each other, listed before any of them runs.

    Args:
        adjacency: The edges of sums over neighbours.
    """

    __slots__ = ("_adjacency", "_operands", "_steps")

    def __init__(self, adjacency: Adjacency) -> None:
        self._adjacency = adjacency
        self._steps: list[Step] = []
        self._operands: list[Tensor | None] = []

    def sum(self, weights: Weights) -> None:
        """Add a sum over neighbours; its weights have no gradient."""
        self._steps.append(Sum(weights, self._adjacency))

    def linear(self, weight: Tensor, bias: Tensor | None) -> None:
        """Add a linear map."""
        self._steps.append(LINEAR)
        self._operands += (weight, bias)

    def bias(self, bias: Tensor) -> None:
        """Add a bias, `(channels,)`."""
        self._steps.append(BIAS)
        self._operands.append(bias)

    def normalize(
        self,
        call: Call,
        parameters: Parameters,
        averages: MovedAverages | Averages | None = None,
    ) -> None:
        """Add a normalization, with the averages that it moves, or by which it normalizes."""
        self._steps.append(Normalization(call, averages))
        self._operands += parameters

    def run(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Run the steps as one node of autograd's graph, or without gradients.

        Args:
            x: The features, a plain tensor on the CPU, of the dtype of the parameters.
            residual: Added by the last step, which is a normalization.
        """
        keeps = torch.is_grad_enabled()
        with torch.no_grad():
            ran = self._in_one_call(x, residual, keeps) or self._one_by_one(x, residual, keeps)
        y, kept, listed = ran
        if not keeps:
            return y
        made = _Made(tuple(self._steps), listed, self._adjacency, tuple(self._operands))
        fresh = y, kept  # in a tuple, or autograd would take them for inputs
        joined = JOINED.now
        places = None if joined is None else joined.places_of(self._operands)
        if joined is not None and places is not None:
            found: Tensor = _apply_joined(fresh, made, places, x, residual, joined.vector)
        else:
            found = _apply(fresh, made, x, residual, *self._operands)
        return found

    def _in_one_call(self, x: Tensor, residual: Tensor | None, keeps: bool) -> _Ran | None:
        """Run the steps in one call, if the kernels take them; else nothing has changed."""
        if x.dtype is not torch.float32 or not extension.multiplies_faster():
            return None
        listed = tuple(
            step.listed(operands) for step, operands in _with_operands(self._steps, self._operands)
        )
        if None in listed:
            return None
        kernels, rows = extension.kernels(), x.shape[0]
        sizes = kernels.chain_sizes(rows, x.shape[1], listed, keeps)
        if sizes is None:
            return None
        room, y = MEMORY.empty(sizes[0], x), x.new_empty((rows, sizes[1]))
        edges, threads = (self._adjacency.ptr, self._adjacency.index), torch.get_num_threads()
        if not kernels.chain_forward(x, residual, listed, *edges, keeps, threads, room, y):
            return None
        return y, (room,), listed

    def _one_by_one(self, x: Tensor, residual: Tensor | None, keeps: bool) -> _Ran:
        last = len(self._steps) - 1
        inputs: list[Tensor | None] = []
        found: list[Tensor | None] = []
        for number, (step, operands) in enumerate(_with_operands(self._steps, self._operands)):
            y, kept = step.forward(x, operands, residual if number == last else None)
            if keeps:
                inputs.append(x if step.keeps_x else None)
                found.append(kept)
            x = y
        return x, (*inputs, *found), None


_Ran = tuple[Tensor, tuple[Tensor | None, ...], tuple[Any, ...] | None]
"""The result, what the backward needs, and the steps as they were listed for C++, if it ran
them."""


def _with_operands(steps: Sequence[Step], operands: Operands) -> list[tuple[Step, Operands]]:
    """Put each step beside its operands."""
    ends = itertools.accumulate(step.operands for step in steps)
    return [
        (step, operands[end - step.operands : end]) for step, end in zip(steps, ends, strict=True)
    ]


class _Made(NamedTuple):
    """What the backward of a chain needs besides the tensors that autograd saves."""

    steps: tuple[Step, ...]
    listed: tuple[Any, ...] | None
    adjacency: Adjacency
    operands: tuple[Tensor | None, ...]

    def in_one_call(
        self,
        grad_y: Tensor,
        x: Tensor,
        room: Tensor,
        needs_x: bool,
        places: list[int],
        flat: Tensor,
    ) -> tuple[Tensor | None, bool]:
        """Run the backward kernels in one call; return the gradient of x, and whether they ran.

        Args:
            grad_y, x, room: The gradient of the result, the first features, and what was kept.
            needs_x: Whether x needs a gradient.
            places: Where those of the operands go in `flat`, -1 for nowhere.
            flat: The gradients of the parameters.
        """
        if not is_plain(grad_y):
            return None, False
        grad_x = torch.empty_like(x) if needs_x else None
        edges, threads = self.adjacency.transpose, torch.get_num_threads()
        run = extension.kernels().chain_backward
        done = run(grad_y, x, self.listed, *edges, threads, room, places, grad_x, flat)
        return grad_x, bool(done)

    def one_by_one(
        self, grad_y: Tensor, kept: Operands, operands: Operands, needs: list[bool]
    ) -> list[Tensor | None]:
        """Run the backward kernels from the last step to the first.

        Args:
            grad_y: The gradient of the result.
            kept: The x of every step that needs it, and then what each has kept.
            operands: Those of all steps.
            needs: Whether x and the operands need a gradient.
        """
        grad: Tensor | None = grad_y
        found: list[Tensor | None] = []
        number = len(self.steps)
        own = kept[number:]
        needs_x, *of_operands = needs
        end = len(operands)
        while number:
            number -= 1
            step = self.steps[number]
            begin = end - step.operands
            asked = [number > 0 or needs_x, *of_operands[begin:end]]
            assert grad is not None
            saved = Saved(kept[number], own[number], operands[begin:end], asked)
            grad, *of_step = step.backward(grad, saved)
            found[:0] = of_step
            end = begin
        return [grad, *found]


class _Node(torch.autograd.Function):
    """The node of a chain that has run, with its parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        fresh: tuple[Tensor, tuple[Tensor | None, ...]],
        made: _Made,
        x: Tensor,
        residual: Tensor | None,
        *operands: Tensor | None,
    ) -> Tensor:
        """Save what the backward needs, and return the result."""
        y, kept = fresh
        ctx.save_for_backward(x, *operands, *kept)
        ctx.made = made
        ctx.number = len(operands)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the backward kernels, or the steps again where they cannot."""
        (grad_y,) = grads
        _, _, needs_x, needs_residual, *needs = ctx.needs_input_grad
        x, *saved = ctx.saved_tensors
        operands, kept = saved[: ctx.number], saved[ctx.number :]
        made: _Made = ctx.made
        found: list[Tensor | None] | None = None
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            if made.listed is None:
                found = made.one_by_one(grad_y, kept, operands, [needs_x, *needs])
            else:
                found = _in_parts(made, grad_y, x, kept[0], operands, [needs_x, *needs])
        if found is None:
            found = _again(grad_y, made.steps, (x, *operands), [needs_x, *needs])
        grad_x, *of_operands = found
        return None, None, grad_x, grad_y if needs_residual else None, *of_operands


def _in_parts(
    made: _Made, grad_y: Tensor, x: Tensor, room: Tensor, operands: Operands, needs: list[bool]
) -> list[Tensor | None] | None:
    """Run the backward kernels in one call, and divide the gradients of the operands."""
    needs_x, *of_operands = needs
    sizes = [
        each.numel() if each is not None and needed else 0
        for each, needed in zip(operands, of_operands, strict=True)
    ]
    ends = itertools.accumulate(sizes)
    places = [end - size if size else -1 for end, size in zip(ends, sizes, strict=True)]
    flat = room.new_empty(sum(sizes))
    grad_x, done = made.in_one_call(grad_y, x, room, needs_x, places, flat)
    if not done:
        return None
    parts = zip(flat.split(sizes), operands, sizes, strict=True)
    return [
        grad_x,
        *(
            part.view(each.shape) if size and each is not None else None
            for part, each, size in parts
        ),
    ]


class _JoinedNode(torch.autograd.Function):
    """The node of a chain that has run, with the vector that its parameters are parts of."""

    @staticmethod
    def forward(
        ctx: Any,
        fresh: tuple[Tensor, tuple[Tensor | None, ...]],
        made: _Made,
        places: list[int],
        x: Tensor,
        residual: Tensor | None,
        vector: Tensor,
    ) -> Tensor:
        """Save what the backward needs, and return the result."""
        y, kept = fresh
        ctx.save_for_backward(x, vector, *kept)
        ctx.made, ctx.places = made, places
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the backward kernels, or the steps again where they cannot."""
        (grad_y,) = grads
        _, _, _, needs_x, needs_residual, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():
            raise RuntimeError("joined parameters have no second derivative")
        x, vector, *kept = ctx.saved_tensors
        made: _Made = ctx.made
        places: list[int] = ctx.places
        flat, done = torch.zeros_like(vector), False
        if made.listed is not None:
            grad_x, done = made.in_one_call(grad_y, x, kept[0], needs_x, places, flat)
        if not done:
            needs = [needs_x, *(place >= 0 for place in places)]
            if made.listed is None:
                grad_x, *found = made.one_by_one(grad_y, kept, made.operands, needs)
            else:
                grad_x, *found = _again(grad_y, made.steps, (x, *made.operands), needs)
            for place, grad in zip(places, found, strict=True):
                if grad is not None and place >= 0:
                    flat[place : place + grad.numel()] = grad.reshape(-1)
        return None, None, None, grad_x, grad_y if needs_residual else None, flat


# See `graphnorms.kernels.autograd.apply`.
_apply: Callable[..., Any] = super(torch.autograd.Function, _Node).apply
_apply_joined: Callable[..., Any] = super(torch.autograd.Function, _JoinedNode).apply


def _again(
    grad_y: Tensor, steps: Sequence[Step], inputs: Operands, needs: list[bool]
) -> list[Tensor | None]:
    """Run the steps once more, with nodes, and differentiate them.

    At aliases of the inputs, or a path from one input to another would count twice.

    Args:
        grad_y: The gradient of the last result.
        steps: The steps.
        inputs: The x of the first step, and the operands.
        needs: Which of them need a gradient.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x, *operands = aliases = [
            each.view_as(each) if each is not None and needed else each
            for each, needed in zip(inputs, needs, strict=True)
        ]
        assert x is not None
        for step, own in _with_operands(steps, operands):
            x = step.again(x, *own)
    asked = [
        each for each, needed in zip(aliases, needs, strict=True) if each is not None and needed
    ]
    grads = iter(torch.autograd.grad(x, asked, grad_y, create_graph=create_graph) if asked else ())
    return [next(grads) if needed else None for needed in needs]
