# %% [markdown]
# # A force field
#
# **You have** frames of atoms with energies and forces from a calculation, as extended XYZ. **You
# want** to train an interatomic potential, and to know whether a norm on its scalar features
# helps or harms.
#
# The frames are clusters of copper, silver and gold with energies and forces of effective medium
# theory, computed by ASE in a few seconds. Your own file of DFT calculations takes their place.
# You need `pip install 'graphnorms[atoms]'`.

# %%
import itertools
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import graphnorms
from graphnorms.lab.predict import predict

STEPS = [step for step in itertools.product((-1, 0, 1), repeat=3) if np.abs(step).sum() == 2]
"""To the neighbouring sites of a face-centred cubic lattice, in half lattice constants."""


def cluster(random):
    sites = {(0, 0, 0)}
    while len(sites) < 8:
        start = sorted(sites)[random.integers(len(sites))]
        sites.add(tuple(np.add(start, STEPS[random.integers(len(STEPS))]).tolist()))
    positions = 2.0 * np.array(sorted(sites)) + random.normal(scale=0.15, size=(8, 3))  # in Å
    atoms = Atoms(random.choice(["Cu", "Ag", "Au"], 8).tolist(), positions)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


random = np.random.default_rng(0)
frames = [cluster(random) for _ in range(90)]
path = Path("runs/alloys.xyz")
path.parent.mkdir(exist_ok=True)
ase.io.write(path, frames)
forces = np.concatenate([atoms.get_forces() for atoms in frames])
print(f"{len(frames)} frames of 8 atoms; mean |force component| {np.abs(forces).mean():.2f} eV/Å")

# %% [markdown]
# ## Three norms in PaiNN
#
# ```sh
# graphnorms compare runs/alloys.xyz --norms none,layer,rms --folds 6 --epochs 8 --lr 0.002
# ```
#
# Each fold trains on some 70 frames for eight epochs at one learning rate: enough for a page, far
# from a potential that you would run. The forces judge; the error of the energy stands beside them.

# %%
comparison = graphnorms.compare(
    path,
    model="painn",
    norms=["none", "layer", "rms"],
    learning_rate=0.002,
    folds=6,
    epochs=8,
    batch_size=8,
    layers=2,
    hidden=32,
    out="runs/alloys",
)
print(comparison)

# %%
comparison.plot("learning_curves")

# %% [markdown]
# ## Not every norm is physics
#
# LayerNorm and RMSNorm look at one atom at a time. A norm with statistics over a graph makes
# atoms that are far apart feel each other: two clusters at a distance of 50 Å no longer have the
# sum of their energies. No score on these frames shows that, since no frame holds two clusters.
# So ask the models directly.

# %%
pair = frames[0].copy()
far = frames[1].copy()
far.translate((50.0, 0.0, 0.0))
pair.extend(far)
ase.io.write("runs/apart.xyz", [frames[0], frames[1], pair])


def energies(norm, comparison):
    file = comparison.export(f"runs/{norm}.safetensors", norm=norm)
    return predict(file, "runs/apart.xyz").outputs[:, 0].tolist()


with_graph = graphnorms.compare(
    path,
    model="painn",
    norms=["none", "graph"],
    learning_rate=0.002,
    folds=2,
    epochs=2,
    batch_size=8,
    layers=2,
    hidden=32,
    out="runs/alloys-graph",
)
for norm, of in (("none", comparison), ("layer", comparison), ("graph", with_graph)):
    one, other, both = energies(norm, of)
    print(f"{norm:6} E(A) + E(B) = {one + other:8.3f} eV   E(A and B) = {both:8.3f} eV")

# %% [markdown]
# ## What this says, and what not
#
# - The order of the norms holds for short training of a small PaiNN on small clusters. Longer
#   training often closes the gap: read the curves before the table.
# - Folds are cut at random from independent frames. Frames of one trajectory are alike; give
#   those a split by time (`--split-file`), or every error comes out too small.
# - A small force error is not a stable simulation. [Force fields](../force.md) says which norms
#   keep energies additive, forces smooth and results invariant, and what they cost.
