"""A chain of kernels in one call of C++: no Python and no allocation between the steps.

`graphnorms.kernels.chain` runs the same steps one after another in Python, in every dtype. Here
everything is float32, and what the backward needs lies in one tensor.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation.autograd import sum_step
from graphnorms.kernels.aggregation.operands import Weights
from graphnorms.kernels.chain import BIAS, Step, differentiate_again
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.linear_map import LINEAR
from graphnorms.kernels.point import Call, Parameters
from graphnorms.kernels.primitive import norm_step
from graphnorms.tracing import is_plain

_SUM, _LINEAR, _BIAS, _NORMALIZATION = range(4)  # as in module_chain.cpp

Running = tuple[Tensor, Tensor, Tensor, float]
"""Running mean and variance, their counter, and the momentum."""


class WholeChain:
    """The steps, listed before any of them runs.

    Args:
        adjacency: The edges of sums over neighbours.
    """

    __slots__ = ("_adjacency", "_operands", "_steps", "_with_nodes")

    def __init__(self, adjacency: Adjacency) -> None:
        self._adjacency = adjacency
        self._steps: list[tuple[Any, ...]] = []
        self._operands: list[Tensor | None] = []
        self._with_nodes: list[tuple[Step, int]] = []

    def sum(self, weights: Weights) -> None:
        """Add a sum over neighbours whose edges all have the weight 1."""
        self._steps.append((_SUM, weights.node_scale, weights.self_weight))
        self._with_nodes.append((sum_step(weights, self._adjacency), 0))

    def linear(self, weight: Tensor, bias: Tensor | None) -> None:
        """Add a linear map."""
        self._steps.append((_LINEAR, weight, bias))
        self._operands += (weight, bias)
        self._with_nodes.append((LINEAR, 2))

    def bias(self, bias: Tensor) -> None:
        """Add a bias."""
        self._steps.append((_BIAS, bias))
        self._operands.append(bias)
        self._with_nodes.append((BIAS, 1))

    def normalize(self, call: Call, parameters: Parameters, running: Running | None) -> None:
        """Add a normalization, with the running averages that it moves."""
        self._steps.append((_NORMALIZATION, parameters, call, running))
        self._operands += parameters
        self._with_nodes.append((norm_step(call), 3))

    def run(self, x: Tensor, residual: Tensor | None) -> Tensor | None:
        """Run the steps on x as one node of autograd's graph.

        Args:
            x: The features, a plain tensor on the CPU.
            residual: Added by the last step, a normalization.

        Returns:
            The result; `None` if the kernels do not take a tensor, and nothing has changed.
        """
        kernels, steps = extension.kernels(), tuple(self._steps)
        rows = x.shape[0]
        sizes = kernels.chain_sizes(rows, x.shape[1], steps)
        if sizes is None:
            return None
        room, y = x.new_empty(sizes[0]), x.new_empty((rows, sizes[1]))
        edges = self._adjacency.ptr, self._adjacency.index
        if not kernels.chain_forward(x, residual, steps, *edges, torch.get_num_threads(), room, y):
            return None
        made = _Made(steps, self._adjacency, self._with_nodes, tuple(self._operands))
        fresh = y, room  # in a tuple, or autograd would take them for inputs
        joined = _JOINED.now
        places = None if joined is None else joined.places_of(self._operands)
        if joined is not None and places is not None:
            found: Tensor = _apply_joined(fresh, made, places, x, residual, joined.vector)
        else:
            found = _apply(fresh, made, x, residual, *self._operands)
        return found


class JoinedParameters:
    """Parameters that are parts of one vector, which takes their gradients as one.

    A node of autograd's graph for each parameter costs as much as a kernel on a small batch. Inside
    the block a chain has the vector in place of its parameters: their gradients arrive in
    `vector.grad`, and not in their own.

    Args:
        vector: The vector.
        parameters: They view parts of it, one after another.
    """

    def __init__(self, vector: nn.Parameter, parameters: Sequence[nn.Parameter]) -> None:
        self.vector = vector
        self._parameters = tuple(parameters)
        ends = itertools.accumulate(each.numel() for each in parameters)
        self._places = {
            id(each): end - each.numel() for each, end in zip(parameters, ends, strict=True)
        }
        self._in_chains: set[int] = set()

    def part(self, vector: Tensor, parameter: Tensor) -> Tensor:
        """Return the part of a parameter in a tensor of the vector's size, in its shape."""
        place = self._places[id(parameter)]
        return vector[place : place + parameter.numel()].view(parameter.shape)

    def places_of(self, operands: Sequence[Tensor | None]) -> list[int] | None:
        """Return where the gradients of the operands of a chain begin, -1 where none is needed.

        `None` if one is no part of the vector, or is there twice.
        """
        known = self._places
        asked = [id(each) for each in operands if each is not None and each.requires_grad]
        if len(set(asked)) < len(asked) or not known.keys() >= set(asked):
            return None
        self._in_chains.update(asked)
        return [
            -1 if each is None or not each.requires_grad else known[id(each)] for each in operands
        ]

    def forget_gradients(self) -> None:
        """Begin a step: there is no gradient."""
        self.vector.grad = None
        self._in_chains.clear()

    def have_gradients(self, others: set[int]) -> bool:
        """Whether each parameter has a gradient, of a chain or as one of others, by `id`."""
        return self._places.keys() <= self._in_chains | others

    def give_gradients(self) -> None:
        """Give the parameters of chains their gradients, which are in that of the vector."""
        for parameter in self._parameters:
            if self.vector.grad is not None and id(parameter) in self._in_chains:
                parameter.grad = self.part(self.vector.grad, parameter)

    def __enter__(self) -> None:
        _JOINED.now = self

    def __exit__(self, *error: object) -> None:
        _JOINED.now = None


