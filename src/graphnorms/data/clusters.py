"""The generated set `clusters`: small clusters of atoms under a classical potential."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from graphnorms.data.atom_frames import Frames
from graphnorms.data.feature_columns import Encoding
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import offsets

NAME: Final = "clusters"
CUTOFF: Final = 5.0
"""In Å; beyond it atoms of the potential do not act on each other."""
SIZES: Final = tuple(range(3, 13))
"""Atoms of a cluster."""

ELEMENTS: Final = (1, 6, 7, 8)
OFFSETS: Final = (-13.6, -1029.0, -1485.0, -2042.0)
"""Energies of isolated atoms in eV."""

_DEPTH: Final = (1.2, 2.8, 2.2, 1.8)  # eV, of a pair of equal atoms
_RADIUS: Final = (0.45, 0.8, 0.75, 0.7)  # Å; a pair is at rest at the sum
_CHARGE: Final = (0.25, 0.1, -0.15, -0.25)  # elementary charges
_BEND: Final = (0.0, 0.8, 1.0, 0.6)  # eV, of the middle of an angle
_COSINE: Final = (0.0, -1 / 3, -0.4, -0.5)  # of the angle at rest
_STEEPNESS: Final = 1.7  # 1/Å
_COULOMB: Final = 14.399645  # eV Å, of two elementary charges
_SCREENING: Final = 2.0  # Å
_REACH: Final = 2.6  # Å, of the sides of an angle

_STEPS, _RATE, _LONGEST = 30, 0.03, 0.1
"""Steps downhill from random positions, Å²/eV, and Å a step."""
_HEAT: Final = (0.02, 0.15)
"""From and to how far atoms are moved at random afterwards, in Å along each axis."""
_PARTED, _GAP = 4, 5.0
"""Of so many clusters one is drawn apart, by up to this length in Å."""
_POSITION_DIGITS, _ENERGY_DIGITS = 4, 6
"""Digits that are kept, so that machines which round differently make the same set."""


def energy_and_forces(z: Tensor, pos: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute energies in eV and forces in eV/Å of clusters of equal size.

    With distances $r_{ij}$, depth $D$, length at rest $r_0$, charges $q$, and
    $c_R(r) = (1 - r^2/R^2)^3$ below $R$, 0 above,

    $$ E = \sum_i e_i + \sum_{i<j} \Big( D \big(e^{-2a(r - r_0)} - 2 e^{-a(r - r_0)}\big)
         + k q_i q_j \frac{e^{-r/\lambda}}{r} \Big) c_5(r)
         + \sum_i \sum_{j<k} b_i (\cos\theta_{jik} - \cos\theta_i)^2 c_{2.6}(r_{ij})
         c_{2.6}(r_{ik}) . $$

    Every length is in Å. Depths of unlike atoms are geometric means.

    Args:
        z: Atomic numbers, all of `ELEMENTS`, `(clusters, atoms)`.
        pos: Positions, `(clusters, atoms, 3)` float64.

    Returns:
        `(clusters,)` and `(clusters, atoms, 3)`.
    """
    kind = torch.searchsorted(torch.tensor(ELEMENTS), z.contiguous())
    offset, depth, radius, charge, bend, cosine = (
        torch.tensor(values, dtype=pos.dtype)[kind]
        for values in (OFFSETS, _DEPTH, _RADIUS, _CHARGE, _BEND, _COSINE)
    )  # (clusters, atoms) each
    atoms = pos.shape[1]
    apart = ~torch.eye(atoms, dtype=torch.bool)
    away = pos.unsqueeze(1) - pos.unsqueeze(2)  # (clusters, i, j, 3), from i to j
    r = torch.where(apart, away.square().sum(3), 1.0).sqrt()  # (clusters, i, j)
    unit = away / r.unsqueeze(3)

    # Pairs, each counted twice.
    rest = radius.unsqueeze(2) + radius.unsqueeze(1)
    well = (depth.unsqueeze(2) * depth.unsqueeze(1)).sqrt()
    decay = torch.exp(-_STEEPNESS * (r - rest))
    product = _COULOMB * charge.unsqueeze(2) * charge.unsqueeze(1)
    screened = product * torch.exp(-r / _SCREENING) / r
    pair = well * (decay.square() - 2 * decay) + screened
    slope = 2 * _STEEPNESS * well * (decay - decay.square())
    slope = slope - screened * (1 / _SCREENING + 1 / r)
    taper, falling = _taper(r, CUTOFF)
    energy = (pair * taper * apart).sum((1, 2)) / 2
    pull = (slope * taper + pair * falling) * apart  # dE/dr
    forces = (pull.unsqueeze(3) * unit).sum(2)

    # Angles j-i-k, each counted twice.
    near, ending = (each * apart for each in _taper(r, _REACH))
    between = torch.einsum("nijd,nikd->nijk", unit, unit)
    off = between - cosine[:, :, None, None]
    sides = near.unsqueeze(3) * near.unsqueeze(2) * apart  # 0 for j = k
    stiff = bend[:, :, None, None]
    energy = energy + (stiff * off.square() * sides).sum((1, 2, 3)) / 2
    turning = 2 * stiff * off * sides  # by the cosine
    stretch = (stiff * off.square() * apart * near.unsqueeze(2)).sum(3) * ending
    along = stretch - (turning * between).sum(3) / r
    gradient = along.unsqueeze(3) * unit  # (clusters, i, j, 3), by the position of j
    gradient = gradient + torch.einsum("nijk,nikd->nijd", turning, unit) / r.unsqueeze(3)
    forces = forces + gradient.sum(2) - gradient.sum(1)
    return energy + offset.sum(1), forces


