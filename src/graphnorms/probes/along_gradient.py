"""The loss and its gradient along the gradient: how far the gradient can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from graphnorms.probes.state import Loss, objective

STEPS: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
"""Up to four times the learning rate 0.1, the range of Santurkar et al. 2018."""


@dataclass(frozen=True, slots=True)
class AlongGradient:
    r"""What was measured at $w - \eta g$, $g = \nabla L(w)$, for steps $\eta$.

    Args:
        steps: The $\eta$.
        loss: $L(w)$.
        gradient_norm: $\lVert g \rVert$.
        losses: $L(w - \eta g)$, one per step.
        differences: $\lVert \nabla L(w) - \nabla L(w - \eta g) \rVert$, one per step.
    """

    steps: tuple[float, ...]
    loss: float
    gradient_norm: float
    losses: tuple[float, ...]
    differences: tuple[float, ...]

    @property
    def loss_range(self) -> tuple[float, float]:
        r"""The lowest and the highest of the `losses`; $L(w)$ counts only if a step is 0."""
        return min(self.losses), max(self.losses)

    @property
    def loss_spread(self) -> float:
        """The highest less the lowest of the `losses`."""
        low, high = self.loss_range
        return high - low

    @property
    def largest_difference(self) -> float:
        """The largest of the `differences`."""
        return max(self.differences)

    @property
    def effective_beta(self) -> float:
        r"""$\max_\eta \lVert \nabla L(w) - \nabla L(w - \eta g) \rVert / (\eta \lVert g \rVert)$.

        The smallest $\beta$ for which the gradient is $\beta$-Lipschitz between $w$ and the
        points that were measured. Steps of 0 do not count; NaN where the gradient is 0.
        """
        if not self.gradient_norm:
            return math.nan
        return max(
            difference / (step * self.gradient_norm)
            for step, difference in zip(self.steps, self.differences, strict=True)
            if step
        )


def along_gradient(model: nn.Module, loss: Loss, steps: Sequence[float] = STEPS) -> AlongGradient:
    r"""Walk from the present parameters along the gradient, and measure loss and gradient.

    At the points $w - \eta \nabla L(w)$, for one batch: the range of the loss (how much it
    varies: an estimate of its Lipschitz constant), the distance of the gradient from that at
    $w$ (how predictive the gradient is), and the effective $\beta$ (largest distance of the
    gradients over the distance walked). One gradient per step, and one more.

    For $L = \frac12 w^\top A w$ the difference is $\eta \lVert A g \rVert$ at every step, and
    the effective $\beta$ is $\lVert A g \rVert / \lVert g \rVert$, at most the largest
    eigenvalue.

    The paper walks the full gradient step of a range of learning rates at every step of
    training, and plots range, distance and effective $\beta$ against the step. `.grad` is not
    touched, and the model is afterwards what it was, running averages and random numbers
    included; every point sees the same random numbers.

    Precision: that of the parameters. The smallest differences of gradients in float32 are
    rounding errors; measure those in float64.

    Args:
        model: The model; in `train()` a BatchNorm normalizes by the batch.
        loss: Computes its loss on a batch, the same at every call.
        steps: The $\eta$, not negative, one of them positive.

    Raises:
        ValueError: No step is positive or one is negative, or `loss` does not return one number
            that depends on the parameters.

    Source: Santurkar et al. 2018, section 3.1 and fig. 4, https://arxiv.org/abs/1805.11604.
    """
    given = tuple(float(step) for step in steps)
    if not given or min(given) < 0 or not max(given) > 0:
        raise ValueError(f"steps are {given}, expected no negative number and a positive one")
    losses, differences = [], []
    with objective(model, loss) as at:
        value, gradient = at.gradient()
        for step in given:
            there, moved = at.gradient(gradient * -step)
            losses.append(there)
            differences.append(float(torch.linalg.vector_norm(moved - gradient)))
    return AlongGradient(
        steps=given,
        loss=value,
        gradient_norm=float(torch.linalg.vector_norm(gradient)),
        losses=tuple(losses),
        differences=tuple(differences),
    )
