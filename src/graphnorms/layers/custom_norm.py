"""CustomNorm: any point of the one equation, by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.problem import check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.checks import check_features
from graphnorms.layers.points import PointNorm
from graphnorms.segments import Segments

_SHIFTS = ("fixed", "learned")


class CustomNorm(PointNorm):
    r"""Center over one domain, scale over another: any point of the equation.

    $$ \mu = \langle x \rangle_\mathrm{center}, \quad o = x - \alpha \mu, \quad
       s^2 = \langle o^2 \rangle_\mathrm{scale}, \quad
       y = f\Big(\gamma \, \frac{o}{\sqrt{s^2 + \varepsilon}} + \beta\Big), $$

    with $\langle\cdot\rangle$ the mean over the entries that share a statistic:

    - `"none"`: nothing is subtracted, or divided by;
    - `"node"`: the channels of a node;
    - `"graph"`: the nodes of a graph, each channel alone;
    - `"graph-channels"`: the nodes and channels of a graph;
    - `"batch"`: all nodes of the minibatch, each channel alone;
    - `"batch-channels"`: all nodes and channels of the minibatch.

    Where channels share a statistic they do so within each of `groups` groups. $s^2$ is the
    variance only where both domains are the same and $\alpha = 1$.

    The defaults with `shift="learned"` are GraphNorm, without it InstanceNorm; `"node"` twice is
    LayerNorm of a node, `"graph-channels"` twice LayerNorm of a graph, `"none"` and `"node"`
    RMSNorm, `"batch"` twice BatchNorm by its batch. There are no running statistics: `train()`
    and `eval()` agree, over the batch as well.

    One pass does it all where kernels have the point: where centre and scale go over the rows
    of the same graphs, or of the whole batch, or over the channels of a node. A graph and the
    whole batch are two passes. `"node"` beside a domain of nodes, `"graph-channels"` (or
    `"batch-channels"`) as the centre of a scale over each channel alone, or with a learned
    shift, run in plain torch, and a backend asked for by name refuses them.

    Shapes: `x` and the result `(nodes, channels)`; `weight` $\gamma$, `bias` $\beta$ and
    `mean_scale` $\alpha$ `(channels,)`. Precision: statistics in float32 or wider; the result
    has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        center, scale: What $\mu$ and $s^2$ are means over, by the names above.
        shift: `"fixed"` for $\alpha = 1$, `"learned"` for one per channel.
        groups: Number of channel groups; it divides `in_channels`.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether $\beta$ is among them.
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or
            `"silu"`.
        dropout: Share of the entries to drop in training, fused as well; nothing is stored.
        device, dtype: Where and how the parameters are made.
        backend: `"auto"`, or one backend by name, which then never falls back.
        process_group: Ranks whose nodes count as one minibatch, and over which every graph is
            spread, graph by graph under the same id: `"world"`, a `ProcessGroup`, or `None`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive; a name is unknown; centre and scale
            are both `"none"`; `shift="learned"` without a centre; `groups` does not divide the
            channels, or is not 1 where every channel is alone; `x` is not
            `(nodes, in_channels)`; or `batch` does not assign exactly the rows of `x`.

    Source: the equation is that of `graphnorms.segment_normalize`.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    mean_scale: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        center: str = "graph",
        scale: str = "graph",
        shift: str = "fixed",
        groups: int = 1,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__(
            in_channels, activation, dropout, backend,
            center=center, scale=scale, groups=groups, eps=eps, process_group=process_group,
        )  # fmt: skip
        if shift not in _SHIFTS:
            raise unknown_name("shift", str(shift), _SHIFTS)
        if shift == "learned" and center == "none":
            raise ValueError(
                "shift is 'learned', but center is 'none': there is no mean to remove a share of"
            )
        self.shift = shift
        self.affine = affine
        for name, present in (
            ("weight", affine), ("bias", affine and bias), ("mean_scale", shift == "learned")
        ):  # fmt: skip
            empty = torch.empty(in_channels, device=device, dtype=dtype) if present else None
            self.register_parameter(name, None if empty is None else nn.Parameter(empty))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `weight` and `mean_scale` to 1 and `bias` to 0."""
        for name, parameter in self.named_parameters():
            nn.init.constant_(parameter, 0.0 if name == "bias" else 1.0)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`; `batch` is looked at only where a domain goes over graphs.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        return self._at_point(
            x, batch, batch_size, residual, mask, self.mean_scale, self.weight, self.bias
        )

    def _own_repr(self) -> str:
        return (
            f"{self.in_channels}, center={self.center}, scale={self.scale}, shift={self.shift}, "
            f"groups={self.groups}, affine={self.affine}"
        )
