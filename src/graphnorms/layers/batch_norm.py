"""BatchNorm: each channel over all nodes of the minibatch."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from graphnorms.kernels.point import (
    NO_STATISTICS,
    Averages,
    MovedAverages,
    Over,
    Point,
    accumulation_dtype,
)
from graphnorms.layers.argument_checks import check_eps, check_momentum
from graphnorms.layers.base import Given, Norm, OneCall
from graphnorms.layers.inner_batch_norm import InnerBatchNorm, is_untouched, of_inner, reset
from graphnorms.layers.norm_options import NormOptions, place
from graphnorms.layers.running_statistics import update_by_batch
from graphnorms.segments import Segments, as_segments
from graphnorms.tracing import is_traced


class BatchNorm(Norm):
    r"""Normalize each channel over all nodes of the minibatch.

    $$ \mu = \tfrac{1}{N} \sum_i x_i, \quad
       \sigma^2 = \tfrac{1}{N} \sum_i (x_i - \mu)^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta\Big) $$

    in training; in `eval()` $\mu$ and $\sigma^2$ are the running averages of $\mu$ and of the
    unbiased variance. `momentum=None` averages over all batches. A batch without nodes changes
    nothing.

    Shapes: `x` and the result `(nodes, channels)`; `module.weight`, `module.bias`,
    `module.running_mean`, `module.running_var` `(channels,)`. Precision: statistics and running
    averages in float32 or wider, under `.half()` too; the result has the dtype of `x`.

    Hooks on `module` see the normalization before $f$ and dropout. A module that replaces it is
    called with `x` alone; masks and process groups are refused then.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`.
        momentum: Weight of the new batch in the running averages; `None` for a cumulative average.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        track_running_stats: Whether to keep running averages; without them `eval()` uses batch
            statistics as well.
        allow_single_element: In training, normalize a batch of one node by the running averages
            instead of raising an error.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `momentum` is outside 0 … 1,
            `allow_single_element` without running averages, `x` is not `(nodes, in_channels)`,
            or has a single row in training.

    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, as in torch_geometric 2.8
    (726310a), with the same parameter and buffer names: its checkpoints load unchanged.
    """

    point = Point(Over.NODES, Over.NODES, "batch")
    eps = of_inner("module", "eps")
    momentum = of_inner("module", "momentum")
    track_running_stats = of_inner("module", "track_running_stats")
    _takes_single_elements = True  # layers that contain this one have no such argument

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        allow_single_element: bool = False,
        *,
        bias: bool = True,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(in_channels, **options)
        check_eps(eps)
        check_momentum(momentum)
        if allow_single_element and not track_running_stats:
            raise ValueError(
                "'allow_single_element' requires 'track_running_stats' to be set to `True`"
            )
        self.allow_single_element = allow_single_element
        # Holds the parameters, because PyG's keys begin with "module.".
        self.module = InnerBatchNorm(
            in_channels, eps, momentum, affine, track_running_stats, bias=bias, **place(options)
        )

    @property
    def _one_call(self) -> bool:
        """No hook on `module` sees it, and by running averages it has no gradient."""
        own: Any = self._modules["module"]
        if not is_untouched(own, InnerBatchNorm) or self.allow_single_element:
            return False
        return bool(own.training) or not torch.is_grad_enabled()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the counter to 0."""
        reset(self.module, "reset_running_stats")

    def reset_parameters(self) -> None:
        """Set `weight` to 1 and `bias` to 0, and reset the running statistics."""
        reset(self.module, "reset_parameters")

    def as_call(self, x: Tensor, segments: Segments, channels: int) -> OneCall | None:
        """See `Norm.as_call`."""
        own: Any = self._modules["module"]
        mean, var, count = own.running_mean, own.running_var, own.num_batches_tracked
        point, wide = self.point, accumulation_dtype(x.dtype)
        averages: MovedAverages | Averages | None = None
        if mean is not None and (mean.dtype, var.dtype) != (wide, wide):
            return None
        if not own.training and mean is not None:
            point, averages = NO_STATISTICS, Averages(mean, var)
        elif x.shape[0] < 2:
            return None
        elif mean is not None and own.track_running_stats:
            if own.momentum is None or count.dtype is not torch.int64:
                return None
            averages = MovedAverages(mean, var, count, own.momentum)
        equation = (point, None, own.weight, own.bias, own.eps)
        return *self._call(x, as_segments(None, rows_of=x), equation), averages

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        # `self.module` would make a small call 1 % slower.
        own: Any = self._modules["module"]
        _, _, mask = given
        if is_untouched(own, InnerBatchNorm):
            return self._with(own, x, residual, mask)

        def through_inner(x: Tensor) -> Tensor:
            return self._call_inner(
                "module", x, mask, lambda x: self._with(own, x, None, mask, plain=True)
            )

        return self._transformed(x, residual, mask, through_inner)

    def _with(
        self,
        own: InnerBatchNorm,
        x: Tensor,
        residual: Tensor | None,
        mask: Tensor | None,
        *,
        plain: bool = False,
    ) -> Tensor:
        """Normalize, with the epilogue unless `plain`."""
        running_mean, running_var = own.running_mean, own.running_var
        by_batch = own.training or running_mean is None
        if by_batch and self.allow_single_element and self._count(x) <= 1:
            by_batch = False
        if not by_batch:
            assert running_mean is not None
            assert running_var is not None
            averages, affine = Averages(running_mean, running_var), (own.weight, own.bias, own.eps)
            return self._by_averages(x, residual, mask, averages, affine, plain=plain)
        if own.training and x.shape[0] == 1 and not self._is_shared():
            raise self._single_row()
        segments = as_segments(None, rows_of=x, mask=mask)
        tracked = running_mean is not None and own.track_running_stats
        y, statistics = self._normalize(
            x,
            segments,
            (self.point, None, own.weight, own.bias, own.eps),
            residual,
            statistics=own.training and (tracked or self._ranks is not None),
            plain=plain,
        )
        if statistics is None:
            return y
        counts = statistics.counts
        if counts is not None and _is_one(counts):
            raise self._single_row()
        if tracked and (counts is not None or x.shape[0]):
            count: Any = own.num_batches_tracked
            assert running_mean is not None
            assert running_var is not None
            update_by_batch(running_mean, running_var, count, x, segments, statistics, own.momentum)
        return y

    def _count(self, x: Tensor) -> int:
        """Count the rows on all ranks that share statistics."""
        if self._ranks is None:
            return x.shape[0]
        return int(self._ranks.total(torch.tensor(x.shape[0], device=x.device)))

    def _single_row(self) -> ValueError:
        ways = "use a larger batch"
        if self._takes_single_elements and self.module.running_mean is not None:
            ways += ", or allow_single_element=True"
        size = torch.Size((1, self.in_channels))
        return ValueError(
            f"Expected more than 1 value per channel when training, got input size {size}; {ways}"
        )

    def _own_repr(self) -> str:
        own: Any = self._modules["module"]
        if not isinstance(own, InnerBatchNorm):
            return f"module={own}"
        text: str = own.extra_repr()  # type: ignore[no-untyped-call]
        return text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _is_one(counts: Tensor) -> bool:
    """Whether there is a single row on all ranks; False on a GPU and in traced code, without a
    read."""
    return counts.is_cpu and not is_traced() and int(counts) == 1
