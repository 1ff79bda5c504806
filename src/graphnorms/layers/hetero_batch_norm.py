"""HeteroBatchNorm: each channel over all nodes of a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels import Over
from graphnorms.kernels.problem import check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_eps, check_features, check_momentum
from graphnorms.layers.node_types import as_types, check_types
from graphnorms.layers.running import by_running, check_not_batched, reset_averages, running_dtype
from graphnorms.segments import Segments


class HeteroBatchNorm(Norm):
    r"""Normalize each channel over all nodes of the minibatch that have the same type.

    With $T$ the nodes of a type, independently in every channel,

    $$ \mu = \tfrac{1}{|T|} \sum_{i \in T} x_i, \quad
       \sigma^2 = \tfrac{1}{|T|} \sum_{i \in T} (x_i - \mu)^2, \quad
       y_i = f\Big(\gamma_T \, \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}}
       + \beta_T\Big) $$

    in training; in `eval()` $\mu$ and $\sigma^2$ are the type's running averages of $\mu$ and of
    the unbiased variance. A type with a single node gives $\beta_T$, and moves its running mean
    only; a type without nodes changes nothing. Edges have types as well as nodes do.

    `momentum=None` averages over the batches in which a type was seen (the variance: seen
    twice). They are counted per type, but a checkpoint holds the number of all batches alone:
    after loading one every type goes on from that.

    Differs from PyG: the gradient goes through the statistics; the variance is centred before
    squaring, and $\varepsilon$ is added to it, where PyG clamps; the running variance is the
    unbiased one; the counter moves; and `momentum=None` counts per type.

    Shapes: `x` and the result `(nodes, channels)`; `weight` $\gamma$, `bias` $\beta$,
    `running_mean` and `running_var` `(types, channels)`. Precision: statistics and running
    averages in float32 or wider, under `.half()` too; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        num_types: Number of types.
        eps: $\varepsilon$, in the squared unit of `x`.
        momentum: Weight of a batch in the running averages; `None` for the plain average.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether $\beta$ is among them.
        track_running_stats: Whether to keep running averages; without them `eval()` normalizes
            by the batch as well.
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or
            `"silu"`.
        dropout: Share of the entries to drop in training, fused as well; nothing is stored.
        device, dtype: Where and how the parameters are made.
        backend: `"auto"`, or one backend by name, which then never falls back.
        process_group: Ranks whose nodes count as one minibatch: `"world"`, a `ProcessGroup`, or
            `None` for those of the rank alone.

    Raises:
        ValueError: `in_channels`, `num_types` or `eps` is not positive, `momentum` is outside
            0 … 1, `x` is not `(nodes, in_channels)`, or not every node has one of the types.

    Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, per type as in torch_geometric
    2.8 (726310a), by whose names parameters and buffers go and whose checkpoints load unchanged.
    """

    statistics_of = "batch"
    per_graph = False
    weight: Tensor | None
    bias: Tensor | None
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
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__(in_channels, activation, dropout, backend)
        check_types(num_types)
        check_eps(eps)
        check_momentum(momentum)
        self.num_types = num_types
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (num_types, in_channels)
        self._add_affine(shape, affine, device, dtype, bias)
        mean = var = counter = of_type = None
        if track_running_stats:
            mean = torch.empty(shape, device=device, dtype=running_dtype(dtype))
            var = torch.empty_like(mean)
            counter = torch.tensor(0, dtype=torch.long, device=device)
            of_type = torch.zeros((num_types, 2), dtype=torch.long, device=device)
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", var)
        self.register_buffer("num_batches_tracked", counter)
        # Batches with at least one and at least two nodes of the type. PyG has no such key.
        self.register_buffer("batches_of_type", of_type, persistent=False)
        self.process_group = process_group
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Set the running means to 0, the running variances to 1 and the counters to 0."""
        reset_averages(self)
        if self.batches_of_type is not None:
            self.batches_of_type.zero_()

    def reset_parameters(self) -> None:
        """Set `weight` to 1 and `bias` to 0, and reset the running statistics."""
        self.reset_running_stats()
        self._reset_affine()

    def forward(
        self,
        x: Tensor,
        type_vec: Tensor | Segments | None = None,
        type_ptr: Tensor | Sequence[int] | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize the types of `x`; one of `type_vec` and `type_ptr` must be given.

        Args:
            x: The features.
            type_vec: The type of every node, or a `Segments` of the types.
            type_ptr: Where the types begin and end, if nodes are sorted by type.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        types = as_types(type_vec, type_ptr, rows_of=x, num_types=self.num_types, mask=mask)
        tracked = self.track_running_stats and self.running_mean is not None
        if tracked and not self.training:
            assert self.running_mean is not None
            assert self.running_var is not None
            return self._finish(
                x, residual, mask,
                by_running(
                    self.running_mean, self.running_var, self.weight, self.bias, self.eps,
                    types.index.clamp(max=self.num_types - 1),  # masked rows have a number behind
                ),
            )  # fmt: skip
        y, statistics = self._normalize(
            x, types, residual, center=Over.NODES, scale=Over.NODES,
            weight=self.weight, bias=self.bias, eps=self.eps, statistics=tracked,
        )  # fmt: skip
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
