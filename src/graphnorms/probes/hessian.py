"""The Hessian of the loss: products with vectors, and its largest eigenvalue."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from graphnorms.probes.state import Loss, Objective, objective


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