def _taper(r: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Return a function that falls from 1 to 0 at `reach`, and its derivative."""
    rest = (1 - (r / reach).square()).clamp(min=0)
    return rest**3, -6 * r / reach**2 * rest.square()


def clusters(
    number: int = 1000,
    seed: int = 0,
    *,
    encoding: Encoding | None = None,
) -> GraphSet:
    """Make clusters of 3 to 12 atoms of H, C, N and O, equally many of every size.

    Random positions go downhill for a few steps and are shaken by a random amount: clusters near
    and far from rest. One of four is drawn apart along a plane through its middle, by up to 5 Å.

    Args:
        number: How many clusters.
        seed: Draws elements and positions.
        encoding: The encoding of a model's input.

    Raises:
        ValueError: `number` is not positive.
    """
    if number < 1:
        raise ValueError(f"number is {number}, expected 1 or more")
    draw = torch.Generator().manual_seed(seed)
    made = []  # size, and the place of its clusters in the set
    for place, size in enumerate(SIZES):
        count = len(range(place, number, len(SIZES)))
        z = torch.tensor(ELEMENTS)[torch.randint(len(ELEMENTS), (count, size), generator=draw)]
        pos = _shaken(_relaxed(z, _scattered(count, size, draw)), draw)
        energy, forces = energy_and_forces(z, pos)
        made.append((z, pos, energy.round(decimals=_ENERGY_DIGITS), forces))
    # Sizes take turns.
    order = [(index % len(SIZES), index // len(SIZES)) for index in range(number)]
    z, pos, forces = (
        torch.cat([made[place][part][row] for place, row in order]) for part in (0, 1, 3)
    )
    frames = Frames(
        z=z.numpy(),
        pos=pos.numpy(),
        ptr=offsets(torch.tensor([SIZES[place] for place, _ in order]).numpy()),
        energy=torch.stack([made[place][2][row] for place, row in order]).numpy(),
        forces=forces.round(decimals=_ENERGY_DIGITS).numpy(),
    )
    note = f"generated under a classical potential, seed {seed}"
    return frames.pack(NAME, cutoff=CUTOFF, encoding=encoding, notes=(note,))


def _scattered(count: int, size: int, draw: torch.Generator) -> Tensor:
    """Draw positions on a grid of 1.2 Å, as compact as a ball, each moved a little."""
    steps = torch.arange(-2, 3, dtype=torch.float64)
    grid = 1.2 * torch.cartesian_prod(steps, steps, steps)  # (125, 3)
    far = grid.square().sum(1) + 3.0 * torch.rand(count, len(grid), generator=draw)
    nearest = far.topk(size, largest=False).indices  # (count, size)
    noise = torch.randn(count, size, 3, generator=draw, dtype=torch.float64)
    return grid[nearest] + 0.1 * noise


def _relaxed(z: Tensor, pos: Tensor) -> Tensor:
    for _ in range(_STEPS):
        step = _RATE * energy_and_forces(z, pos)[1]
        longest = step.norm(dim=2, keepdim=True).amax(1, keepdim=True)
        pos = pos + step * (_LONGEST / longest.clamp(min=_LONGEST))
    return pos


def _shaken(pos: Tensor, draw: torch.Generator) -> Tensor:
    low, high = _HEAT
    heat = low + (high - low) * torch.rand(len(pos), 1, 1, generator=draw, dtype=torch.float64)
    noise = torch.randn(pos.shape, generator=draw, dtype=torch.float64)
    pos = pos + heat * noise
    plane = torch.randn(len(pos), 3, 1, generator=draw, dtype=torch.float64)
    plane = plane / plane.norm(dim=1, keepdim=True)
    gap = _GAP * torch.rand(len(pos), 1, 1, generator=draw, dtype=torch.float64)
    gap = gap * (torch.arange(len(pos)) % _PARTED == 0).view(-1, 1, 1)
    side = (pos - pos.mean(1, keepdim=True)) @ plane > 0  # (clusters, atoms, 1)
    pos = pos + gap * side * plane.transpose(1, 2)
    return pos.round(decimals=_POSITION_DIGITS)
