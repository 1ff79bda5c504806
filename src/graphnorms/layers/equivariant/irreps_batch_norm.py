"""IrrepsBatchNorm: each copy of an irrep over the minibatch."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Over, Point
from graphnorms.kernels.primitive import Statistics
from graphnorms.layers.argument_checks import check_momentum
from graphnorms.layers.base import Given
from graphnorms.layers.equivariant.irreps_norm import IrrepsNorm, copies_over_rows
from graphnorms.layers.norm_options import IrrepsOptions
from graphnorms.layers.running_statistics import by_running, running_dtype, update_running
from graphnorms.segments import Segments, as_segments


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
        self._add_tables(options.get("device"))
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
        super().reset_parameters()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)):
            if (kept := getattr(self, name)) is not None:
                kept.data.fill_(value)
        if self.running_var is not None:
            self.running_var.fill_(1.0)

    def cells(self) -> Layout:
        """See `IrrepsNorm`."""
        return copies_over_rows(self.irreps, self.normalization)

    def _tables(self) -> dict[str, Tensor]:
        scalars = self.irreps.of_blocks(lambda each: each.is_scalar).nonzero().flatten()
        return {**super()._tables(), "_scalars": scalars}

    def parameters_in_columns(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """See `IrrepsNorm`."""
        weight = None if self.weight is None else self._of_copies(self.weight)
        return None, weight, None if self.bias is None else self._of_scalars(self.bias)

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        if self.instance:
            return super()._compute(x, given, residual, channels)
        mask = given[2]
        if not self.training:
            _, weight, bias = self.parameters_in_columns()
            mean, var = self._of_scalars(self.running_mean), self._of_copies(self.running_var)
            running = by_running(mean, var, weight, bias, self.eps)
            return self._transformed(x, residual, mask, running)
        segments = as_segments(None, rows_of=x, mask=mask)
        y, statistics = self._by_cells(x, segments, residual, statistics=True)
        assert statistics is not None
        self._track(x, segments, statistics)
        return y

    def _track(self, x: Tensor, segments: Segments, statistics: Statistics) -> None:
        """Move the running averages."""
        rows = statistics.counts  # of all ranks
        if rows is None and segments.masked:
            rows = segments.counts
        if rows is None and not x.shape[0]:
            return
        mean = statistics.mean()[0].index_select(0, self._scalars)
        moment = statistics.moment()[0]
        update_running(self.running_mean, self.running_var, None, mean, moment, self.momentum, rows)
