"""HeteroLayerNorm: over the channels of a node, with parameters per type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import Over, Point, check_residual
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.base import Norm
from graphnorms.layers.node_types import as_types, check_types
from graphnorms.layers.norm_options import KernelOptions
from graphnorms.segments import Segments


class HeteroLayerNorm(Norm):
    r"""Normalize the channels of each node, then apply the parameters of its type.

    For a node of type $T$,

    $$ \mu = \tfrac{1}{C} \sum_c x_c, \quad
       \sigma^2 = \tfrac{1}{C} \sum_c (x_c - \mu)^2, \quad
       y = f\Big(\gamma_T \, \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta_T\Big). $$

    If all channels of a node are equal, the result is $\beta_T$. There are no running statistics.

    Differs from PyG in refusing a `type_ptr` that does not end at the last row, for which PyG
    returns uninitialized memory.

    Shapes: `x` and the result `(nodes, channels)`; `weight` and `bias` `(types, channels)`.
    Precision: statistics in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        num_types: Number of types.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        mode: Must be `"node"`.
        activation, dropout, device, dtype, backend: See `Norm`.

    Raises:
        ValueError: `in_channels`, `num_types` or `eps` is not positive, `mode` is unknown, `x` is
            not `(nodes, in_channels)`, or not every node has one of the types.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450, per type as in torch_geometric 2.8
    (726310a), with the same parameter names: its checkpoints load unchanged.
    """

    point = Point(Over.CHANNELS, Over.CHANNELS)

    def __init__(
        self,
        in_channels: int,
        num_types: int,
        eps: float = 1e-5,
        affine: bool = True,
        mode: str = "node",
        *,
        bias: bool = True,
        **options: Unpack[KernelOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        check_types(num_types)
        if mode != "node":
            raise unknown_name("mode", str(mode), ("node",))
        self.num_types = num_types
        self.affine = affine
        self._add_parameters((num_types, in_channels), options, weight=affine, bias=affine and bias)

    def forward(  # type: ignore[override]  # PyG's arguments
        self,
        x: Tensor,
        type_vec: Tensor | Segments | None = None,
        type_ptr: Tensor | Sequence[int] | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize the nodes of `x`; `type_vec` or `type_ptr` must be given.

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
        y, _ = self._normalize(x, types, self.equation(x, types, x.shape[1]), residual)
        return y

    def _own_repr(self) -> str:
        return f"{self.in_channels}, num_types={self.num_types}"
