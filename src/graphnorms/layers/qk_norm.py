"""QKNorm: normalizes the queries or the keys of each attention head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Unpack

from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import Over, Point, accumulation_dtype
from graphnorms.layers.argument_checks import check_channels, check_groups
from graphnorms.layers.base import Equation, Norm
from graphnorms.layers.norm_options import KernelOptions
from graphnorms.segments import Segments

_KINDS: Final = ("layer", "rms", "l2")


class QKNorm(Norm):
    r"""Normalize the queries or keys of attention, each head of each node alone.

    The channels are `heads` heads of $D$ consecutive channels each. With $x$ the $D$ channels of a
    head,

    $$ \text{layer:}\; y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta, \quad
       \text{rms:}\; y = \gamma \frac{x}{\sqrt{\mathrm{mean}(x^2) + \varepsilon}}, \quad
       \text{l2:}\; y = \gamma \frac{x}{\sqrt{\sum x^2 + \varepsilon}}. $$

    The products of queries and keys are then bounded, whatever the size of the features. All heads
    share $\gamma$ and $\beta$. Use one layer for the queries and another one for the keys. It is
    GroupNorm of a node with heads for groups, but for whom $\gamma$ and $\beta$ belong to.
    `train()` and `eval()` agree.

    Shapes: `x` and the result `(nodes, heads * D)`; `weight` and `bias` `(D,)`. Precision:
    statistics in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels of all heads together.
        heads: Number of heads, a divisor of `in_channels`.
        kind: `"layer"`, `"rms"` or `"l2"`.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$, and for `"layer"` $\beta$; `None`: not for `"l2"`.
        bias: Whether to learn $\beta$ for `"layer"`; `affine=False` turns it off, too.
        activation, dropout, device, dtype, backend: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `heads` does not divide `in_channels`,
            `kind` is unknown, or `x` is not `(nodes, in_channels)`.

    Source: Henry et al., Findings of EMNLP 2020, https://arxiv.org/abs/2010.04245 (l2); Dehghani et
    al., ICML 2023, https://arxiv.org/abs/2302.05442 (LayerNorm); as in `GraphTransformerBaseBlock`
    of `models/src/anemoi/models/layers/block.py` of ecmwf/anemoi-core at 2cb9b6e, whose `q_norm`
    and `k_norm` load unchanged, and, for l2, `SGFormerAttention` of torch_geometric 2.8 (726310a),
    which replaces zeros instead of adding $\varepsilon$.
    """

    @classmethod
    def point_with(cls, arguments: Mapping[str, Any]) -> Point:
        """See `Norm`; depends on `kind` and `heads`."""
        kind = arguments.get("kind", "layer")
        if kind not in _KINDS:
            raise unknown_name("kind", str(kind), _KINDS)
        center = Over.CHANNELS if kind == "layer" else None
        return Point(center, Over.CHANNELS, groups=arguments.get("heads", 1))

    def __init__(
        self,
        in_channels: int,
        heads: int,
        kind: str = "layer",
        eps: float = 1e-5,
        affine: bool | None = None,
        *,
        bias: bool = True,
        **options: Unpack[KernelOptions],
    ) -> None:
        check_channels(in_channels)
        check_groups("heads", heads, in_channels)
        point = self.point_with({"kind": kind, "heads": heads})
        super().__init__(in_channels, point=point, eps=eps, **options)
        self.heads = heads
        self.kind = kind
        self.affine = kind != "l2" if affine is None else affine
        wanted = {"weight": self.affine, "bias": self.affine and bias and kind == "layer"}
        self._add_parameters(in_channels // heads, options, **wanted)

    def equation(self, x: Tensor, segments: Segments, channels: int) -> Equation:
        """Return the point, with the parameters repeated for each head."""
        assert self.point is not None
        weight, bias, eps = self.weight, self.bias, self.eps
        if self.kind == "l2":  # the root of a sum of D squares is √D times that of their mean
            width = channels // self.heads
            gain = 1 / math.sqrt(width)
            eps = eps / width
            if weight is None:
                wide = accumulation_dtype(x.dtype)
                return self.point, None, x.new_full((channels,), gain, dtype=wide), None, eps
            weight = weight * gain
        weight, bias = (None if p is None else p.repeat(self.heads) for p in (weight, bias))
        return self.point, None, weight, bias, eps

    def _own_repr(self) -> str:
        return f"{self.in_channels}, {self.heads}, kind={self.kind}, affine={self.affine}"
