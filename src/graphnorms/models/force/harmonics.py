"""Real spherical harmonics to degree 2, and the products of features that rotate like them."""

from __future__ import annotations

import functools
import math
from itertools import combinations_with_replacement, product
from typing import Final

import torch
from torch import Tensor, nn

LMAX: Final = 2
"""The highest degree."""

COMPONENTS: Final = (LMAX + 1) ** 2
"""Components of all degrees; `l² + l + m` is the component `m` of degree `l`."""

_ROUNDING: Final = 1e-14
"""An integral below is a zero."""


def components_of(degree: int) -> range:
    """Return the components of a degree."""
    return range(degree**2, (degree + 1) ** 2)


def spherical_harmonics(unit: Tensor) -> Tensor:
    r"""Evaluate the real spherical harmonics of unit vectors.

    Polynomials, with $\sum_m Y_{lm}^2 = 2l + 1$. Under a rotation $R$,
    $Y_l(R u) = D_l(R) Y_l(u)$ with orthogonal $D_l$; $Y_l(-u) = (-1)^l Y_l(u)$.

    Shapes: `unit` `(vectors, 3)`, the result `(vectors, 9)`.
    """
    x, y, z = unit.unbind(1)
    root3, root5, root15 = math.sqrt(3), math.sqrt(5), math.sqrt(15)
    return torch.stack(
        (
            torch.ones_like(x),
            root3 * y,
            root3 * z,
            root3 * x,
            root15 * x * y,
            root15 * y * z,
            root5 / 2 * (2 * z * z - x * x - y * y),
            root15 * x * z,
            root15 / 2 * (x * x - y * y),
        ),
        1,
    )


@functools.cache
def gaunt() -> Tensor:
    r"""Return $\frac{1}{4\pi} \int Y_a Y_b Y_c$ for all components, `(9, 9, 9)` in float64.

    For even $l_a + l_b + l_c$ these are the Clebsch-Gordan coefficients but for a factor of each
    triple of degrees; for odd sums they are 0: such a product would change sign under reflections.
    The quadrature, Gauss-Legendre in z and equal steps around it, is exact to degree 7.
    """
    z, weight = _gauss_legendre(4)
    angle = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    ring = (1 - z * z).sqrt().unsqueeze(1)
    unit = torch.stack(
        (ring * angle.cos(), ring * angle.sin(), z.unsqueeze(1).expand(4, 8)), 2
    ).flatten(0, 1)  # (32, 3)
    values = spherical_harmonics(unit)  # (32, 9)
    weights = (weight / 2 / 8).repeat_interleave(8)
    return torch.einsum("q,qa,qb,qc->abc", weights, values, values, values)


def _gauss_legendre(points: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights on -1 … 1, by Golub and Welsch."""
    k = torch.arange(1, points, dtype=torch.float64)
    off = k / (4 * k * k - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, 2 * vectors[0].square()


class SelfProduct(nn.Module):
    r"""The products of a node's features with themselves, mixed by a weight of each triple.

    $$ y_{c} = \sum_{l_a \le l_b} w_{l_a l_b l_c} \sum_{ab} G_{abc} \, x_a x_b $$

    Shapes: `x` and the result `(nodes, 9, channels)`; `weight` `(8, channels)`, one row for each
    triple of degrees whose sum is even.

    Args:
        channels: Number of channels; they do not mix.
    """

    first: Tensor
    second: Tensor
    triple: Tensor
    into: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        triples = [
            (*pair, result)
            for pair in combinations_with_replacement(range(LMAX + 1), 2)
            for result in range(LMAX + 1)
            if result in range(pair[1] - pair[0], sum(pair) + 1) and not (sum(pair) + result) % 2
        ]
        # x_a x_b and x_b x_a of one degree are one term.
        terms = [
            (a, b, c, number, float(gaunt()[a, b, c]) * (1 + (degrees[0] == degrees[1] and a < b)))
            for number, degrees in enumerate(triples)
            for a, b, c in product(*(components_of(degree) for degree in degrees))
            if a <= b and abs(gaunt()[a, b, c]) > _ROUNDING
        ]
        first, second, result, triple, coefficient = zip(*terms, strict=True)
        into = torch.zeros(COMPONENTS, len(terms), dtype=torch.float64)
        into[list(result), list(range(len(terms)))] = into.new_tensor(coefficient)
        for name, values in (("first", first), ("second", second), ("triple", triple)):
            self.register_buffer(name, torch.tensor(values), persistent=False)
        # Components of equal size from components of equal size.
        self.register_buffer("into", into / math.sqrt(len(triples)), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(triples), channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights."""
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply the features with themselves."""
        terms = x[:, self.first] * x[:, self.second] * self.weight[self.triple]
        y: Tensor = self.into.to(x.dtype) @ terms  # (nodes, 9, channels)
        return y
