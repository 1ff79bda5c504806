"""Reads frames of atoms with energies and forces from extended XYZ, by ASE."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.atom_frames import DEFAULT_CUTOFF, Frames
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import offsets
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.task_kinds import FORCES
from graphnorms.data.text_format import some
from graphnorms.errors import DatasetError, one_line

SUFFIXES: Final = (".xyz", ".extxyz")

_USUAL: Final = {
    "energy": ("energy", "REF_energy", "dft_energy", "DFT_energy", "ref_energy"),
    "forces": ("forces", "REF_forces", "dft_forces", "DFT_forces", "ref_forces", "force"),
}
"""Names under which energies and forces are usual; of several in one file the user chooses."""


def is_extended_xyz(path: Path) -> bool:
    """Whether a file is named as extended XYZ, compressed by gzip or not."""
    return Path(path.name.removesuffix(".gz")).suffix.lower() in SUFFIXES


def read_extended_xyz(path: Path, reading: Reading) -> GraphSet:
    """Read an extended-XYZ file: a graph for each frame, see `graphnorms.data.Frames`.

    Energies are in eV, forces in eV/Å. They stand under `energy` and `forces`, which ASE turns into
    a calculator, or under another usual name, such as `REF_energy` and `REF_forces`; the option
    `target` chooses if there are several. Cells with `pbc` are periodic. The frames are read one by
    one, and only their numbers are kept.

    Args:
        path: The file.
        reading: The options: `cutoff`, `target`, `encoding`.

    Raises:
        DatasetError: The file is damaged, a frame lacks energy or forces, or there are several; the
            message names the frame. Or ASE is not installed.
    """
    if reading.task not in ("auto", FORCES):
        raise DatasetError(
            f"{path}: task is {reading.task!r}, but frames of atoms have the task {FORCES!r}; "
            "leave it out"
        )
    predicts = reading.encoding is not None
    table = _Table(path, {} if predicts else _asked(path, reading.target))
    for number, atoms in enumerate(_frames_of(path)):
        table.add(number, atoms, labelled=not predicts)
    if not table.z:
        raise DatasetError(f"{path}: holds no frame")
    notes = () if predicts else (f"targets {table.names['energy']} and {table.names['forces']}",)
    cutoff = DEFAULT_CUTOFF if reading.cutoff is None else reading.cutoff
    try:
        return table.frames().pack(
            path.name.removesuffix(".gz").rpartition(".")[0],
            cutoff=cutoff,
            encoding=reading.encoding,
            notes=(*table.notes(), *notes),
        )
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def _asked(path: Path, target: str) -> dict[str, str]:
    """Return the names that the option `target` gives to energy and forces."""
    names = [name.strip() for name in target.split(",") if name.strip()]
    if len(names) not in (0, 2):
        raise DatasetError(
            f"{path}: target is {target!r}, expected the names of energy and forces, such as "
            "REF_energy,REF_forces"
        )
    return dict(zip(("energy", "forces"), names, strict=False))


def _frames_of(path: Path) -> Iterator[Any]:
    """Iterate over the frames, as ASE's `Atoms`."""
    try:
        from ase.io import iread
    except ImportError:
        raise DatasetError(
            f"{path}: extended XYZ is read by ASE: pip install 'graphnorms[atoms]'"
        ) from None
    frames, number = iread(path, index=":", format="extxyz"), 0
    while True:
        try:
            with warnings.catch_warnings():
                # ASE warns of names that it renames; what matters is said in the notes.
                warnings.simplefilter("ignore")
                atoms = next(frames)
        except StopIteration:
            return
        except Exception as error:  # ASE raises whatever its parser meets
            raise DatasetError(
                f"{path}: damaged at frame {number} (from 0), ASE says {one_line(error)}"
            ) from None
        yield atoms
        number += 1


@dataclass
class _Table:
    """What is kept of the frames that were read.

    Args:
        path: The file.
        names: The names of energy and forces, as far as they are known.
    """

    path: Path
    names: dict[str, str]
    z: list[NDArray[Any]] = field(default_factory=list)
    pos: list[NDArray[Any]] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    forces: list[NDArray[Any]] = field(default_factory=list)
    cells: list[NDArray[Any]] = field(default_factory=list)
    pbc: list[NDArray[Any]] = field(default_factory=list)

    def add(self, number: int, atoms: Any, *, labelled: bool) -> None:
        """Keep a frame, and with `labelled` its energy and forces."""
        self.z.append(np.asarray(atoms.numbers))
        self.pos.append(np.asarray(atoms.positions, np.float64))
        self.cells.append(np.asarray(atoms.cell, np.float64))
        self.pbc.append(np.asarray(atoms.pbc, bool))
        if not labelled:
            return
        results = {} if atoms.calc is None else atoms.calc.results
        energy = self._found(number, "energy", {**atoms.info, **results})
        forces = self._found(number, "forces", {**atoms.arrays, **results})
        try:
            self.energy.append(float(energy))
            self.forces.append(np.asarray(forces, np.float64).reshape(len(atoms), 3))
        except (TypeError, ValueError):
            name, value, expected = self.names["energy"], energy, "a number"
            if np.ndim(energy) == 0 and not isinstance(energy, str):
                name, value, expected = self.names["forces"], forces, "three numbers for each atom"
            raise DatasetError(
                f"{self.path}: {name} of frame {number} (from 0) is {str(value)[:40]!r}, expected "
                f"{expected}"
            ) from None

    def _found(self, number: int, what: str, values: Mapping[str, Any]) -> Any:
        """Return energy or forces out of what a frame has."""
        here = [name for name in _USUAL[what] if name in values]
        if what not in self.names:
            if len(here) != 1:
                self._refuse(number, what, here, values)
            self.names[what] = here[0]
        name = self.names[what]
        if name not in values:
            others = f", but {some(here)}" if here else ""
            first = " as the first one has" if number and here else ""
            raise DatasetError(
                f"{self.path}: frame {number} (from 0) has no {name}{first}{others}; give every "
                "frame energy and forces under the same names"
            )
        return values[name]

    def _refuse(self, number: int, what: str, here: list[str], values: Mapping[str, Any]) -> None:
        if here:
            raise DatasetError(
                f"{self.path}: frame {number} (from 0) has {' and '.join(here)}; name energy and "
                "forces with --target, such as REF_energy,REF_forces"
            )
        has = some(sorted(name for name in values if name not in ("numbers", "positions")))
        raise DatasetError(
            f"{self.path}: frame {number} (from 0) has no {what}, but {has or 'positions alone'}; "
            f"expected {some(_USUAL[what])}, or their names with --target ENERGY,FORCES"
        )

    def frames(self) -> Frames:
        """Return all frames."""
        labelled = bool(self.energy)
        periodic = any(each.any() for each in self.pbc)
        return Frames(
            z=np.concatenate(self.z),
            pos=np.concatenate(self.pos),
            ptr=offsets(np.array([len(each) for each in self.z])),
            energy=np.array(self.energy) if labelled else None,
            forces=np.concatenate(self.forces) if labelled else None,
            cells=np.stack(self.cells) if periodic else None,
            pbc=np.stack(self.pbc) if periodic else None,
        )

    def notes(self) -> list[str]:
        """Return what a user should know of cells."""
        periodic = sum(bool(each.any()) for each in self.pbc)
        if not periodic:
            return []
        every = "all" if periodic == len(self.pbc) else f"{periodic} of {len(self.pbc)}"
        return [f"{every} frames periodic"]
