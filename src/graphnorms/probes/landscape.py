"""The landscape of the loss: along its gradient, on a plane, and the curvature of its Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.kernels.point import in_float64
from graphnorms.probes.state import Loss, Objective, objective

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


@dataclass(frozen=True, slots=True, eq=False)
class LossPlane:
    r"""$L(w + a\,d_1 + b\,d_2)$ on a grid.

    Args:
        coordinates: The values of $a$ and of $b$, `(points,)`, from -extent to extent.
        losses: `(points, points)` float64; row i has $a$ = `coordinates[i]`.
        loss: $L(w)$.
    """

    coordinates: Tensor
    losses: Tensor
    loss: float


def filter_direction(model: nn.Module, seed: int) -> dict[str, Tensor]:
    r"""Draw a random direction in which every filter moves in proportion to its own size.

    Entries are drawn from a normal distribution; then each filter $d_{l,i}$, the weights into one
    output unit (`weight[i]`), is scaled to the norm of the filter of the model,
    $d_{l,i} \leftarrow d_{l,i} \lVert w_{l,i} \rVert / \lVert d_{l,i} \rVert$. So pictures of
    networks whose weights have different scales can be compared, which matters with norms: they
    make the loss invariant to the scale of the weights before them. Parameters of one dimension
    (biases, $\gamma$ and $\beta$ of norms) do not move.

    Args:
        model: The model.
        seed: Draws the direction; the same for the same seed and shapes.

    Returns:
        The direction by name of the parameter, for those that take a gradient.

    Source: Li et al. 2018, section 4, https://arxiv.org/abs/1712.09913.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.dim() < 2:
            direction[name] = torch.zeros_like(parameter).detach()
            continue
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        wanted = in_float64(parameter.detach()).flatten(1)
        filters = drawn.to(wanted.device).flatten(1)
        scale = wanted.norm(dim=1, keepdim=True) / filters.norm(dim=1, keepdim=True)
        direction[name] = (filters * scale).view(parameter.shape).to(parameter.detach())
    return direction


def loss_plane(
    model: nn.Module, loss: Loss, *, extent: float = 1.0, points: int = 21, seed: int = 0
) -> LossPlane:
    r"""Evaluate the loss on the plane of two random filter-normalized directions.

    At $w + a\,d_1 + b\,d_2$ for $a$, $b$ from -extent to extent; at $a = 1$ every filter has moved
    by its own norm. In high dimension two random directions are nearly orthogonal. One
    evaluation of the loss per point.

    In `train()` a BatchNorm normalizes by the batch at every point; in `eval()` by the averages
    that belong to $w$, as in the paper. The model is afterwards what it was.

    Args:
        model: The model.
        loss: Computes its loss on a batch, or on more.
        extent: The largest coordinate.
        points: Points along each axis, odd so that $w$ is one of them.
        seed: Draws both directions.

    Raises:
        ValueError: `extent` is not positive, `points` is not odd or below 3, or `loss` does not
            return one number that depends on the parameters.

    Source: Li et al. 2018, https://arxiv.org/abs/1712.09913.
    """
    if not extent > 0:
        raise ValueError(f"extent is {extent}, expected a positive number")
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points is {points}, expected an odd number from 3 on")
    first, second = (
        torch.cat([part.reshape(-1) for part in filter_direction(model, number).values()])
        for number in (2 * seed, 2 * seed + 1)
    )
    half = points // 2
    coordinates = torch.arange(-half, half + 1, dtype=torch.float64) / half * extent
    with objective(model, loss) as at:
        losses = [
            [at.value(a * first + b * second).item() for b in coordinates.tolist()]
            for a in coordinates.tolist()
        ]
    return LossPlane(coordinates, torch.tensor(losses, dtype=torch.float64), losses[half][half])


@dataclass(frozen=True, slots=True, eq=False)
class Eigenvalue:
    r"""The largest eigenvalue of a Hessian, as far as an iteration has got.

    Args:
        value: The Rayleigh quotient $\lambda = v^\top H v$, at most the largest eigenvalue.
        residual: $\lVert H v - \lambda v \rVert$. Some eigenvalue lies within it of `value`.
        iterations: Products with the Hessian that it took.
        converged: Whether the residual is as small as was asked for.
        vector: $v$, of norm 1, `(parameters,)`, in the order of the model's parameters.
    """

    value: float
    residual: float
    iterations: int
    converged: bool
    vector: Tensor


