"""Atoms: the nodes of a graph set as atoms in space, and their graphs by a radius."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from graphnorms.data.array_files import pieces
from graphnorms.data.task_kinds import LENGTH_UNIT
from graphnorms.kernels.point import widest_float

_SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf "
    "Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
SYMBOLS: Final = tuple(_SYMBOLS.split())
"""Symbols of the elements by atomic number; 0 is an atom of no element."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Atoms:
    """The nodes of a set or minibatch as atoms.

    The vector of the edge j→i is `pos[j] + shifts - pos[i]`.

    Args:
        z: Atomic numbers 1 … 118, `(nodes,)` int64.
        pos: Positions in Å, `(nodes, 3)` float64.
        forces: Forces on the atoms in eV/Å, `(nodes, 3)` float64; NaN if a model is to predict
            them.
        shifts: By how much the image of the source of each edge lies beyond the atom itself, in Å,
            `(edges, 3)` float64; None if no cell is periodic.
        cutoff: The radius of the graphs in Å: the edges are the pairs nearer than this.
    """

    z: Tensor
    pos: Tensor
    forces: Tensor
    shifts: Tensor | None = None
    cutoff: float

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors by name, without missing shifts."""
        found = {"z": self.z, "pos": self.pos, "forces": self.forces, "shifts": self.shifts}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def of(self, nodes: Tensor, edges: Tensor | None) -> Atoms:
        """Return some nodes and edges, `(nodes,)` and `(edges,)` int64, in this order.

        Args:
            nodes: Which nodes.
            edges: Which edges; only needed if there are shifts.
        """
        shifts = self.shifts
        if shifts is not None and edges is not None:
            shifts = shifts.index_select(0, edges)
        return replace(
            self,
            z=self.z.index_select(0, nodes),
            pos=self.pos.index_select(0, nodes),
            forces=self.forces.index_select(0, nodes),
            shifts=shifts,
        )

    def to(self, device: torch.device | str) -> Atoms:
        """Return the atoms on `device`, rounded to float32 if it has no float64."""
        wide = widest_float(torch.device(device))
        moved = {
            name: tensor.to(device, wide if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in self.tensors().items()
        }
        return Atoms(**moved, cutoff=self.cutoff)

    def check(self, nodes: int, edges: int, *, contents: bool = True) -> None:
        """Check shapes, dtypes and, unless it is left out, the contents.

        Raises:
            ValueError: One of them is wrong; the message names the tensor.
        """
        if not (math.isfinite(self.cutoff) and self.cutoff > 0):
            raise ValueError(f"cutoff is {self.cutoff}, expected a length above 0 {LENGTH_UNIT}")
        for name, tensor in self.tensors().items():
            rows = edges if name == "shifts" else nodes
            shape = (rows,) if name == "z" else (rows, 3)
            dtype = torch.int64 if name == "z" else torch.float64
            if tensor.shape != shape or tensor.dtype != dtype:
                raise ValueError(
                    f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected {dtype} of "
                    f"shape {shape}"
                )
            if not contents:
                continue
            for part in pieces(tensor):
                wrong = part.isinf() if name == "forces" else ~part.isfinite()
                if wrong.any():
                    raise ValueError(f"{name} holds a number that is not finite")
        if not contents:
            return
        wrong = self.z[(self.z < 1) | (self.z >= len(SYMBOLS))]
        if wrong.shape[0]:
            raise ValueError(
                f"z holds {int(wrong[0])}, expected atomic numbers 1 … {len(SYMBOLS) - 1}"
            )
