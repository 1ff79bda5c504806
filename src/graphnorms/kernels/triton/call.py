"""The checked arguments of a normalization for the kernels.

Kernels get addresses, so a wrong size, dtype or device must be refused here. The values of `ptr`
and `order` are not checked, which would synchronize the device: Segments guarantees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import rows_contiguous
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import (
    ACTIVATIONS,
    FUNCTIONS,
    Call,
    Over,
    Parameters,
    accumulation_dtype,
)
from graphnorms.kernels.tensor_checks import check_memory
from graphnorms.kernels.triton import tiles
from graphnorms.kernels.triton.loading import DTYPES, accumulator

CURVED: Final = ("gelu", "silu")
"""The activations whose second derivative is not 0."""

Pair = tuple[Tensor | None, Tensor | None]
"""Two tensors of a kernel: the shifts and 1/s, or the gradients of grad_y and of x."""


class Cotangents(NamedTuple):
    """The cotangents of the gradients that a backward has returned; `None` for 0."""

    of_x: Tensor
    of_mean_scale: Tensor | None
    of_weight: Tensor | None
    of_bias: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The arguments that forward and backward share.

    Args:
        center, scale: An `Over`, or 0 for none.
        activation: Its index in `ACTIVATIONS`.
        function: Its index in `FUNCTIONS`.
        longest: Rows of the longest segment, -1 if the host does not know it.
        own: Whether weight and bias are per segment.
        table: That of a layout, of statistics within rows; `cells` are its numbers of cells.
        sizes: Numbers of cells of centre and scale.
        span: Channels per block.
    """

    x: Tensor
    ptr: Tensor
    order: Tensor | None
    seed: Tensor | None
    mean_scale: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    center: int
    scale: int
    groups: int
    eps: float
    activation: int
    dropout: float
    function: int
    longest: int
    masked: bool
    own: bool
    table: Tensor | None
    cells: tuple[int, int]
    sizes: tuple[int, int]
    span: int

    @classmethod
    def of(cls, x: Tensor, parameters: Parameters, call: Call) -> Launch:
        """Check the arguments of a call.

        Raises:
            ValueError: An argument does not fit; the message names it.
        """
        if x.dtype not in DTYPES or x.dim() != 2:
            raise ValueError(f"x is {tuple(x.shape)} of {x.dtype}, expected a kernel's dtype")
        check_memory("x", x)
        rows, channels = x.shape
        segments, (center, scale, _, groups, function), eps, activation, dropout, seed, layout = (
            call
        )
        ptr, order, longest = segments.ptr, segments.order, segments.longest
        mean_scale, weight, bias = parameters
        if groups < 1 or channels < 1 or channels % groups:
            raise ValueError(f"groups is {groups}, which does not divide the {channels} channels")
        check_index("ptr", ptr, None, x)
        if order is not None:
            check_index("order", order, rows, x)
        if seed is not None:
            check_like("seed", seed, seed.shape, torch.int64, x)
            if seed.numel() != 1:
                raise ValueError(f"seed is {tuple(seed.shape)}, expected one number")
        own = any(p is not None and p.dim() == 2 for p in (weight, bias))
        affine = (ptr.shape[0] - 1, channels) if own else (channels,)
        return cls(
            x=rows_contiguous(x),
            mean_scale=_parameter(
                "mean_scale", mean_scale, call.mean_scale_shape(x, mean_scale), x
            ),
            weight=_parameter("weight", weight, affine, x),
            bias=_parameter("bias", bias, affine, x),
            own=own,
            ptr=ptr,
            order=order,
            seed=seed,
            center=center or 0,
            scale=scale or 0,
            groups=groups,
            eps=eps,
            activation=ACTIVATIONS.index(activation),
            dropout=dropout,
            function=FUNCTIONS.index(function),
            longest=-1 if longest is None else longest,
            masked=segments.masked,
            table=None if layout is None else _table(layout, x),
            cells=(1, 1) if layout is None else (layout.centers, layout.scales),
            sizes=call.cells(x),
            span=_span(channels, groups, center or 0, scale or 0),
        )

    @property
    def rows(self) -> int:
        """Rows of x."""
        return self.x.shape[0]

    @property
    def channels(self) -> int:
        """Channels of x."""
        return self.x.shape[1]

    @property
    def segments(self) -> int:
        """Number of segments."""
        return self.ptr.shape[0] - 1

    @property
    def blocks(self) -> int:
        """Number of blocks of channels; these are the groups if channels share a statistic."""
        return -(-self.channels // self.span)

    @property
    def of_each_row(self) -> bool:
        """Whether a row's result depends on this row alone: statistics over its channels, or a
        function."""
        return self.function != 0 or Over.CHANNELS in (self.center, self.scale)

    @property
    def accumulation(self) -> torch.dtype:
        """The dtype of statistics and sums."""
        return accumulation_dtype(self.x.dtype)

    @property
    def second_terms(self) -> int:
        """Sums per channel of a double backward: five more where the activation is curved."""
        return 10 if ACTIVATIONS[self.activation] in CURVED else 5

    def cotangents(self, given: Sequence[Tensor | None]) -> Cotangents:
        """Check the cotangents of the gradients of x, mean_scale, weight and bias."""
        of_x, *others = given
        if of_x is None:
            of_x = torch.zeros_like(self.x)
        check_like("of_grad_x", of_x, self.x.shape, self.x.dtype, self.x)
        own = (self.mean_scale, self.weight, self.bias)
        of_parameters = (
            None
            if parameter is None or cotangent is None
            else _parameter(f"of_grad_{name}", cotangent, tuple(parameter.shape), self.x)
            for name, cotangent, parameter in zip(
                ("mean_scale", "weight", "bias"), others, own, strict=True
            )
        )
        return Cotangents(rows_contiguous(of_x), *of_parameters)

    def parts(self, statistics: Tensor) -> Pair:
        """Return the views of the shifts and of 1/s in the vector of statistics."""
        centers, scales = self.sizes
        return (
            statistics[:centers] if self.center else None,
            statistics[centers : centers + scales] if self.scale else None,
        )

    def split(self) -> tuple[Launch, Launch]:
        """Split into a call with the statistics, in the wide dtype, and one with the rest.

        The features of the second are the result of the first; see `on`.
        """
        plain = replace(
            self,
            x=self.x.to(self.accumulation),
            seed=None,
            weight=None,
            bias=None,
            own=False,
            activation=0,
            dropout=0.0,
        )
        span = _span(self.channels, self.groups, 0, 0)
        then = replace(self, center=0, scale=0, function=0, mean_scale=None, table=None)
        return plain, replace(then, span=span, sizes=(0, 0))

    def on(self, x: Tensor) -> Launch:
        """Return the call on other features."""
        return replace(self, x=x)

    def numbers(self) -> tuple[int, float]:
        """Return the threshold below which an entry is dropped, and the factor of the others."""
        return int(self.dropout * 2**32), 1 / (1 - self.dropout)

    def choices(self, *names: str) -> dict[str, Any]:
        """Return the compile-time constants of a kernel by name."""
        have = {
            "CENTER": self.center,
            "SCALE": self.scale,
            "FUNCTION": self.function,
            "COUNT": 0 if self.mean_scale is None else self.mean_scale.shape[0],
            "ACTIVATION": self.activation,
            "OWN": self.own,
            "ACC": accumulator(self.x.dtype),
        }
        return {name: have[name] for name in (*names, "ACC")}


def _span(channels: int, groups: int, center: int, scale: int) -> int:
    grouped = bool({Over.CHANNELS, Over.BOTH} & {center, scale})
    return tiles.block_of_channels(channels, groups, grouped=grouped)


def _table(layout: Layout, x: Tensor) -> Tensor:
    check_like("layout", layout.table, (3, x.shape[1]), torch.int64, x)
    return layout.table.contiguous()


def _parameter(
    name: str, tensor: Tensor | None, shape: tuple[int, ...], x: Tensor
) -> Tensor | None:
    if tensor is None:
        return None
    check_like(name, tensor, shape, tensor.dtype, x)
    return tensor.to(accumulation_dtype(x.dtype)).contiguous()


def check_like(
    name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, x: Tensor
) -> None:
    """Refuse a tensor with another shape, dtype or device than expected beside x."""
    if tensor.shape != shape or tensor.dtype != dtype or tensor.device != x.device:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}, expected "
            f"{tuple(shape)} of {dtype} on {x.device}"
        )
    check_memory(name, tensor)


def check_statistics(call: Launch, statistics: Tensor) -> None:
    """Refuse statistics that are not those of a forward of this call."""
    size = sum(call.sizes)
    if (
        statistics.dim() != 1
        or statistics.shape[0] < size
        or statistics.dtype != call.accumulation
        or statistics.device != call.x.device
        or not statistics.is_contiguous()
    ):
        raise ValueError(
            f"statistics is {tuple(statistics.shape)} of {statistics.dtype}, expected at least "
            f"{size} of {call.accumulation}"
        )
    check_memory("statistics", statistics)


def check_index(name: str, index: Tensor, length: int | None, x: Tensor) -> None:
    """Refuse ids that a kernel cannot take; `None` allows any length but 0."""
    if (
        index.dtype != torch.int64
        or index.device != x.device
        or index.dim() != 1
        or not index.is_contiguous()
        or not (length is not None or index.shape[0])
        or length not in (None, index.shape[0])
    ):
        number = "at least one" if length is None else str(length)
        raise ValueError(
            f"{name} is {tuple(index.shape)} of {index.dtype} on {index.device}, expected a "
            f"contiguous vector of {number} int64 on {x.device}"
        )
    check_memory(name, index)