def hessian_vector_product(model: nn.Module, loss: Loss, vector: Tensor) -> Tensor:
    r"""Return $\nabla^2 L(w) \, v$, by differentiating the gradient once more.

    Works through every norm of the package, all of which have second derivatives. The Hessian
    is never formed.

    Shapes: `vector` and the result `(parameters,)`: the entries of all parameters that take a
    gradient, in the order of `model.named_parameters()`.

    Args:
        model: The model.
        loss: Computes its loss on a batch.
        vector: $v$.

    Raises:
        ValueError: `vector` does not have one entry per parameter, or `loss` does not return one
            number that depends on the parameters.

    Source: Pearlmutter 1994, https://doi.org/10.1162/neco.1994.6.1.147.
    """
    with objective(model, loss) as at:
        number = sum(parameter.numel() for parameter in at.parameters.values())
        if vector.shape != (number,):
            raise ValueError(
                f"vector is {tuple(vector.shape)}, expected one number per parameter, ({number},)"
            )
        return _products(at)(vector)


def largest_eigenvalue(
    model: nn.Module,
    loss: Loss,
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Eigenvalue:
    r"""Find the largest eigenvalue of the Hessian of the loss, the sharpness of a minimum.

    Power iteration from a random vector: $v \leftarrow Hv / \lVert Hv \rVert$ until
    $\lVert Hv - \lambda v \rVert \le \text{tolerance} \cdot |\lambda|$, which finds the eigenvalue
    that is largest in size. Away from a minimum that can be a negative one, and the iteration
    need not converge where two of opposite sign are equally large. In both cases it is made
    once more with $H + \lVert Hv \rVert I$, whose largest is the one sought, so that the
    result is always the largest, not the largest in size. For a Hessian of 0 it is 0.

    The convergence is as fast as the ratio of the two largest eigenvalues is small; if they are
    close the value is good long before the vector, as its error is of the order of the squared
    residual over their distance. The graph of the gradient is kept for all iterations.

    `.grad` is not touched; the model is afterwards what it was.

    Args:
        model: The model; in `eval()` its norms use their running averages.
        loss: Computes its loss on a batch.
        iterations: The most products with the Hessian in one pass.
        tolerance: Largest residual in proportion to the eigenvalue that is largest in size.
        seed: Draws the first vector.

    Raises:
        ValueError: `iterations` or `tolerance` is not positive, or `loss` does not return one
            number that depends on the parameters.

    Source: LeCun, Simard & Pearlmutter 1992, "Automatic learning rate maximization by on-line
    estimation of the Hessian's eigenvectors".
    """
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}, expected a positive number")
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}, expected a positive number")
    with objective(model, loss) as at:
        product = _products(at)
        first = next(iter(at.parameters.values()))
        number = sum(parameter.numel() for parameter in at.parameters.values())
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(number, generator=generator, dtype=torch.float64).to(first)
        found = _power(product, start, 0.0, iterations, tolerance)
        if found.converged and found.value >= 0:
            return found
        # ‖Hv‖, as Hv − λv is orthogonal to v.
        radius = math.hypot(found.value, found.residual)
        again = _power(product, start, radius, iterations, tolerance)
        # A Rayleigh quotient is never above the largest eigenvalue: the larger is the better.
        better = max(found, again, key=lambda one: one.value)
        return replace(better, iterations=found.iterations + again.iterations)


def _products(at: Objective) -> Callable[[Tensor], Tensor]:
    """Build the graph of the gradient once; each call then costs one backward through it."""
    gradient = at.derivative(at.value(), create_graph=True)
    parameters = list(at.parameters.values())

    def product(vector: Tensor) -> Tensor:
        if not gradient.requires_grad:  # the loss is linear in every parameter
            return torch.zeros_like(vector)
        parts = torch.autograd.grad(
            gradient,
            parameters,
            vector,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([part.reshape(-1) for part in parts])

    return product


def _power(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    shift: float,
    iterations: int,
    tolerance: float,
) -> Eigenvalue:
    """Iterate with H + shift I; value and residual are those of H."""
    v = start / torch.linalg.vector_norm(start)
    for done in range(1, iterations + 1):
        image = product(v)  # (parameters,)
        value = float(v @ image)
        residual = float(torch.linalg.vector_norm(image - value * v))
        # The shift tells how large the eigenvalues are where the one sought is near 0.
        if residual <= tolerance * max(abs(value), shift) or done == iterations:
            break
        moved = image + shift * v
        v = moved / torch.linalg.vector_norm(moved)
    return Eigenvalue(value, residual, done, residual <= tolerance * max(abs(value), shift), v)
