"""What DyT and Derf share: a bounded function of each entry in place of statistics."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from graphnorms.layers.base import Equation, Norm
from graphnorms.layers.norm_options import KernelOptions, place
from graphnorms.segments import Segments


class BoundedNorm(Norm):
    """A layer at a point with a function, which has a learned slope and possibly a learned shift.

    Args:
        in_channels, affine, bias, options: See `DyT`.
        alpha: Where the slope begins.
        shift: Where the shift begins; `None` for a function without one.
    """

    takes_positions = True
    alpha: nn.Parameter
    shift: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        alpha: float,
        shift: float | None,
        affine: bool,
        bias: bool,
        **options: Unpack[KernelOptions],
    ) -> None:
        super().__init__(in_channels, **options)
        if not (math.isfinite(alpha) and alpha):
            raise ValueError(f"alpha is {alpha}, expected a finite number other than 0")
        if shift is not None and not math.isfinite(shift):
            raise ValueError(f"shift is {shift}, expected a finite number")
        self.affine = affine
        self._begins = {"alpha": alpha, "shift": shift}
        for name, value in self._begins.items():
            made = None if value is None else nn.Parameter(torch.empty(1, **place(options)))
            self.register_parameter(name, made)
        self._add_parameters(in_channels, options, weight=affine, bias=affine and bias)
        self.reset_parameters()

    def equation(self, x: Tensor, segments: Segments, channels: int) -> Equation:
        """See `Norm`; there is no ε."""
        assert self.point is not None
        argument = self.alpha if self.shift is None else torch.cat((self.alpha, self.shift))
        weight, bias = self.weight, self.bias
        if (copies := x.shape[1] // channels) > 1:
            weight, bias = (None if p is None else p.repeat(copies) for p in (weight, bias))
        return self.point, argument, weight, bias, 0.0

    def reset_parameters(self) -> None:
        """Set α and s to where they begin, `weight` to 1 and `bias` to 0."""
        super().reset_parameters()
        for name, value in self._begins.items():
            if value is not None:
                nn.init.constant_(getattr(self, name), value)

    def _own_repr(self) -> str:
        begins = ", ".join(f"{k}={v}" for k, v in self._begins.items() if v is not None)
        return f"{self.in_channels}, {begins}, affine={self.affine}"
