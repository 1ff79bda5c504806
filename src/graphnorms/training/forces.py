r"""Energies and forces as rows of atoms: what force models give, and what it is compared with.

A frame has one energy and as many forces as atoms. Outputs and targets have a row for every atom,
so that what joins, splits and scores rows need not know about frames:

| column | outputs `(atoms, 4)` | targets `(atoms, 5)` |
|---|---|---|
| 0 | energy of the atom's frame over its N atoms | the same |
| 1 … 3 | force on the atom | the same |
| 4 | | 1/N, the share of the frame that the row stands for |

Weighted by the last column, a mean over rows is the mean over frames.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.errors import GraphnormsError
from graphnorms.kernels.point import in_float64

if TYPE_CHECKING:
    from graphnorms.data import GraphBatch
    from graphnorms.training.trial_model import Model

COLUMNS: Final = 4
"""Columns of the outputs."""


class EnergyForces(NamedTuple):
    """What a model predicts for frames of atoms.

    Args:
        energy: Total energies in eV, `(frames, 1)` float64.
        forces: Forces in eV/Å, `(atoms, 3)` float64.
    """

    energy: Tensor
    forces: Tensor


def energies_and_forces(model: Model, batch: GraphBatch) -> Tensor:
    """Run a model on a batch of frames, and differentiate its energies; rows as in the module.

    The force is $-\\partial E / \\partial r$. Where gradients are recorded, so is this one, for a
    loss that holds forces; without, as in an evaluation, its graph is freed.

    Args:
        model: Gives the energy of each frame, `(frames, 1)`, of atomic numbers, positions,
            `edge_index`, the segments of the frames and the shifts of the edges.
        batch: The frames.

    Raises:
        GraphnormsError: The energy does not depend on the positions.
    """
    atoms = batch.atoms
    assert atoms is not None
    recorded = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        # Small distances between large coordinates need their precision, not that of the model.
        pos = atoms.pos.clone().requires_grad_()
        edge_index = batch.adjacency.to_edge_index()
        energy = model(atoms.z, pos, edge_index, batch.segments, atoms.shifts)
        if not energy.requires_grad:
            raise GraphnormsError("the energy of the model has no gradient, so there are no forces")
        (slope,) = torch.autograd.grad(
            energy.sum(), pos, create_graph=recorded, allow_unused=True, materialize_grads=True
        )
    rows = torch.cat((_by_atom(energy, batch.segments.counts), -slope.to(energy.dtype)), 1)
    return rows if recorded else rows.detach()


def rows_of(energy: Tensor, forces: Tensor, counts: Tensor) -> Tensor:
    """Return targets as rows, `(atoms, 5)`.

    Args:
        energy: Of each frame, `(frames, 1)`.
        forces: On each atom, `(atoms, 3)`.
        counts: Number of atoms of each frame, `(frames,)`.
    """
    share = _by_atom(torch.ones_like(energy), counts)
    return torch.cat((_by_atom(energy, counts), forces.to(energy.dtype), share), 1)


def energies_of(rows: Tensor, counts: Tensor) -> Tensor:
    """Return the energy of each frame in rows, `(frames, 1)` float64.

    Args:
        rows: Outputs or targets.
        counts: Number of atoms of each frame, `(frames,)`, each 1 or more.
    """
    first = counts.cumsum(0) - counts
    return in_float64(rows[first, :1]) * counts.unsqueeze(1)


def squared_errors(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared errors of energy per atom, over frames, and of force components.

    Args:
        outputs, targets: Rows of the same atoms.
    """
    targets = targets.to(outputs.dtype)
    share = targets[:, COLUMNS]  # (atoms,)
    errors = (outputs - targets[:, :COLUMNS]).square()
    return (errors[:, 0] * share).sum() / share.sum(), errors[:, 1:].mean()


def error_of(metric: str, outputs: Tensor, targets: Tensor) -> float:
    """Score rows, all atoms at once.

    | metric | mean over |
    |---|---|
    | `energy_mae`, `energy_rmse` | frames, of the error of the energy per atom |
    | `force_mae`, `force_rmse` | atoms and components, of the error of the force |

    Args:
        metric: One of these.
        outputs, targets: Rows in the unit of the result.

    Returns:
        The error; NaN without rows.
    """
    wanted = in_float64(targets)
    errors = in_float64(outputs) - wanted[:, :COLUMNS]
    errors = errors.square() if metric.endswith("rmse") else errors.abs()
    if metric.startswith("energy"):
        share = wanted[:, COLUMNS]
        mean = float((errors[:, 0] * share).sum() / share.sum())
    else:
        mean = float(errors[:, 1:].mean())
    return math.sqrt(mean) if metric.endswith("rmse") else mean


def _by_atom(energy: Tensor, counts: Tensor) -> Tensor:
    """Return the energy per atom of each atom's frame, `(atoms, 1)`."""
    return (energy / counts.unsqueeze(1)).repeat_interleave(counts, 0)
