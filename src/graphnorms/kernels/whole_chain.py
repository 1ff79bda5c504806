"""A chain of kernels in one call of C++: no Python and no allocation between the steps.

`graphnorms.kernels.chain` runs the same steps one after another in Python, in every dtype. Here
everything is float32, and what the backward needs lies in one tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
        room_size, columns, parameters = sizes
        room, y = x.new_empty(room_size), x.new_empty((rows, columns))
        edges = self._adjacency.ptr, self._adjacency.index
        if not kernels.chain_forward(x, residual, steps, *edges, torch.get_num_threads(), room, y):
            return None
        made = _Made(y, room, steps, parameters, self._adjacency, self._with_nodes)
        result: Tensor = _apply(made, x, residual, *self._operands)
        return result


class _Made(NamedTuple):
    """A result, and what its node keeps besides the operands."""

    y: Tensor
    room: Tensor
    steps: tuple[tuple[Any, ...], ...]
    parameters: int
    adjacency: Adjacency
    with_nodes: list[tuple[Step, int]]


class _Node(torch.autograd.Function):
    """The node of a chain whose steps have run."""

    @staticmethod
    def forward(
        ctx: Any, made: _Made, x: Tensor, residual: Tensor | None, *operands: Tensor | None
    ) -> Tensor:
        """Save what the steps need, and return their result."""
        ctx.save_for_backward(x, made.room, *operands)
        ctx.made = made._replace(y=None, room=None)
        return made.y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the backward kernels in one call, or the steps again where they cannot."""
        (grad_y,) = grads
        _, needs_x, needs_residual, *needs = ctx.needs_input_grad
        x, room, *operands = ctx.saved_tensors
        made: _Made = ctx.made
        of_residual = grad_y if needs_residual else None
        again = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if not again and is_plain(grad_y):
            grad_x = torch.empty_like(x) if needs_x else None
            flat = room.new_empty(made.parameters)
            edges = made.adjacency.transpose
            run, threads = extension.kernels().chain_backward, torch.get_num_threads()
            if run(grad_y, x, made.steps, *edges, threads, room, needs, grad_x, flat):
                return None, grad_x, of_residual, *_parts(flat, operands, needs)
        of_x, *found = differentiate_again(
            grad_y, made.with_nodes, (x, *operands), [needs_x, *needs]
        )
        return None, of_x, of_residual, *found


# See `graphnorms.kernels.autograd.apply`.
_apply: Callable[..., Any] = super(torch.autograd.Function, _Node).apply


def _parts(flat: Tensor, operands: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
    """Divide the gradients of all parameters, as far as they are needed."""
    parts = iter(flat.split([each.numel() for each in operands if each is not None]))
    found: list[Tensor | None] = []
    for operand, needed in zip(operands, needs, strict=True):
        part = None if operand is None else next(parts)
        found.append(part.view(operand.shape) if needed and part is not None else None)
    return found
