"""What BatchNorm does to a gradient, part by part: theorem 4.1 of Santurkar et al. 2018."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from graphnorms.kernels.calls import check_features
from graphnorms.kernels.point import in_float64


@dataclass(frozen=True, slots=True, eq=False)
class BatchNormGradient:
    r"""The squared norm of a gradient behind a BatchNorm, and what the norm takes out of it.

    With $g$ the gradient behind the norm and $\hat x$ the standardized input of a channel, over
    $m$ rows. Shapes: all tensors `(channels,)`, float64.

    Args:
        gain: $\gamma^2 / (\sigma^2 + \varepsilon)$.
        incoming: $\lVert g \rVert^2$.
        mean_part: $\langle 1, g \rangle^2 / m$.
        scale_part: $\big(1 + \frac{\varepsilon}{\sigma^2 + \varepsilon}\big)
            \langle \hat x, g \rangle^2 / m$.
    """

    gain: Tensor
    incoming: Tensor
    mean_part: Tensor
    scale_part: Tensor

    @property
    def outgoing(self) -> Tensor:
        r"""The squared norm of the gradient before the norm, by the theorem, `(channels,)`.

        $\lVert \partial L / \partial x \rVert^2 = \text{gain} \cdot (\text{incoming} -
        \text{mean\_part} - \text{scale\_part})$.
        """
        return self.gain * (self.incoming - self.mean_part - self.scale_part)

    @property
    def removed(self) -> Tensor:
        """The share of `incoming` that is taken out, `(channels,)`; NaN where there is none."""
        return (self.mean_part + self.scale_part) / self.incoming


def batch_norm_gradient(
    x: Tensor, gradient: Tensor, *, weight: Tensor | None = None, eps: float = 0.0
) -> BatchNormGradient:
    r"""Take apart what a BatchNorm makes of a gradient that comes back to it.

    For $y = \gamma \hat x + \beta$, $\hat x = (x - \mu) / \sqrt{\sigma^2 + \varepsilon}$ over $m$
    rows, and $g = \partial L / \partial y$, in every channel

    $$ \Big\lVert \frac{\partial L}{\partial x} \Big\rVert^2 =
       \frac{\gamma^2}{\sigma^2 + \varepsilon} \Big( \lVert g \rVert^2 -
       \frac1m \langle 1, g \rangle^2 - \frac1m \Big(1 + \frac{\varepsilon}{\sigma^2 +
       \varepsilon}\Big) \langle \hat x, g \rangle^2 \Big). $$

    At $\varepsilon = 0$ the right side is the bound of theorem 4.1, and it is attained: the norm
    takes out of the gradient what points along $1$ and along $\hat x$. In the theorem $g$ is
    the gradient of the network without the norm, at activations equal to $y$.

    Shapes: `x` and `gradient` `(rows, channels)`, `weight` `(channels,)`.

    Args:
        x: The input of the norm.
        gradient: $\partial L / \partial y$.
        weight: $\gamma$; `None` for 1.
        eps: $\varepsilon$.

    Raises:
        ValueError: The shapes do not fit each other, or `eps` is negative.

    Source: Santurkar et al. 2018, theorem 4.1, https://arxiv.org/abs/1805.11604; the term in
    $\varepsilon$ is worked out on the page of the probes.
    """
    check_features(x)
    if gradient.shape != x.shape:
        raise ValueError(f"gradient is {tuple(gradient.shape)}, but x is {tuple(x.shape)}")
    if weight is not None and weight.shape != x.shape[1:]:
        raise ValueError(f"weight is {tuple(weight.shape)}, expected ({x.shape[1]},)")
    if not eps >= 0:
        raise ValueError(f"eps is {eps}, expected no negative number")
    rows = x.shape[0]
    g = in_float64(gradient.detach())
    centered = in_float64(x.detach())
    centered = centered - centered.mean(0)
    moment = centered.square().mean(0) + eps  # (channels,)
    standard = centered * moment.rsqrt()
    gain = moment.reciprocal()
    if weight is not None:
        gain = gain * in_float64(weight.detach()).square()
    return BatchNormGradient(
        gain=gain,
        incoming=g.square().sum(0),
        mean_part=g.sum(0).square() / rows,
        scale_part=(1 + eps / moment) * (standard * g).sum(0).square() / rows,
    )
