"""ConditionalNorm: gain and bias of each graph are predicted from a condition."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn

from graphnorms.kernels.point import check_residual
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.autocast import without_autocast
from graphnorms.layers.inner_batch_norm import dtype_of
from graphnorms.layers.norm_options import NormOptions, place
from graphnorms.layers.point_norm import PointNorm
from graphnorms.segments import Segments


class ConditionalNorm(PointNorm):
    r"""Normalize, then scale and shift each graph according to its condition.

    Every graph $g$ has a vector $c_g$, e.g. the embedding of a class, a time, a text or another
    graph. With $\hat o$ the normalized features of a node of $g$,

    $$ (\Delta\gamma_g, \beta_g) = W c_g + b, \qquad
       y = f\big((1 + \Delta\gamma_g) \, \hat o + \beta_g\big). $$

    $W$ and $b$ are initialized to 0, so the layer starts as the plain normalization. `center` and
    `scale` choose this normalization by the names of `CustomNorm`. The default is InstanceNorm, so
    the condition replaces the mean and spread of a graph. `"node"` for both is the AdaLN of
    diffusion transformers, which apply a SiLU to the condition first: do so yourself. `"batch"` for
    both is conditional batch normalization without running averages.

    Shapes: `x` and the result `(nodes, channels)`; `condition` `(graphs, condition_channels)`;
    `linear.weight` `(2 channels, condition_channels)` and `linear.bias` `(2 channels,)`, the rows
    of $\Delta\gamma$ before those of $\beta$. Precision: statistics in float32 or wider; the result
    has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        condition_channels: Width of the condition.
        center, scale: The domains of mean and spread: see `CustomNorm`.
        groups: Number of channel groups; it divides `in_channels`.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels`, `condition_channels` or `eps` is not positive; `center`, `scale`
            and `groups` do not form a point of the equation; `x` is not `(nodes, in_channels)`;
            `condition` is missing or does not have one row per graph; or `batch` does not assign
            exactly the rows of `x`.

    Source: De Vries et al., NeurIPS 2017, https://arxiv.org/abs/1707.00683 ($\Delta\gamma$ and
    $\beta$ predicted from a condition); Peebles & Xie, ICCV 2023, https://arxiv.org/abs/2212.09748,
    and `models.py` of facebookresearch/DiT at ed81ce2 (the form $1 + \Delta\gamma$ with zero
    initialization).
    """

    def __init__(
        self,
        in_channels: int,
        condition_channels: int,
        center: str = "graph",
        scale: str = "graph",
        groups: int = 1,
        eps: float = 1e-5,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(
            in_channels, center=center, scale=scale, groups=groups, eps=eps, own="graph", **options
        )
        if condition_channels < 1:
            raise ValueError(
                f"condition_channels is {condition_channels}, expected a positive number"
            )
        self.condition_channels = condition_channels
        self.linear = nn.Linear(condition_channels, 2 * in_channels, **place(options))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the linear map to 0, which gives the plain normalization."""
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
        """Normalize `x`, then scale and shift each graph according to its condition.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
            condition: One row per graph, empty graphs included.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        width = self.condition_channels
        if condition is None:
            raise ValueError(
                f"condition is not given; pass condition=, {width} numbers for each graph"
            )
        graphs = _number_of_graphs(batch, batch_size, condition)
        if condition.shape != (graphs, width) or not condition.is_floating_point():
            raise ValueError(
                f"condition is {tuple(condition.shape)} of {condition.dtype}, expected one row "
                f"per graph of a floating dtype, ({graphs}, {width})"
            )
        # One row per graph is cheap, and it scales every entry of the graph: compute it in the
        # dtype of the parameters, without autocast.
        with without_autocast(x):
            both = self.linear(condition.to(dtype_of(self.linear, condition)))
        change, bias = both.chunk(2, dim=1)
        size = graphs if batch_size is None else batch_size
        given = (batch, size, mask)
        return self._at_points(x, given, residual, (None, 1 + change, bias))

    def _own_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.condition_channels}, center={self.center}, "
            f"scale={self.scale}, groups={self.groups}"
        )


def _number_of_graphs(
    batch: Tensor | Segments | None, batch_size: int | None, condition: Tensor
) -> int:
    """Number of rows the condition must have; without a `batch_size` its own number is taken."""
    if batch is None:
        return 1
    if isinstance(batch, Segments):
        return batch.num_segments
    return condition.shape[0] if batch_size is None else batch_size
