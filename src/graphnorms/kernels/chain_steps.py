"""The kernels that a chain runs behind each other, as its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels import autograd, linear_map
from graphnorms.kernels.aggregation import autograd as sums
from graphnorms.kernels.aggregation.operands import Edges, Weights
from graphnorms.kernels.backend import CPU
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.point import Averages, Call, MovedAverages, Parameters
from graphnorms.kernels.primitive import normalize

Operands = Sequence[Tensor | None]


class _Kind(IntEnum):
    """The kinds of steps, as in module_chain.cpp."""

    SUM = 0
    LINEAR = 1
    BIAS = 2
    NORMALIZATION = 3


class Saved(NamedTuple):
    """What the backward of a step is given besides the gradient of its result.

    Args:
        x: What the step was given, if it keeps that.
        kept: What its forward returned besides the result.
        operands: Its tensors with a gradient besides x.
        needs: Whether x and the operands need one.
    """

    x: Tensor | None
    kept: Tensor | None
    operands: Operands
    needs: list[bool]


class Step(Protocol):
    """A kernel in a chain.

    `operands` counts its tensors with a gradient besides x, and `keeps_x` is whether its backward
    needs x.
    """

    operands: ClassVar[int] = 0
    keeps_x: ClassVar[bool] = False

    def listed(self, operands: Operands) -> tuple[Any, ...] | None:
        """Return the step for C++; None if it has no place there."""

    def forward(
        self, x: Tensor, operands: Operands, residual: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the step; return its result, and what its backward needs besides."""

    def backward(self, grad_y: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        """Return the gradients of x and of the operands, as far as they are needed."""

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """Run the step by differentiable operations, without adding the residual."""


@dataclass(frozen=True, slots=True)
class Sum(Step):
    """A linear sum over neighbours."""

    weights: Weights
    adjacency: Adjacency

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

    def backward(self, grad_y: Tensor, saved: Saved) -> tuple[Tensor | None]:
        """See `Step`."""
        return (self._along(grad_y, reverse=True) if saved.needs[0] else None,)

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """See `Step`."""
        return sums.aggregate(x, self.adjacency, self.weights, CPU)

    def _along(self, x: Tensor, *, reverse: bool) -> Tensor:
        numbered = self.weights.edge is not None
        edges = Edges.along(self.adjacency, reverse=reverse, numbered=numbered)
        return CPU.aggregate(x, edges, self.weights)


class Linear(Step):
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

    def backward(self, grad_y: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        """See `Step`."""
        weight, bias = saved.operands
        assert saved.x is not None
        assert weight is not None
        return linear_map.backward(grad_y, saved.x, weight, bias, saved.needs)

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """See `Step`."""
        weight, bias = operands
        assert weight is not None
        return linear_map.linear(x, weight, bias)


class Bias(Step):
    """One number per channel, in the dtype of x."""

    operands: ClassVar[int] = 1

    def listed(self, operands: Operands) -> tuple[Any, ...]:
        """See `Step`."""
        return _Kind.BIAS, *operands

    def forward(
        self, x: Tensor, operands: Operands, residual: Tensor | None
    ) -> tuple[Tensor, None]:
        """See `Step`."""
        return self.again(x, *operands), None

    def backward(self, grad_y: Tensor, saved: Saved) -> tuple[Tensor, Tensor | None]:
        """See `Step`."""
        return grad_y, grad_y.sum(0) if saved.needs[1] else None

    def again(self, x: Tensor, *operands: Tensor | None) -> Tensor:
        """See `Step`."""
        (bias,) = operands
        assert bias is not None
        return x + bias


@dataclass(frozen=True, slots=True)
class Normalization(Step):
    """A normalization; α, γ and β are its operands.

    By `Averages`, which has no backward, or by statistics, which may move averages.
    """

    call: Call
    averages: MovedAverages | Averages | None
    operands: ClassVar[int] = 3
    keeps_x: ClassVar[bool] = True

    def listed(self, operands: Operands) -> tuple[Any, ...]:
        """See `Step`."""
        return _Kind.NORMALIZATION, tuple(operands), self.call, self.averages

    def forward(
        self, x: Tensor, operands: Operands, residual: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Step`."""
        parameters, averages = self._parameters(operands), self.averages
        if isinstance(averages, Averages):
            return cpu.normalize_by_averages(x, residual, parameters, self.call, averages), None
        y, kept = CPU.forward(x, residual, parameters, self.call, averages is not None)
        if averages is not None:
            cpu.update_running(x, kept, *averages)
        return y, kept

    def backward(self, grad_y: Tensor, saved: Saved) -> list[Tensor | None]:
        """See `Step`."""
        x, kept, operands, needs = saved
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
