"""What GroupNorm and LayerNorm have in common: a LayerNorm is a GroupNorm of one group."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.kernels import Over
from graphnorms.kernels.problem import check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_eps, check_features, check_groups
from graphnorms.segments import Segments, as_segments

_MODES = {"graph": Over.BOTH, "node": Over.CHANNELS}


class NormOfGroups(Norm):
    """Normalize each group of channels, over a node or over all nodes of a graph.

    Args:
        in_channels, eps, affine, bias, mode: Those of `GroupNorm` and `LayerNorm`.
        num_groups: Number of groups.
        activation, dropout, device, dtype, backend, process_group: Those of every layer.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        num_groups: int,
        eps: float,
        affine: bool,
        mode: str,
        *,
        bias: bool,
        activation: str | None,
        dropout: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        backend: str,
        process_group: Group,
    ) -> None:
        super().__init__(in_channels, activation, dropout, backend)
        check_groups("num_groups", num_groups, in_channels)
        check_eps(eps)
        if mode not in _MODES:
            raise unknown_name("mode", str(mode), _MODES)
        self.num_groups = num_groups
        self.eps = eps
        self.affine = affine
        self.mode = mode
        self.statistics_of = "graph" if mode == "graph" else ""
        self.per_graph = mode == "graph"
        self._add_affine(in_channels, affine, device, dtype, bias)
        self.process_group = process_group
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `weight` to 1 and `bias` to 0."""
        self._reset_affine()

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`; in mode `"node"`, `batch` makes no difference and is not looked at.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        if self.mode == "node":
            segments = as_segments(None, rows_of=x, mask=mask)
        else:
            segments = self._graphs(x, batch, batch_size, mask)
        over = _MODES[self.mode]
        y, _ = self._normalize(
            x, segments, residual, center=over, scale=over, groups=self.num_groups,
            weight=self.weight, bias=self.bias, eps=self.eps,
        )  # fmt: skip
        return y
