"""What every layer has beside its formula: an epilogue and a backend."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphnorms.kernels.api import Statistics, finish, normalize
from graphnorms.kernels.dropout import draw_seed
from graphnorms.kernels.problem import Over, check_activation, check_dropout
from graphnorms.layers.checks import check_channels
from graphnorms.segments import Segments


class Norm(nn.Module):
    """A normalization, with activation, dropout and residual fused behind it.

    Args:
        in_channels: Number of channels; `None` for a layer that takes any.
        activation: `None`, or the name of what is fused: see `segment_normalize`.
        dropout: Share of the entries to drop in training, behind the activation.
        backend: `"auto"`, or one backend by name, which then never falls back.
    """

    in_channels: int
    per_graph: bool = True
    """Whether the result depends on which graph a row belongs to."""

    def __init__(
        self, in_channels: int | None, activation: str | None, dropout: float, backend: str = "auto"
    ) -> None:
        super().__init__()
        check_activation(activation)
        check_dropout(dropout)
        if in_channels is not None:
            check_channels(in_channels)
            self.in_channels = in_channels
        self.activation = activation
        self.dropout = dropout
        self.backend = backend

    def _normalize(
        self, x: Tensor, segments: Segments, residual: Tensor | None, *, center: Over | None,
        scale: Over | None, groups: int = 1, mean_scale: Tensor | None = None,
        weight: Tensor | None, bias: Tensor | None, eps: float, statistics: bool = False,
    ) -> tuple[Tensor, Statistics | None]:  # fmt: skip
        """Run the primitive with the layer's own epilogue."""
        share = self.dropout if self.training else 0.0
        # Named one by one: to gather and spread keywords costs 3 µs of a small call.
        return normalize(
            x, segments, center=center, scale=scale, groups=groups, mean_scale=mean_scale,
            weight=weight, bias=bias, eps=eps, activation=self.activation, dropout=share,
            seed=draw_seed(x.device) if share else None, residual=residual,
            backend=self.backend, statistics=statistics,
        )  # fmt: skip

    def _finish(
        self,
        x: Tensor,
        residual: Tensor | None,
        mask: Tensor | None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Apply a transform that leaves rows in their place, then the epilogue, in plain torch.

        The transform sees 0 in masked rows, and may return a wider dtype than that of x.
        """
        share = self.dropout if self.training else 0.0
        # What masked rows hold stays out of the gradients, too.
        y = x if mask is None else torch.where(mask.unsqueeze(1), x, 0)
        if transform is not None:
            y = transform(y)
        y = finish(y, self.activation, share, draw_seed(x.device) if share else None)
        y = y.to(x.dtype)
        if mask is not None:
            y = torch.where(mask.unsqueeze(1), y, x)
        return y if residual is None else y + residual

    def _own_repr(self) -> str:
        return str(getattr(self, "in_channels", ""))

    def extra_repr(self) -> str:
        """Return PyG's text, and what is fused behind it."""
        parts = [self._own_repr()]
        if self.activation is not None:
            parts.append(f"activation={self.activation!r}")
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        return ", ".join(part for part in parts if part)
