"""ConditionalNorm: the transform behind the normalization is predicted from a condition."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn

from graphnorms.kernels.point import check_residual
from graphnorms.layers.checks import check_features
from graphnorms.layers.inner import dtype_of
from graphnorms.layers.options import NormOptions, place
from graphnorms.layers.points import PointNorm
from graphnorms.layers.precision import without_autocast
from graphnorms.segments import Segments


class ConditionalNorm(PointNorm):
    r"""Normalize, then transform each graph as its condition says.

    A graph $g$ comes with a vector $c_g$, the embedding of a class, a time, a text or another
    graph. With $\hat o$ the normalized features of a node of $g$,

    $$ (\Delta\gamma_g, \beta_g) = W c_g + b, \qquad
       y = f\big((1 + \Delta\gamma_g) \, \hat o + \beta_g\big). $$

    $W$ and $b$ begin as 0, so that the layer begins as the plain normalization. `center` and
    `scale` choose that normalization by the names of `CustomNorm`: the default is InstanceNorm,
    whose mean and spread of a graph are thus replaced by those of the condition; `"node"` twice
    is the AdaLN of diffusion transformers, which put a SiLU before the linear map: apply it to
    the condition. `"batch"` twice is conditional batch normalization without running averages.

    Shapes: `x` and the result `(nodes, channels)`; `condition` `(graphs, condition_channels)`;
    `linear.weight` `(2 channels, condition_channels)` and `linear.bias` `(2 channels,)`, first
    the rows of $\Delta\gamma$, then those of $\beta$. Precision: statistics in float32 or wider;
    the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        condition_channels: Width of the condition.
        center, scale: What is normalized over: see `CustomNorm`.
        groups: Number of channel groups; it divides `in_channels`.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels`, `condition_channels` or `eps` is not positive; `center`,
            `scale` and `groups` are not a point of the equation; `x` is not
            `(nodes, in_channels)`; `condition` is missing or not one row per graph; or `batch`
            does not assign exactly the rows of `x`.

    Source: De Vries et al., NeurIPS 2017, https://arxiv.org/abs/1707.00683 (changes of $\gamma$
    and $\beta$ predicted from a condition); Peebles & Xie, ICCV 2023,
    https://arxiv.org/abs/2212.09748, and `models.py` of facebookresearch/DiT at ed81ce2 (the form
    $1 + \Delta\gamma$, from zero).
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
        """Set the linear map to 0, which is the plain normalization."""
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
        """Normalize `x` and transform each graph by its condition.

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
        # A row per graph costs little, and every entry of the graph is multiplied by it: so in
        # the dtype of the parameters, whatever that of the condition and of autocast.
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
    """How many rows the condition must have; without a `batch_size` it says so itself."""
    if batch is None:
        return 1
    if isinstance(batch, Segments):
        return batch.num_segments
    return condition.shape[0] if batch_size is None else batch_size
