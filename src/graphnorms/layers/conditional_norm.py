"""ConditionalNorm: gain and bias of each graph or node are predicted from a condition."""

from __future__ import annotations

from typing import Any, Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import check_residual
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.autocast import without_autocast
from graphnorms.layers.inner_batch_norm import dtype_of
from graphnorms.layers.norm_options import NormOptions, place
from graphnorms.layers.point_norm import PointNorm
from graphnorms.segments import Segments

_OWN: Final = {"graph": "graph", "node": "row"}
"""By what a condition is for: which rows share a weight and bias."""


class ConditionalNorm(PointNorm):
    r"""Normalize, then scale and shift each graph, or node, according to its condition.

    Every graph $g$ has a vector $c_g$, e.g. the embedding of a class, a time, a text or another
    graph. With $\hat o$ the normalized features of a node of $g$,

    $$ (\Delta\gamma_g, \beta_g) = W c_g + b, \qquad
       y = f\big((1 + \Delta\gamma_g) \, \hat o + \beta_g\big). $$

    $W$ and $b$ are initialized to 0, so the layer starts as the plain normalization. `center` and
    `scale` choose this normalization by the names of `CustomNorm`. The default is InstanceNorm, so
    the condition replaces the mean and spread of a graph. `"node"` for both is the AdaLN of
    diffusion transformers, which apply a SiLU to the condition first: do so yourself. `"batch"` for
    both is conditional batch normalization without running averages.

    With `per="node"` every node $i$ has a vector $c_i$ of its own, and with `"node"` for both
    domains the layer is the conditional LayerNorm of weather models, whose checkpoints load:
    $y_i = (1 + W_\gamma c_i) \, \mathrm{LN}(x_i) + W_\beta c_i$ with biases, where `scale.*` and
    `bias.*` become the two halves of `linear.*`.

    Shapes: `x` and the result `(nodes, channels)`; `condition` `(graphs, condition_channels)`, or
    with `per="node"` `(nodes, condition_channels)`;
    `linear.weight` `(2 channels, condition_channels)` and `linear.bias` `(2 channels,)`, the rows
    of $\Delta\gamma$ before those of $\beta$. Precision: statistics in float32 or wider; the result
    has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        condition_channels: Width of the condition.
        center, scale: The domains of mean and spread, or a function: see `CustomNorm`.
        groups: Number of channel groups; it divides `in_channels`.
        eps: $\varepsilon$, in the squared unit of `x`.
        per: Whether the condition has a row per `"graph"` or per `"node"`.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels`, `condition_channels` or `eps` is not positive; `center`, `scale`
            and `groups` do not form a point of the equation; `x` is not `(nodes, in_channels)`;
            `per` is unknown; `condition` is missing or does not have one row per graph or node; or
            `batch` does not assign exactly the rows of `x`.

    Source: De Vries et al., NeurIPS 2017, https://arxiv.org/abs/1707.00683 ($\Delta\gamma$ and
    $\beta$ predicted from a condition); Peebles & Xie, ICCV 2023, https://arxiv.org/abs/2212.09748,
    and `models.py` of facebookresearch/DiT at ed81ce2 (the form $1 + \Delta\gamma$ with zero
    initialization); `ConditionalLayerNorm` in `models/src/anemoi/models/layers/normalization.py` of
    ecmwf/anemoi-core at 2cb9b6e (a condition per row).
    """

    def __init__(
        self,
        in_channels: int,
        condition_channels: int,
        center: str = "graph",
        scale: str = "graph",
        groups: int = 1,
        eps: float = 1e-5,
        per: str = "graph",
        **options: Unpack[NormOptions],
    ) -> None:
        if per not in _OWN:
            raise unknown_name("per", str(per), _OWN)
        point: dict[str, Any] = {"center": center, "scale": scale, "groups": groups, "eps": eps}
        super().__init__(in_channels, **point, own=_OWN[per], **options)
        self.per = per
        if condition_channels < 1:
            raise ValueError(
                f"condition_channels is {condition_channels}, expected a positive number"
            )
        self.condition_channels = condition_channels
        self.linear = nn.Linear(condition_channels, 2 * in_channels, **place(options))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the linear map to 0, which gives the plain normalization."""
        super().reset_parameters()
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`, then scale and shift each graph or node according to its condition.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
            condition: One row per graph, empty graphs included, or one per node.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        width = self.condition_channels
        if condition is None:
            raise ValueError(
                f"condition is not given; pass condition=, {width} numbers for each {self.per}"
            )
        of_graphs = self.per == "graph"
        rows = _number_of_graphs(batch, batch_size, condition) if of_graphs else x.shape[0]
        if condition.shape != (rows, width) or not condition.is_floating_point():
            raise ValueError(
                f"condition is {tuple(condition.shape)} of {condition.dtype}, expected one row "
                f"per {self.per} of a floating dtype, ({rows}, {width})"
            )
        # It scales every entry of the graph or node: compute it in the dtype of the parameters,
        # without autocast.
        with without_autocast(x):
            both = self.linear(condition.to(dtype_of(self.linear, condition)))
        change, bias = both.chunk(2, dim=1)
        size = rows if of_graphs and batch_size is None else batch_size
        given = (batch, size, mask)
        return self._at_points(x, given, residual, (None, 1 + change, bias))

    def _own_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.condition_channels}, center={self.center}, "
            f"scale={self.scale}, groups={self.groups}, per={self.per}"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("weight", "bias"):
            parts = [f"{prefix}{half}.{name}" for half in ("scale", "bias")]
            if all(part in state_dict for part in parts):
                halves = [state_dict.pop(part) for part in parts]
                state_dict[f"{prefix}linear.{name}"] = torch.cat(halves)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _number_of_graphs(
    batch: Tensor | Segments | None, batch_size: int | None, condition: Tensor
) -> int:
    """Number of rows the condition must have; without a `batch_size` its own number is taken."""
    if batch is None:
        return 1
    if isinstance(batch, Segments):
        return batch.num_segments
    return condition.shape[0] if batch_size is None else batch_size
