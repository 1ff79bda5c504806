"""CustomNorm: any point of the one equation."""

from __future__ import annotations

from typing import Final, Unpack

from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.layers.base import Given
from graphnorms.layers.norm_options import NormOptions
from graphnorms.layers.point_norm import PointNorm

_SHIFTS: Final = ("fixed", "learned")


class CustomNorm(PointNorm):
    r"""Center over one domain and scale over another: any point of the equation.

    $$ \mu = \langle x \rangle_\mathrm{center}, \quad o = x - \alpha \mu, \quad
       s^2 = \langle o^2 \rangle_\mathrm{scale}, \quad
       y = f\Big(\gamma \, \frac{o}{\sqrt{s^2 + \varepsilon}} + \beta\Big), $$

    with $\langle\cdot\rangle$ the mean over the entries that share a statistic:

    - `"none"`: no mean is subtracted, or no spread divided by;
    - `"node"`: the channels of a node;
    - `"graph"`: the nodes of a graph, each channel separately;
    - `"graph-channels"`: the nodes and channels of a graph;
    - `"batch"`: all nodes of the minibatch, each channel separately;
    - `"batch-channels"`: all nodes and channels of the minibatch.

    As a scale, `"tanh"` and `"erf"` put this function in place of the division,
    $\hat o = \varphi(a \, o)$ with one learned slope $a$, the parameter `alpha`, which begins at
    0.5: `"none"` and `"tanh"` are `DyT`.

    If channels share a statistic, they do so within each of `groups` groups. $s^2$ is the variance
    only if both domains are the same and $\alpha = 1$.

    The defaults are InstanceNorm, with `shift="learned"` GraphNorm. `"node"` for both is LayerNorm
    of a node, `"graph-channels"` for both LayerNorm of a graph, `"none"` and `"node"` RMSNorm, and
    `"batch"` for both BatchNorm with batch statistics. There are no running statistics: `train()`
    and `eval()` agree, also for statistics over the batch.

    The kernels need one pass if centre and scale are both over graphs, both over the batch, or both
    over the channels of a node, and two passes for a graph and the batch, or for a centre and a
    function. Plain torch runs the
    other points, and a backend requested by name refuses them: `"node"` combined with a domain over
    rows; `"graph-channels"` or `"batch-channels"` as the centre of a scale per channel; and a
    learned shift with a centre over channels.

    Shapes: `x` and the result `(nodes, channels)`; `weight` $\gamma$, `bias` $\beta$ and
    `mean_scale` $\alpha$ `(channels,)`. Precision: statistics in float32 or wider; the result
    has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        center, scale: The domains of $\mu$ and $s^2$, or a function, by the names above.
        shift: `"fixed"` for $\alpha = 1$, `"learned"` for one per channel.
        groups: Number of channel groups; it divides `in_channels`.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive; a name is unknown; centre and scale are
            both `"none"`; `shift="learned"` without a centre; `groups` does not divide the
            channels, or is not 1 although no domain is over channels; `x` is not `(nodes,
            in_channels)`; or `batch` does not assign exactly the rows of `x`.

    Source: the equation of `graphnorms.segment_normalize`.
    """

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
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(in_channels, center=center, scale=scale, groups=groups, eps=eps, **options)
        if shift not in _SHIFTS:
            raise unknown_name("shift", str(shift), _SHIFTS)
        if shift == "learned" and center == "none":
            raise ValueError(
                "shift is 'learned', but center is 'none'; use shift='fixed', or choose a center"
            )
        self.shift = shift
        self.affine = affine
        wanted = {"weight": affine, "bias": affine and bias, "mean_scale": shift == "learned"}
        self._add_parameters(in_channels, options, **wanted)

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        parameters = (self.mean_scale, self.weight, self.bias)
        return self._at_points(x, given, residual, parameters)

    def _own_repr(self) -> str:
        return (
            f"{self.in_channels}, center={self.center}, scale={self.scale}, shift={self.shift}, "
            f"groups={self.groups}, affine={self.affine}"
        )
