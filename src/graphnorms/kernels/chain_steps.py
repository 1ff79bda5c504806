"""The kernels that a chain runs behind each other, as its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, Protocol

from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels import autograd, linear_map
from graphnorms.kernels.aggregation import autograd as sums
from graphnorms.kernels.aggregation.operands import Edges, Weights
from graphnorms.kernels.backend import CPU
from graphnorms.kernels.point import Call, Parameters
from graphnorms.kernels.primitive import normalize

Operands = Sequence[Tensor | None]

Running = tuple[Tensor, Tensor, Tensor, float]
"""Running mean and variance, their counter, and the momentum."""


class _Kind(IntEnum):
    """The kinds of steps, as in module_chain.cpp."""

    SUM = 0
    LINEAR = 1
    BIAS = 2
    NORMALIZATION = 3


class Step(Protocol):
    """A kernel in a chain.

    `operands` are its tensors with a gradient besides x, and `keeps_x` is whether its backward
    needs x.
    """

    operands: ClassVar[int]
    keeps_x: ClassVar[bool]

    def listed(self, operands: Operands) -> tuple[Any, ...] | None:
        """Return the step for C++; None if it has no place there."""

    def forward(
        self, x: Tensor, operands: Operands, residual: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the step; return its result, and what its backward needs besides."""

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor | None,
        kept: Tensor | None,
        operands: Operands,
        needs: list[bool],
    ) -> Sequence[Tensor | None]:
        """Return the gradients of x and of the operands, as far as they are needed."""

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """Run the step by differentiable operations, without adding the residual."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A linear sum over neighbours."""

    weights: Weights
    adjacency: Adjacency
    operands: ClassVar[int] = 0
    keeps_x: ClassVar[bool] = False

    def listed(self, operands: Operands) -> tuple[Any, ...] | None:
        """See `Step`."""
        if self.weights.edge is not None:
            return None
        return _Kind.SUM, self.weights.node_scale, self.weights.self_weight

    def forward(
        self, x: Tensor, operands: Operands, residual: Tensor | None
    ) -> tuple[Tensor, None]:
        """See `Step`."""
        return self._along(x, reverse=False), None

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor | None,
        kept: Tensor | None,
        operands: Operands,
        needs: list[bool],
    ) -> tuple[Tensor | None]:
        """See `Step`."""
        return (self._along(grad_y, reverse=True) if needs[0] else None,)

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """See `Step`."""
        return sums.aggregate(x, self.adjacency, self.weights, CPU)

    def _along(self, x: Tensor, *, reverse: bool) -> Tensor:
        numbered = self.weights.edge is not None
        edges = Edges.along(self.adjacency, reverse=reverse, numbered=numbered)
        return CPU.aggregate(x, edges, self.weights)


class Linear:
    """A linear map; its operands are weight and bias."""

    operands: ClassVar[int] = 2
    keeps_x: ClassVar[bool] = True

    def listed(self, operands: Operands) -> tuple[Any, ...]:
        """See `Step`."""
        return _Kind.LINEAR, *operands

    def forward(
        self, x: Tensor, operands: Operands, residual: Tensor | None
    ) -> tuple[Tensor, None]:
        """See `Step`."""
        weight, bias = operands
        assert weight is not None
        return linear_map.forward(x, weight, bias), None

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor | None,
        kept: Tensor | None,
        operands: Operands,
        needs: list[bool],
    ) -> Sequence[Tensor | None]:
        """See `Step`."""
        weight, bias = operands
        assert x is not None
        assert weight is not None
        return linear_map.backward(grad_y, x, weight, bias, needs)

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """See `Step`."""
        weight, bias = operands
        assert weight is not None
        return linear_map.linear(x, weight, bias)


class Bias:
    """One number per channel, in the dtype of x."""

    operands: ClassVar[int] = 1
    keeps_x: ClassVar[bool] = False

    def listed(self, operands: Operands) -> tuple[Any, ...]:
        """See `Step`."""
        return _Kind.BIAS, *operands

    def forward(
        self, x: Tensor, operands: Operands, residual: Tensor | None
    ) -> tuple[Tensor, None]:
        """See `Step`."""
        return self.again(x, *operands), None

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor | None,
        kept: Tensor | None,
        operands: Operands,
        needs: list[bool],
    ) -> tuple[Tensor, Tensor | None]:
        """See `Step`."""
        return grad_y, grad_y.sum(0) if needs[1] else None

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """See `Step`."""
        (bias,) = operands
        assert bias is not None
        return x + bias


@dataclass(frozen=True, slots=True)
class Normalization:
    """A normalization, with the running averages that it moves; α, γ and β are its operands."""

    call: Call
    running: Running | None
    operands: ClassVar[int] = 3
    keeps_x: ClassVar[bool] = True

    def listed(self, operands: Operands) -> tuple[Any, ...]:
        """See `Step`."""
        return _Kind.NORMALIZATION, tuple(operands), self.call, self.running

    def forward(
        self, x: Tensor, operands: Operands, residual: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `Step`."""
        statistics = self.running is not None
        return CPU.forward(x, residual, self._parameters(operands), self.call, statistics)

    def backward(
        self,
        grad_y: Tensor,
        x: Tensor | None,
        kept: Tensor | None,
        operands: Operands,
        needs: list[bool],
    ) -> list[Tensor | None]:
        """See `Step`."""
        assert x is not None
        assert kept is not None
        parameters = self._parameters(operands)
        found = autograd.once(grad_y, x, parameters, kept, (self.call, CPU, needs))
        return autograd.as_asked(found, (x, *parameters), needs)

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """See `Step`."""
        return normalize(x, self.call, self._parameters(operands), backend=CPU.name)[0]

    def _parameters(self, operands: Operands) -> Parameters:
        mean_scale, weight, bias = operands
        return mean_scale, weight, bias


LINEAR: Final = Linear()
BIAS: Final = Bias()
