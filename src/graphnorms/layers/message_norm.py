"""MessageNorm: every node's message brought to the length of the node's features."""

from __future__ import annotations

from typing import Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.kernels.point import accumulation_dtype, check_residual
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_features
from graphnorms.layers.options import PlainOptions, place
from graphnorms.layers.row_norm import row_norm
from graphnorms.segments import check_mask

_LEAST_NORM: Final = 1e-12
"""Below it a message is divided by it, as `torch.nn.functional.normalize` does."""


class MessageNorm(Norm):
    r"""Give the message that a node has aggregated the norm of the node's own features.

    $$ y_i = f\Big(s \, \lVert x_i \rVert_p \, \frac{m_i}{\lVert m_i \rVert_p}\Big) $$

    The layer around it adds the node: $x_i + y_i$, or `residual=x`. A message of 0 has no
    direction: it stays 0, and so does its gradient. It takes any number of channels.

    Differs from PyG in that gradient, where PyG's is $s \lVert x_i \rVert$ times $10^{12}$, and
    in half precision, where PyG's result has the dtype of `scale`.

    Shapes: `msg` and the result `(nodes, channels)` or `(nodes, …, channels)`; `x` the same, or
    with another number of channels; `scale` $s$ `(1,)`. Precision: norms in float32 or wider; the
    result has the dtype of `msg`.

    Args:
        learn_scale: Whether to learn $s$, which begins with 1.
        activation, dropout, device, dtype: See `Norm`.

    Raises:
        ValueError: `msg` or `x` is not `(nodes, channels)`, they have not the same nodes, or `p`
            is not positive.

    Source: Li et al. 2020, https://arxiv.org/abs/2006.07739; `MsgNorm` in
    `gcn_lib/sparse/torch_message.py` of lightaime/deep_gcns_torch at 4f6681e, and torch_geometric
    2.8 (726310a), by whose name the parameter goes and whose checkpoints load unchanged.
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
            msg: What they have aggregated.
            p: Which norm.
            residual: Added at the very end; like `msg`.
            mask: Which nodes count; the messages of others come out as they are.
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
            # Whatever masked rows hold stays out of the gradients.
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