class _Joined(threading.local):
    now: JoinedParameters | None = None


_JOINED: Final = _Joined()


class _Made(NamedTuple):
    """What the node of a chain keeps besides tensors of its own."""

    steps: tuple[tuple[Any, ...], ...]
    adjacency: Adjacency
    with_nodes: list[tuple[Step, int]]
    operands: tuple[Tensor | None, ...]

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor,
        room: Tensor,
        needs_x: bool,
        places: list[int],
        flat: Tensor,
    ) -> tuple[Tensor | None, bool]:
        """Run the backward kernels; return the gradient of x, and whether they have run.

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
        done = run(grad_y, x, self.steps, *edges, threads, room, places, grad_x, flat)
        return grad_x, bool(done)


class _Node(torch.autograd.Function):
    """The node of a chain that has run, with its parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        fresh: tuple[Tensor, Tensor],
        made: _Made,
        x: Tensor,
        residual: Tensor | None,
        *operands: Tensor | None,
    ) -> Tensor:
        """Save what the backward needs, and return the result."""
        y, room = fresh
        ctx.save_for_backward(x, room, *operands)
        ctx.made = made
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the backward kernels in one call, or the steps again where they cannot."""
        (grad_y,) = grads
        _, _, needs_x, needs_residual, *needs = ctx.needs_input_grad
        x, room, *operands = ctx.saved_tensors
        made: _Made = ctx.made
        of_residual = grad_y if needs_residual else None
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            sizes = [
                each.numel() if each is not None and needed else 0
                for each, needed in zip(operands, needs, strict=True)
            ]
            ends = itertools.accumulate(sizes)
            places = [end - size if size else -1 for end, size in zip(ends, sizes, strict=True)]
            flat = room.new_empty(sum(sizes))
            grad_x, done = made.backward(grad_y, x, room, needs_x, places, flat)
            if done:
                found = [
                    None if not size else part if each.dim() == 1 else part.view(each.shape)
                    for part, each, size in zip(flat.split(sizes), operands, sizes, strict=True)
                ]
                return None, None, grad_x, of_residual, *found
        grad_x, *found = differentiate_again(
            grad_y, made.with_nodes, (x, *operands), [needs_x, *needs]
        )
        return None, None, grad_x, of_residual, *found


class _JoinedNode(torch.autograd.Function):
    """The node of a chain that has run, with the vector that its parameters are parts of."""

    @staticmethod
    def forward(
        ctx: Any,
        fresh: tuple[Tensor, Tensor],
        made: _Made,
        places: list[int],
        x: Tensor,
        residual: Tensor | None,
        vector: Tensor,
    ) -> Tensor:
        """Save what the backward needs, and return the result."""
        y, room = fresh
        ctx.save_for_backward(x, room, vector)
        ctx.made, ctx.places = made, places
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the backward kernels in one call, or the steps again where they cannot."""
        (grad_y,) = grads
        _, _, _, needs_x, needs_residual, _ = ctx.needs_input_grad
        x, room, vector = ctx.saved_tensors
        made: _Made = ctx.made
        places: list[int] = ctx.places
        if torch.is_grad_enabled():
            raise RuntimeError("joined parameters have no second derivative")
        flat = torch.zeros_like(vector)
        grad_x, done = made.backward(grad_y, x, room, needs_x, places, flat)
        if not done:
            needs = [needs_x, *(place >= 0 for place in places)]
            inputs = (x, *made.operands)
            grad_x, *found = differentiate_again(grad_y, made.with_nodes, inputs, needs)
            for place, grad in zip(places, found, strict=True):
                if grad is not None:
                    flat[place : place + grad.numel()] = grad.reshape(-1)
        return None, None, None, grad_x, grad_y if needs_residual else None, flat


# See `graphnorms.kernels.autograd.apply`.
_apply: Callable[..., Any] = super(torch.autograd.Function, _Node).apply
_apply_joined: Callable[..., Any] = super(torch.autograd.Function, _JoinedNode).apply
