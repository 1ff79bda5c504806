"""The loss of energies and forces, and what is removed of the energies before training."""

from __future__ import annotations

from typing import Final, Self

import torch
from torch import Tensor

from graphnorms.data import GraphSet, Task
from graphnorms.data.atoms import SYMBOLS
from graphnorms.data.text_format import some
from graphnorms.kernels.point import in_float64
from graphnorms.training.forces import COLUMNS, squared_errors
from graphnorms.training.objective import Objective

FORCE_WEIGHT: Final = 10.0
"""The default weight of forces in the loss."""


class ForceObjective(Objective):
    r"""The loss of energies and forces, mean squared errors of the energy per atom and of forces:

    $$\frac{1}{\text{frames}} \sum_k \Big(\frac{\hat E_k - E_k}{N_k}\Big)^2
      + w\, \frac{1}{3\, \text{atoms}} \sum_{i} \lVert \hat F_i - F_i \rVert^2$$

    A model gives $z = (E - \sum_i e_{Z_i}) / \sigma$ and its negative gradient $F / \sigma$. The
    energies $e_Z$ of the elements are fitted to the training frames by least squares, and σ is the
    root mean square of the components of their forces; both in float64, on the host if the device
    has none, because float32 rounds total energies of 1e5 to multiples of 0.008. Only total
    energies contain $e_Z$: the part of it that the compositions do not determine is that of least
    norm, and means nothing by itself.

    Outputs and targets are rows of atoms, see `graphnorms.training.forces`.

    Args:
        task: The task.
        mean: The energies of the elements by atomic number, `(119,)` float64; NaN for elements that
            no training frame has.
        std: σ, `(1,)` float64.
        weight: $w$.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, task: Task, mean: Tensor, std: Tensor, weight: float = FORCE_WEIGHT) -> None:
        super().__init__(task, mean, std)
        self.weight = weight

    @classmethod
    def fitted(cls, graphs: GraphSet, train: Tensor, weight: float = FORCE_WEIGHT) -> Self:
        """Fit the energies of the elements and σ to the training frames.

        Args:
            graphs: The set.
            train: Ids of the training frames.
            weight: The weight of forces in the loss.

        Raises:
            ValueError: A frame outside of the training part has an element that none inside has.
        """
        atoms = graphs.atoms
        assert atoms is not None
        elements, counts = _element_counts(graphs)
        inside = counts[train]
        unseen = elements[~inside.any(0)].tolist()
        if unseen:
            raise ValueError(
                f"no training frame of {graphs.name} has {some(SYMBOLS[z] for z in unseen)}, whose "
                "energies are then not known; leave their frames out, or use more folds or another "
                "split"
            )
        energy = in_float64(graphs.y.cpu())[train]  # (frames, 1)
        offsets = torch.linalg.lstsq(inside, energy, driver="gelsd").solution
        # The residual is solved for again: a total energy of 1e5 costs the first solution digits.
        residual = energy - inside @ offsets
        offsets += torch.linalg.lstsq(inside, residual, driver="gelsd").solution
        mean = torch.full((len(SYMBOLS),), torch.nan, dtype=torch.float64)
        mean[elements] = offsets[:, 0]
        forces = in_float64(atoms.forces.cpu())[graphs.node_ids(train)]
        std = forces.square().mean().sqrt().reshape(1)
        return cls(graphs.task, mean, torch.where(std > 0, std, 1.0), weight)

    @property
    def columns(self) -> int:
        """Columns of the outputs of a model."""
        return COLUMNS

    def standardized(self, graphs: GraphSet) -> GraphSet:
        r"""Return the set with energies $(E - \sum e) / \sigma$ and forces $F / \sigma$."""
        atoms = graphs.atoms
        assert atoms is not None
        of_elements = self.element_energies(atoms.z.cpu(), graphs.ptr.cpu().diff())
        y = in_float64(graphs.y.cpu()) - of_elements
        forces = in_float64(atoms.forces.cpu()) / self.std
        return graphs.with_targets(y / self.std, forces=forces)

    def loss(self, outputs: Tensor, targets: Tensor, *, complete: bool = False) -> Tensor:
        """Return the loss of some rows, a scalar.

        Args:
            outputs, targets: Rows, standardized.
            complete: Of no influence: no energy and no force is missing.
        """
        energy, force = squared_errors(outputs, targets)
        return energy + self.weight * force

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return rows in eV and eV/Å, float64, without the energies of the elements."""
        return self.std * in_float64(outputs)

    def element_energies(self, z: Tensor, counts: Tensor) -> Tensor:
        r"""Return $\sum_i e_{Z_i}$ of each frame, `(frames, 1)` float64; NaN for unknown elements.

        Args:
            z: Atomic numbers, frame by frame, `(atoms,)`.
            counts: Number of atoms of each frame, `(frames,)`.
        """
        frame = torch.repeat_interleave(counts.to(self.mean.device))
        total = self.mean.new_zeros(counts.shape[0])
        return total.index_add(0, frame, self.mean[z.to(self.mean.device)]).unsqueeze(1)

    def _in_unit(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        scale = self.std.to(in_float64(outputs).device)
        rows = in_float64(targets)
        scaled = torch.cat((scale * rows[:, :COLUMNS], rows[:, COLUMNS:]), 1)
        return scale * in_float64(outputs), scaled, None


def objective_of(graphs: GraphSet, train: Tensor, force_weight: float | None = None) -> Objective:
    """Return the objective of a set for some training items.

    Args:
        graphs: The set.
        train: Ids of the training items, on the host.
        force_weight: The weight of forces in the loss; None for the default.

    Raises:
        ValueError: See `ForceObjective.fitted`.
    """
    if graphs.atoms is None:
        return Objective.of(graphs.task, graphs.y.cpu()[train])
    weight = FORCE_WEIGHT if force_weight is None else force_weight
    return ForceObjective.fitted(graphs, train, weight)


def _element_counts(graphs: GraphSet) -> tuple[Tensor, Tensor]:
    """Return the elements of a set, and how often each frame has them.

    Returns:
        Atomic numbers, `(elements,)`, and counts, `(frames, elements)` float64, on the host.
    """
    assert graphs.atoms is not None
    elements, column = graphs.atoms.z.cpu().unique(return_inverse=True)
    width = elements.shape[0]
    cells = torch.repeat_interleave(graphs.ptr.cpu().diff()) * width + column
    counts = torch.bincount(cells, minlength=len(graphs) * width)
    return elements, counts.view(-1, width).double()
