"""HeteroBatchNorm: each channel over all nodes of a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from graphnorms.kernels.point import Over, Point, check_residual
from graphnorms.layers.argument_checks import check_features, check_momentum
from graphnorms.layers.base import Norm
from graphnorms.layers.node_types import as_types, check_types
from graphnorms.layers.norm_options import NormOptions, place
from graphnorms.layers.running_statistics import (
    add_averages,
    by_running,
    check_not_batched,
    reset_averages,
)
from graphnorms.segments import Segments


class HeteroBatchNorm(Norm):
    r"""Normalize each channel over all nodes of the same type in the minibatch.

    With $T$ the nodes of a type, independently in every channel,

    $$ \mu = \tfrac{1}{|T|} \sum_{i \in T} x_i, \quad
       \sigma^2 = \tfrac{1}{|T|} \sum_{i \in T} (x_i - \mu)^2, \quad
       y_i = f\Big(\gamma_T \, \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}}
       + \beta_T\Big) $$

    in training; in `eval()` $\mu$ and $\sigma^2$ are the type's running averages of $\mu$ and of
    the unbiased variance. A type with a single node gives $\beta_T$ and updates only its running
    mean; a type without nodes changes nothing. The layer also works for edges with types.

    `momentum=None` averages over the batches with at least one node of a type (for the variance:
    two). These are counted per type, but a checkpoint stores the total number of batches only:
    after loading, every type continues from it.

    Differs from PyG: the gradient flows through the statistics; the variance is centred before
    squaring, and $\varepsilon$ is added instead of clamping; the running variance is unbiased; the
    counter is updated; and `momentum=None` counts per type.

    Shapes: `x` and the result `(nodes, channels)`; `weight` $\gamma$, `bias` $\beta$,
    `running_mean` and `running_var` `(types, channels)`. Precision: statistics and running
    averages in float32 or wider, under `.half()` too; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        num_types: Number of types.
        eps: $\varepsilon$, in the squared unit of `x`.
        momentum: Weight of the new batch in the running averages; `None` for a cumulative average.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        track_running_stats: Whether to keep running averages; without them `eval()` uses batch
            statistics as well.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels`, `num_types` or `eps` is not positive, `momentum` is outside
            0 … 1, `x` is not `(nodes, in_channels)`, or not every node has one of the types.

    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, per type as in torch_geometric
    2.8 (726310a), with the same parameter and buffer names: its checkpoints load unchanged.
    """

    point = Point(Over.NODES, Over.NODES, "type")
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    batches_of_type: Tensor | None

    def __init__(
        self,
        in_channels: int,
        num_types: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        check_types(num_types)
        check_momentum(momentum)
        self.num_types = num_types
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (num_types, in_channels)
        self._add_parameters(shape, options, weight=affine, bias=affine and bias)
        add_averages(self, shape, wanted=track_running_stats, **place(options))
        counter = self.num_batches_tracked
        # Numbers of batches with at least one and two nodes of the type. Not in PyG's checkpoints.
        of_type = None if counter is None else counter.expand(num_types, 2).clone()
        self.register_buffer("batches_of_type", of_type, persistent=False)

    def reset_running_stats(self) -> None:
        """Set the running means to 0, the running variances to 1 and the counters to 0."""
        reset_averages(self)
        if self.batches_of_type is not None:
            self.batches_of_type.zero_()

    def reset_parameters(self) -> None:
        """Set `weight` to 1 and `bias` to 0, and reset the running statistics."""
        self.reset_running_stats()
        super().reset_parameters()

    def forward(  # type: ignore[override]  # PyG's arguments
        self,
        x: Tensor,
        type_vec: Tensor | Segments | None = None,
        type_ptr: Tensor | Sequence[int] | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize the nodes of each type; `type_vec` or `type_ptr` must be given.

        Args:
            x: The features.
            type_vec: The type of every node, or a `Segments` of the types.
            type_ptr: The offsets of the types, for nodes sorted by type.
            residual: Added last.
            mask: True for the nodes that count; the others (padding) are passed through.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        types = as_types(type_vec, type_ptr, rows_of=x, num_types=self.num_types, mask=mask)
        mean, var = self.running_mean, self.running_var
        tracked = self.track_running_stats and mean is not None
        if tracked and not self.training and mean is not None and var is not None:
            kinds = types.index.clamp(max=self.num_types - 1)  # masked: num_types
            running = by_running(mean, var, self.weight, self.bias, self.eps, kinds)
            return self._transformed(x, residual, mask, running)
        y, statistics = self._normalize(
            x, types, self.equation(x, types, x.shape[1]), residual, statistics=tracked
        )
        if statistics is not None and (x.shape[0] or statistics.counts is not None):
            counts = types.counts if statistics.counts is None else statistics.counts
            self._track(counts.unsqueeze(1), statistics.mean(), statistics.moment())
        return y

    def _track(self, rows: Tensor, mean: Tensor, moment: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.batches_of_type is not None
        check_not_batched(self.running_mean, mean)
        self.num_batches_tracked.add_((rows.sum() > 0).to(torch.long))
        nodes = rows.to(moment.dtype)
        unbiased = moment * (nodes / (nodes - 1).clamp(min=1))
        for least, running, value in (
            (1, self.running_mean, mean),
            (2, self.running_var, unbiased),
        ):
            seen = rows >= least
            batches = self.batches_of_type[:, least - 1 : least]  # (types, 1)
            batches.add_(seen.to(torch.long))
            weight: Tensor | float
            if self.momentum is not None:
                weight = self.momentum
            else:
                weight = 1 / batches.clamp(min=1).to(running.dtype)
            moved = running * (1 - weight) + value.to(running.dtype) * weight
            running.copy_(torch.where(seen, moved, running))

    def _load_from_state_dict(self, *arguments: Any, **choices: Any) -> None:
        super()._load_from_state_dict(*arguments, **choices)
        if self.batches_of_type is not None and self.num_batches_tracked is not None:
            self.batches_of_type = self.num_batches_tracked.expand(self.num_types, 2).clone()

    def _own_repr(self) -> str:
        return f"{self.in_channels}, num_types={self.num_types}"
