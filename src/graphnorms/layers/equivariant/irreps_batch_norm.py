"""IrrepsBatchNorm: each copy of an irrep over the minibatch."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from graphnorms.kernels.point import Over, Point, accumulation_dtype
from graphnorms.layers.argument_checks import check_momentum
from graphnorms.layers.base import Given
from graphnorms.layers.equivariant.irreps import Block
from graphnorms.layers.equivariant.irreps_norm import IrrepsNorm, over_rows
from graphnorms.layers.norm_options import IrrepsOptions
from graphnorms.layers.running_statistics import by_running, running_dtype


class IrrepsBatchNorm(IrrepsNorm):
    r"""Normalize each copy of an irreducible representation over all nodes of the minibatch.

    With $x_i \in \mathbb{R}^{2l+1}$ a copy at node $i$ of $N$, and $\mu$ subtracted from scalars
    (`0e`) alone,

    $$ \mu = \tfrac{1}{N} \sum_i x_i, \quad o_i = x_i - \mu, \quad
       s^2 = \tfrac{1}{N} \sum_i \tfrac{1}{2l+1} \lVert o_i \rVert^2, \quad
       y_i = \gamma \frac{o_i}{\sqrt{s^2 + \varepsilon}} + \beta $$

    in training; in `eval()` $\mu$ and $s^2$ are running averages, of the *biased* $s^2$, as in
    e3nn. $\beta$ belongs to scalars alone. A batch of one node turns scalars into $\beta$ and every
    other copy into its direction; one without nodes changes nothing.

    It differs from e3nn in three points. `instance=True` means each graph of `batch`, without
    running averages; e3nn's averages over further dimensions of `x`, so that with rows alone it
    normalizes each node by itself. `reduce="max"`, which on rows equals `"mean"`, is left out. And
    statistics are float32 or wider.

    Shapes: `x` and the result `(nodes, columns)`; `weight` and `running_var` `(copies,)`; `bias`
    and `running_mean` `(scalars,)`.

    Args:
        irreps, eps, normalization, layout: See `IrrepsNorm`.
        momentum: Weight of the new batch in the running averages.
        affine: Whether to learn $\gamma$ and $\beta$.
        include_bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        instance: Whether the statistics are those of each graph.
        device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `irreps` cannot be read, `momentum` is outside 0 … 1, `layout` or
            `normalization` is unknown, or `x` is not `(nodes, columns)`.

    Source: `e3nn.nn.BatchNorm` of e3nn 0.6.0 and `cuequivariance_torch.layers.BatchNorm` of
    cuequivariance-torch 0.13.0 (`layout="ir_mul"`), with the same names: their checkpoints load
    unchanged.
    """

    _copy: Tensor
    _scalars: Tensor
    running_mean: Any
    running_var: Any

    point = Point(Over.NODES, Over.BOTH, "batch")

    def __init__(
        self,
        irreps: object,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        include_bias: bool = True,
        instance: bool = False,
        **options: Unpack[IrrepsOptions],
    ) -> None:
        check_momentum(momentum)
        super().__init__(irreps, eps, **options)
        if instance:
            self.point = Point(Over.NODES, Over.BOTH, "graph")
        self.momentum = momentum
        self.instance = instance
        self._add_affine(options, ("weight", "bias"), affine=affine, bias=include_bias)
        self._add_index("_copy", self.irreps.copy_of_columns(), options)
        self._add_index("_scalars", self.irreps.scalar_columns(), options)
        kind: dict[str, Any] = {
            "device": options.get("device"),
            "dtype": running_dtype(options.get("dtype")),
        }
        mean = None if instance else torch.zeros(self.irreps.scalars, **kind)
        self.register_buffer("running_mean", mean)
        self.register_buffer(
            "running_var", None if instance else torch.ones(self.irreps.copies, **kind)
        )

    def reset_parameters(self) -> None:
        """Set γ to 1, β to 0, and the running averages to 0 and 1."""
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)):
            if (kept := getattr(self, name)) is not None:
                kept.data.fill_(value)
        if self.running_var is not None:
            self.running_var.fill_(1.0)

    def point_of(self, block: Block) -> Point:
        """See `IrrepsNorm`."""
        center, scale, groups = over_rows(block, centred=block.is_scalar)
        return Point(center, scale, "graph" if self.instance else "batch", groups)

    def parameters_of(self, block: Block) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """See `IrrepsNorm`."""
        weight = None if self.weight is None else self.weight[block.of_copies]
        bias = self.bias[block.of_scalars] if self.bias is not None and block.is_scalar else None
        return None, weight, bias

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        mask = given[2]
        if self.instance:
            return super()._compute(x, given, residual, channels)
        if self.training:
            y = super()._compute(x, given, residual, channels)
            self._track(self._ordered(x.detach()), mask)
            return y

        def by_averages(x: Tensor) -> Tensor:
            mean = self._in_columns(self.running_mean)
            weight = None if self.weight is None else self.weight[self._copy]
            bias = None if self.bias is None else self._in_columns(self.bias)
            running = by_running(mean, self.running_var[self._copy], weight, bias, self.eps)
            return self._ordered(running(self._ordered(x)), back=True)

        return self._transformed(x, residual, mask, by_averages)

    def _in_columns(self, of_scalars: Tensor) -> Tensor:
        """Spread numbers of scalars over the columns, 0 elsewhere."""
        columns = of_scalars.new_zeros(self.irreps.columns)
        return columns.index_copy(0, self._scalars, of_scalars)

    @torch.no_grad()
    def _track(self, x: Tensor, mask: Tensor | None) -> None:
        """Move the running averages; rows in the order `"mul_ir"`."""
        wide = accumulation_dtype(x.dtype)
        counts = x.new_ones(x.shape[0], 1, dtype=wide)
        if mask is not None:
            counts = mask.unsqueeze(1).to(wide)
        x = torch.where(counts > 0, x.to(wide), 0)
        columns = self.irreps.columns
        sums = torch.cat((counts.sum(0), x.sum(0)))
        rows, total = (sums if self._ranks is None else self._ranks.total(sums)).split((1, columns))
        there = (rows > 0).to(wide)
        mean = self._in_columns((total / rows.clamp(min=1))[self._scalars])
        squares = (counts * (x - mean)).square().sum(0)
        if self._ranks is not None:
            squares = self._ranks.total(squares)
        power = squares.new_zeros(self.irreps.copies).index_add(0, self._copy, squares)
        if self.normalization == "component":
            power = power / torch.bincount(self._copy, minlength=self.irreps.copies)
        for running, value in (
            (self.running_mean, mean[self._scalars]),
            (self.running_var, power / rows.clamp(min=1)),
        ):
            share = (there * self.momentum).to(running.dtype)
            running.mul_(1 - share).add_(value.to(running.dtype) * share)
