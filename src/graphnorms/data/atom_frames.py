"""Frames: configurations of atoms with their energy and forces, and their graphs by a radius."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.atoms import SYMBOLS, Atoms
from graphnorms.data.feature_columns import Columns, Encoding
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers, offsets
from graphnorms.data.task_kinds import ENERGY_UNIT, FORCES, LENGTH_UNIT
from graphnorms.data.tasks import Task
from graphnorms.data.text_format import some
from graphnorms.errors import DatasetError

DEFAULT_CUTOFF: Final = 5.0

_PAIRS: Final = 1 << 22
"""Pairs of atoms whose distances are computed at a time."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Frames:
    """Configurations of atoms: molecules, clusters, or periodic cells.

    Args:
        z: Atomic numbers 1 … 118, `(atoms,)`.
        pos: Positions in Å, `(atoms, 3)`.
        ptr: Offsets of the frames' atoms, `(frames + 1,)`.
        energy: Total energy of each frame in eV, `(frames,)`; None if a model is to predict it.
        forces: Forces in eV/Å, `(atoms, 3)`; None likewise.
        cells: The cell vectors of each frame as rows, in Å, `(frames, 3, 3)`; None if no frame is
            periodic.
        pbc: Along which of them each frame is periodic, `(frames, 3)` bool.
    """

    z: NDArray[Any]
    pos: NDArray[Any]
    ptr: NDArray[Any]
    energy: NDArray[Any] | None
    forces: NDArray[Any] | None
    cells: NDArray[Any] | None = None
    pbc: NDArray[Any] | None = None

    def pack(
        self,
        name: str,
        *,
        cutoff: float = DEFAULT_CUTOFF,
        encoding: Encoding | None = None,
        notes: Sequence[str] = (),
    ) -> GraphSet:
        """Make a graph set with the task `"forces"`.

        An edge joins two atoms, or an atom and an image of an atom, nearer than the cutoff; node
        features are the one-hot elements, ascending.

        Args:
            name: Name of the set.
            cutoff: The radius in Å.
            encoding: The encoding of a model's input, which fixes the elements.
            notes: Remarks for the user.

        Raises:
            DatasetError: Two atoms are at one place, an energy or force is not finite, or an
                element is not one of the encoding.
            ValueError: The shapes are not consistent.
        """
        self._check()
        sources, targets, shifts = self._edges(cutoff)
        numbers = self.z.astype(np.int64)
        columns = None if encoding is None else encoding.nodes
        columns = Columns.found("node", numbers[:, None], None) if columns is None else columns
        counts = np.bincount(targets, minlength=len(numbers))
        first = np.repeat(self.ptr[:-1], np.diff(self.ptr))  # (atoms,), the frame's first atom
        unknown = np.full((len(numbers), 3), np.nan)
        energy = np.full(len(self.ptr) - 1, np.nan) if self.energy is None else self.energy
        elements = [SYMBOLS[number] for number in columns.blocks[0]]
        return GraphSet(
            name=name,
            x=columns.encode(len(numbers), labels=numbers[:, None], attributes=None),
            ptr=torch.from_numpy(self.ptr.astype(np.int64)),
            edge_ptr=torch.from_numpy(offsets(counts)),
            edge_index=torch.from_numpy(sources - first[sources]),
            y=torch.from_numpy(energy.astype(np.float64).reshape(-1, 1)),
            task=Task(kind=FORCES, targets=("energy",), unit=ENERGY_UNIT),
            features=f"one-hot elements {some(elements)}",
            columns=columns,
            atoms=Atoms(
                z=torch.from_numpy(numbers),
                pos=_wide(self.pos),
                forces=_wide(unknown if self.forces is None else self.forces),
                shifts=None if shifts is None else _wide(shifts),
                cutoff=float(cutoff),
            ),
            notes=(
                f"edges join atoms nearer than {cutoff:g} {LENGTH_UNIT}, "
                f"{len(sources) / max(1, len(numbers)):.1f} to an atom on average",
                *notes,
            ),
            validate=False,
        )

    def _check(self) -> None:
        """Refuse arrays of other shapes, and numbers that are not finite."""
        frames, atoms = len(self.ptr) - 1, len(self.z)
        empty = np.flatnonzero(np.diff(self.ptr) < 1)
        if len(empty):
            raise DatasetError(f"frame {empty[0]} (from 0) has no atoms")
        shapes: dict[str, tuple[NDArray[Any] | None, tuple[int, ...]]] = {
            "z": (self.z, (atoms,)),
            "pos": (self.pos, (atoms, 3)),
            "energy": (self.energy, (frames,)),
            "forces": (self.forces, (atoms, 3)),
            "cells": (self.cells, (frames, 3, 3)),
            "pbc": (self.pbc, (frames, 3)),
        }
        for name, (given, expected) in shapes.items():
            if given is None:
                continue
            if given.shape != expected:
                raise ValueError(f"{name} is of shape {given.shape}, expected {expected}")
            wrong = np.flatnonzero(~np.isfinite(given.reshape(len(given), -1)).all(1))
            if len(wrong):
                row = int(wrong[0])
                by_atom = name in ("z", "pos", "forces")
                where = self._place(row) if by_atom else f"frame {row} (from 0)"
                raise DatasetError(f"{name} of {where}: expected finite numbers")
        if atoms and not (self.z.min() >= 1 and self.z.max() < len(SYMBOLS)):
            wrong = np.flatnonzero((self.z < 1) | (self.z >= len(SYMBOLS)))
            raise DatasetError(
                f"{self._place(int(wrong[0]))} has the atomic number {int(self.z[wrong[0]])}, "
                f"expected one of 1 … {len(SYMBOLS) - 1}"
            )

    def _place(self, atom: int) -> str:
        """Name an atom by its frame, both counted from 0."""
        frame = int(np.searchsorted(self.ptr, atom, side="right")) - 1
        return f"atom {atom - int(self.ptr[frame])} of frame {frame} (from 0)"

    def _edges(self, cutoff: float) -> tuple[Integers, Integers, Floats | None]:
        """Return sources, targets and shifts of the edges, sorted by target and source."""
        if self.pbc is None or self.cells is None or not self.pbc.any():
            sources, targets = _near_pairs(self.pos, self.ptr, cutoff)
            self._refuse_touching(sources, targets, None)
            return sources, targets, None
        parts = [self._edges_of(frame, cutoff) for frame in range(len(self.ptr) - 1)]
        sources, targets, shifts = (np.concatenate(each) for each in zip(*parts, strict=True))
        self._refuse_touching(sources, targets, shifts)
        return sources, targets, shifts

    def _edges_of(self, frame: int, cutoff: float) -> tuple[Integers, Integers, Floats]:
        """Return the edges of one frame, see `_edges`."""
        assert self.pbc is not None
        assert self.cells is not None
        first, last = self.ptr[frame : frame + 2]
        pos, pbc, cell = self.pos[first:last], self.pbc[frame], self.cells[frame]
        if not pbc.any():
            sources, targets = _near_pairs(pos, np.array([0, last - first]), cutoff)
            return sources + first, targets + first, np.zeros((len(sources), 3))
        if np.linalg.matrix_rank(cell[pbc]) < pbc.sum():
            raise DatasetError(
                f"frame {frame} (from 0) is periodic along cell vectors that are 0 or not "
                "independent; give them in Lattice"
            )
        from ase.neighborlist import primitive_neighbor_list

        # ASE computes i→j and j→i apart, and rounding can put a pair at exactly the cutoff in one
        # of them only: a little more is asked for, and cut by distances that are equal both ways.
        targets, sources, images = primitive_neighbor_list(
            "ijS", pbc, cell, pos, cutoff * (1 + 1e-9)
        )
        shifts = images @ cell  # (edges, 3)
        vectors = (pos[sources] - pos[targets]) + shifts
        near = np.flatnonzero((vectors**2).sum(1) < cutoff**2)
        order = near[np.lexsort((*images[near].T, sources[near], targets[near]))]
        return sources[order] + first, targets[order] + first, shifts[order]

    def _refuse_touching(self, sources: Integers, targets: Integers, shifts: Floats | None) -> None:
        vectors = self.pos[sources] - self.pos[targets]
        vectors = vectors if shifts is None else vectors + shifts
        same = np.flatnonzero(~vectors.any(1))
        if len(same):
            first, second = int(targets[same[0]]), int(sources[same[0]])
            begin = int(self.ptr[np.searchsorted(self.ptr, first, side="right") - 1])
            raise DatasetError(
                f"{self._place(first)} lies where atom {second - begin} does; expected atoms apart"
            )


def _near_pairs(pos: NDArray[Any], ptr: NDArray[Any], cutoff: float) -> tuple[Integers, Integers]:
    """Return sources and targets of the pairs nearer than the cutoff within each frame."""
    counts = np.diff(ptr)
    first, size = np.repeat(ptr[:-1], counts), np.repeat(counts, counts)  # (atoms,) each
    found: list[tuple[Integers, Integers]] = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for begin, end in _chunks(size):
        targets = np.repeat(np.arange(begin, end), size[begin:end])  # (pairs,)
        starts = offsets(size[begin:end])[:-1] - first[begin:end]
        sources = np.arange(len(targets)) - np.repeat(starts, size[begin:end])
        near = ((pos[sources] - pos[targets]) ** 2).sum(1) < cutoff**2
        near &= sources != targets
        found.append((sources[near], targets[near]))
    sources, targets = (np.concatenate(each) for each in zip(*found, strict=True))
    return sources, targets


def _chunks(size: Integers) -> Iterator[tuple[int, int]]:
    """Divide atoms into runs whose pairs fit into memory."""
    part = (np.cumsum(size) - 1) // _PAIRS
    bounds = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(size)]
    return itertools.pairwise(bounds)


def _wide(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
