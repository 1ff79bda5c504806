"""The loss on a plane through a solution: flat regions and sharp minima as a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphnorms.kernels.point import in_float64
from graphnorms.probes.state import Loss, objective


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
