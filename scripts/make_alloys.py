"""Write small clusters of an alloy with the energies and forces of effective medium theory.

    python scripts/make_alloys.py alloys.xyz          # 400 clusters; needs graphnorms[atoms]

Each has 6 to 14 atoms of copper, silver and gold at random on neighbouring sites of a face-centred
cubic lattice, from which every coordinate is moved by a normal number of 0.05 to 0.3 Å. Energies
and forces are those of ASE's EMT (Jacobsen, Stoltze & Nørskov, Surface Science 366, 1996), in eV
and eV/Å. The file is the same every time.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

ELEMENTS = ("Cu", "Ag", "Au")
NEIGHBOURS = np.array(
    [
        step
        for step in itertools.product((-1, 0, 1), repeat=3)
        if sorted(map(abs, step)) == [0, 1, 1]
    ]
)
"""Steps between neighbouring sites, in half lattice constants."""
HALF_CONSTANT = 2.0
"""In Å: between those of copper, 1.81, and of silver and gold, 2.04."""


def cluster(random: np.random.Generator) -> Atoms:
    """Grow a cluster site by site, move its atoms, and compute its energy and forces."""
    size = int(random.integers(6, 15))
    sites = {(0, 0, 0)}
    while len(sites) < size:
        start = sorted(sites)[random.integers(len(sites))]
        step = NEIGHBOURS[random.integers(len(NEIGHBOURS))]
        sites.add(tuple(int(number) for number in np.add(start, step)))
    positions = HALF_CONSTANT * np.array(sorted(sites), dtype=float)
    positions += random.normal(scale=random.uniform(0.05, 0.3), size=positions.shape)
    atoms = Atoms(random.choice(ELEMENTS, size).tolist(), positions)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--clusters", type=int, default=400)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    ase.io.write(arguments.path, [cluster(random) for _ in range(arguments.clusters)])


if __name__ == "__main__":
    main()
