"""MessageNorm: scales the message of every node to the norm of the node's features."""

from __future__ import annotations

from typing import Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.index_checks import check_mask
from graphnorms.kernels.point import accumulation_dtype, check_residual
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.base import Norm
from graphnorms.layers.norm_options import PlainOptions, place
from graphnorms.layers.row_norm import row_norm

_LEAST_NORM: Final = 1e-12
"""Lower bound of a message's norm in the division, as in `torch.nn.functional.normalize`."""


class MessageNorm(Norm):
    r"""Scale the aggregated message of a node to the norm of the node's features.

    $$ y_i = f\Big(s \, \lVert x_i \rVert_p \, \frac{m_i}{\lVert m_i \rVert_p}\Big) $$

    The surrounding layer adds the node's features: $x_i + y_i$, or `residual=x`. A message of 0 has
    no direction: it stays 0, and its gradient is 0. The layer accepts any number of channels.

    Differs from PyG in this gradient, which is $s \lVert x_i \rVert \, 10^{12}$ in PyG, and in half
    precision, where PyG's result has the dtype of `scale`.

    Shapes: `msg` and the result `(nodes, channels)` or `(nodes, …, channels)`; `x` the same, or
    with another number of channels; `scale` $s$ `(1,)`. Precision: norms in float32 or wider; the
    result has the dtype of `msg`.

    Args:
        learn_scale: Whether to learn $s$, which is initialized to 1.
        activation, dropout, device, dtype: See `Norm`.

    Raises:
        ValueError: `msg` or `x` is not `(nodes, channels)`, their numbers of nodes differ, or `p`
            is not positive.

    Source: Li et al. 2020, https://arxiv.org/abs/2006.07739; `MsgNorm` in
    `gcn_lib/sparse/torch_message.py` of lightaime/deep_gcns_torch at 4f6681e, and torch_geometric
    2.8 (726310a), with the same parameter name: its checkpoints load unchanged.
    """

    takes_positions = True

    def __init__(self, learn_scale: bool = False, **options: Unpack[PlainOptions]) -> None:
        super().__init__(None, **options)
        self.scale = nn.Parameter(torch.ones(1, **place(options)), requires_grad=learn_scale)

    def forward(  # type: ignore[override]  # PyG's arguments
        self,
        x: Tensor,
        msg: Tensor,
        p: float = 2.0,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize `msg` by `x`.

        Args:
            x: The features of the nodes.
            msg: The aggregated messages.
            p: The order of the norm.
            residual: Added last; has the shape of `msg`.
            mask: True for the nodes that count; the messages of the others are passed through.
        """
        check_features(x, None, positions=True)
        check_features(msg, None, positions=True)
        if x.shape[:-1] != msg.shape[:-1]:
            raise ValueError(
                f"x is {tuple(x.shape)} and msg {tuple(msg.shape)}, expected the same nodes in both"
            )
        if not p > 0:
            raise ValueError(f"p is {p}, expected a positive number")
        check_residual(residual, msg)
        if mask is not None:
            check_mask(mask, msg.shape[0], msg.device)
            # Values in masked rows must not reach the gradients.
            x = torch.where(mask.view(-1, *[1] * (x.dim() - 1)), x, 0)
        channels, shape = msg.shape[-1], msg.shape

        def scaled(messages: Tensor) -> Tensor:
            messages = messages.to(accumulation_dtype(messages.dtype))
            positions = messages.shape[1] // channels
            messages = messages.view(messages.shape[0], positions, channels)
            length = row_norm(messages, p)  # (nodes, positions, 1)
            zero = length == 0
            inverse = torch.where(zero, 0, 1 / torch.where(zero, 1, length).clamp(_LEAST_NORM))
            own = row_norm(x.to(accumulation_dtype(x.dtype)), p).reshape(length.shape)
            factor = self.scale.to(messages.dtype) * own.to(messages.dtype) * inverse
            return (messages * factor).flatten(1)

        residual = None if residual is None else residual.flatten(1)
        return self._transformed(msg.flatten(1), residual, mask, scaled).view(shape)

    def _own_repr(self) -> str:
        return f"learn_scale={self.scale.requires_grad}"
