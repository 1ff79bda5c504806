"""Kernels that run behind each other as one node of autograd's graph.

A node costs as much as a kernel on a small batch. The steps of a `Chain` have none: each takes the
result of the one before, and one backward runs the backward kernels of all of them. While a chain
is open, a normalization of its last result is a step of it. Where the backward is differentiated
again, the steps run once more as functions of the saved tensors, each with its own node: so every
derivative is that of the composition.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, Self

import torch
from torch import Tensor

Operands = Sequence[Tensor | None]


class Step(Protocol):
    """A kernel in a chain: what it needs besides x and the operands with gradients."""

    def backward(
        self, grad_y: Tensor, x: Tensor | None, operands: Operands, needs: list[bool]
    ) -> Sequence[Tensor | None]:
        """Return the gradients of x and of the operands, as far as they are needed."""

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """Run the step with nodes of its own, and without the residual."""


class Chain:
    """Steps behind each other, from a first x to a last result.

    Args:
        x: The x of the first step.
    """

    __slots__ = ("_inputs", "_kept", "_operands", "_residual", "_steps", "last")

    def __init__(self, x: Tensor) -> None:
        self.last: Tensor | None = x
        self._inputs = x
        self._kept: list[Tensor | None] = []
        self._operands: list[Tensor | None] = []
        self._residual: Tensor | None = None
        self._steps: list[tuple[Step, int]] = []

    def add(
        self,
        step: Step,
        x: Tensor,
        y: Tensor,
        operands: Operands = (),
        *,
        residual: Tensor | None = None,
        keeps_x: bool = True,
    ) -> None:
        """Add a step that has run.

        Args:
            step: Its backward.
            x, y: What it was given, the last result, and its own.
            operands: Further tensors with a gradient.
            residual: Added to the result; only of the last step.
            keeps_x: Whether the backward needs x.
        """
        assert x is self.last
        assert self._residual is None
        self._kept.append(x if keeps_x or not self._steps else None)
        self._operands += operands
        self._steps.append((step, len(operands)))
        self._residual = residual
        self.last = y

    def __enter__(self) -> Self:
        OPEN.chain = self
        return self

    def __exit__(self, *error: object) -> None:
        OPEN.chain = None

    def result(self, y: Tensor) -> Tensor:
        """Return the last result with its node, if anything has a gradient.

        Raises:
            RuntimeError: `y` is not the result of the last step.
        """
        if y is not self.last:
            raise RuntimeError("an operation inside the chain is no step of it")
        made = _Made(y, tuple(self._kept), tuple(self._steps))
        found: Tensor = _apply(made, self._inputs, self._residual, *self._operands)
        return found


class _Made(NamedTuple):
    """A result, and what its node keeps besides the operands."""

    y: Tensor
    kept: tuple[Tensor | None, ...]
    steps: tuple[tuple[Step, int], ...]


class _Open(threading.local):
    chain: Chain | None = None


OPEN = _Open()
"""The open chain of a thread: a normalization of its last result is a step of it."""


class _Node(torch.autograd.Function):
    """The node of a chain whose steps have run."""

    @staticmethod
    def forward(
        ctx: Any, made: _Made, x: Tensor, residual: Tensor | None, *operands: Tensor | None
    ) -> Tensor:
        """Save what the steps need, and return their result."""
        ctx.save_for_backward(*made.kept, *operands)
        ctx.steps = made.steps
        return made.y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Run the backward kernels from the last step to the first."""
        (grad_y,) = grads
        _, needs_x, needs_residual, *needs = ctx.needs_input_grad
        steps, saved = ctx.steps, ctx.saved_tensors
        kept, operands = saved[: len(steps)], saved[len(steps) :]
        of_residual = grad_y if needs_residual else None
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            of_x, *found = differentiate_again(
                grad_y, steps, (kept[0], *operands), [needs_x, *needs]
            )
            return None, of_x, of_residual, *found
        found, end, grad = [], len(operands), grad_y
        for number in range(len(steps) - 1, -1, -1):
            step, size = steps[number]
            begin = end - size
            asked = [number > 0 or needs_x, *needs[begin:end]]
            grad, *of_operands = step.backward(grad, kept[number], operands[begin:end], asked)
            found[:0] = of_operands
            end = begin
        return None, grad, of_residual, *found


# See `graphnorms.kernels.autograd.apply`.
_apply: Callable[..., Any] = super(torch.autograd.Function, _Node).apply


def differentiate_again(
    grad_y: Tensor,
    steps: Sequence[tuple[Step, int]],
    inputs: Sequence[Tensor | None],
    needs: list[bool],
) -> list[Tensor | None]:
    """Run the steps once more, with nodes, and differentiate them.

    At aliases of the inputs, or a path from one input to another would count twice.

    Args:
        grad_y: The gradient of the last result.
        steps: The steps, and how many operands each has.
        inputs: The x of the first step, and the operands.
        needs: Which of them need a gradient.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        x, *operands = aliases = [
            each.view_as(each) if each is not None and needed else each
            for each, needed in zip(inputs, needs, strict=True)
        ]
        assert x is not None
        begin = 0
        for step, size in steps:
            x = step.again(x, *operands[begin : begin + size])
            begin += size
    asked = [
        each for each, needed in zip(aliases, needs, strict=True) if each is not None and needed
    ]
    grads = iter(torch.autograd.grad(x, asked, grad_y, create_graph=again) if asked else ())
    return [next(grads) if needed else None for needed in needs]


def chained_bias(chain: Chain, x: Tensor, bias: Tensor) -> Tensor:
    """Add one number per channel, `(channels,)`, in the dtype of x, as a step of a chain."""
    with torch.no_grad():
        y = x + bias
    chain.add(BIAS, x, y, (bias,), keeps_x=False)
    return y


class _Bias:
    """A bias in a chain."""

    def backward(
        self, grad_y: Tensor, x: Tensor | None, operands: Operands, needs: list[bool]
    ) -> tuple[Tensor, Tensor | None]:
        return grad_y, grad_y.sum(0) if needs[1] else None

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        (bias,) = operands
        assert bias is not None
        return x + bias


BIAS: Final = _Bias()
