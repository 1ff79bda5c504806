"""Frames of atoms: their graphs by a radius, and what extended XYZ holds or lacks."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from graphnorms.data import Frames, GraphSet, load_dataset, save_npz
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.errors import DatasetError

CUTOFF = 2.5


def drawn(sizes: list[int], box: float) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    atoms = sum(sizes)
    return {
        "z": draw.choice([1, 6, 8], atoms),
        "pos": draw.uniform(0, box, (atoms, 3)),
        "ptr": np.cumsum([0, *sizes]),
        "energy": draw.normal(size=len(sizes)),
        "forces": draw.normal(size=(atoms, 3)),
    }


def vectors(graphs: GraphSet, frame: int) -> list[tuple[int, int, tuple[float, ...]]]:
    """The edges of a frame: target, source, and the vector to the source."""
    batch = graphs.batch(torch.tensor([frame]))
    source, target = batch.adjacency.to_edge_index()
    difference = batch.atoms.pos[source] - batch.atoms.pos[target]
    if batch.atoms.shifts is not None:
        difference = difference + batch.atoms.shifts
    rounded = (difference.numpy().round(9) + 0.0).tolist()
    edges = zip(target.tolist(), source.tolist(), map(tuple, rounded), strict=True)
    return sorted(edges)


def near(pos: np.ndarray, images: list[np.ndarray]) -> list[tuple[int, int, tuple[float, ...]]]:
    """The same by looking at every pair and image."""
    found = []
    for i, j, shift in itertools.product(range(len(pos)), range(len(pos)), images):
        vector = pos[j] + shift - pos[i]
        if 0 < np.linalg.norm(vector) < CUTOFF:
            found.append((i, j, tuple((vector.round(9) + 0.0).tolist())))
    return sorted(found)


def test_edges_are_the_pairs_within_the_radius() -> None:
    arrays = drawn([1, 7, 12, 2], box=4.0)
    graphs = Frames(**arrays).pack("drawn", cutoff=CUTOFF)
    check_graph_set(graphs)
    for frame in range(4):
        pos = arrays["pos"][arrays["ptr"][frame] : arrays["ptr"][frame + 1]]
        assert vectors(graphs, frame) == near(pos, [np.zeros(3)])
    assert graphs.x.argmax(1).tolist() == np.searchsorted([1, 6, 8], arrays["z"]).tolist()
    part = graphs.subset([2, 0])
    check_graph_set(part)
    assert torch.equal(part.atoms.forces, torch.from_numpy(arrays["forces"][[*range(8, 20), 0]]))
    with pytest.raises(DatasetError, match="atoms"):
        save_npz(graphs, "never.npz")
    still = graphs.with_targets(graphs.y, forces=0 * graphs.atoms.forces)
    assert still.fingerprint != graphs.fingerprint


def test_edges_of_a_cell_reach_its_images() -> None:
    pytest.importorskip("ase")
    arrays = drawn([3, 4], box=2.0)
    cell = np.array([[2.0, 0, 0], [0.5, 2.2, 0], [0, 0, 9.0]])
    pbc = np.array([[True, True, False], [False, False, False]])
    frames = Frames(**arrays, cells=np.stack([cell, cell]), pbc=pbc)
    graphs = frames.pack("cells", cutoff=CUTOFF)
    check_graph_set(graphs)
    images = [a * cell[0] + b * cell[1] for a in range(-3, 4) for b in range(-3, 4)]
    assert vectors(graphs, 0) == near(arrays["pos"][:3], images)
    assert vectors(graphs, 1) == near(arrays["pos"][3:], [np.zeros(3)])


def test_a_pair_at_the_cutoff_is_in_both_directions_or_none() -> None:
    """A crystal whose shells lie at the cutoff, where rounding decides."""
    ase_build = pytest.importorskip("ase.build")
    crystal = ase_build.bulk("Cu", a=3.61, cubic=True) * (2, 2, 1)
    crystal.rattle(0)
    for cutoff in (3.61, 3.61 / np.sqrt(2), 5.1):
        frames = Frames(
            z=crystal.numbers,
            pos=crystal.positions + 0.1,
            ptr=np.array([0, len(crystal)]),
            energy=np.zeros(1),
            forces=np.zeros((len(crystal), 3)),
            cells=crystal.cell.array[None],
            pbc=crystal.pbc[None],
        )
        check_graph_set(frames.pack("crystal", cutoff=cutoff))


FRAME = """2
Properties=species:S:1:pos:R:3:{forces}:R:3 {energy}=-123456.789012345 pbc="F F F"
O 0.0 0.0 0.0 0.1 0.0 -0.2
H 0.0 0.0 0.97 -0.1 0.0 0.2
"""
CALCULATED = FRAME.format(energy="energy", forces="forces")
REFERENCE = FRAME.format(energy="REF_energy", forces="REF_forces")
BOTH = CALCULATED.replace("energy=", "REF_energy=5 energy=")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (CALCULATED, ""),
        (REFERENCE, ""),
        (BOTH, "energy,forces"),
        (FRAME.format(energy="E", forces="F"), "E,F"),
    ],
)
def test_energies_and_forces_by_their_names(tmp_path: Path, text: str, target: str) -> None:
    pytest.importorskip("ase")
    (tmp_path / "water.xyz").write_text(text * 3)
    graphs = load_dataset(tmp_path / "water.xyz", target=target, cutoff=3)
    assert graphs.y.tolist() == [[-123456.789012345]] * 3  # float32 would have -123456.79
    assert graphs.atoms.z.tolist() == [8, 1] * 3
    assert graphs.atoms.forces.tolist() == [[0.1, 0, -0.2], [-0.1, 0, 0.2]] * 3
    assert (graphs.num_edges, graphs.task.kind, graphs.name) == (6, "forces", "water")


WRONG = {
    "other names in the second frame": (CALCULATED + REFERENCE, "frame 1"),
    "two names": (BOTH, "frame 0"),
    "no energy": (CALCULATED + CALCULATED.replace("energy=-123456.789012345", ""), "frame 1"),
    "no forces": ("1\nenergy=1\nH 0 0 0\n", "frame 0"),
    "NaN": (CALCULATED + CALCULATED.replace("0.1 ", "nan "), "atom 0 of frame 1"),
    "an energy that is a word": (CALCULATED.replace("-123456.789012345", "low"), "frame 0"),
    "the end is missing": (CALCULATED + CALCULATED[:-30], "frame 1"),
    "an element that is none": (CALCULATED.replace("O 0", "Qq 0"), "frame 0"),
    "two atoms at one place": (CALCULATED.replace("0.97", "0.0"), "atom 1"),
    "no text of frames": ("hello\n", "frame 0"),
    "nothing": ("", "no frame"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file_is_said_in_a_line(tmp_path: Path, case: str) -> None:
    pytest.importorskip("ase")
    text, where = WRONG[case]
    path = tmp_path / "wrong.xyz"
    path.write_text(text)
    with pytest.raises(DatasetError, match=re.escape(where)) as caught:
        load_dataset(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_without_ase_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ase.io", None)
    (tmp_path / "water.xyz").write_text(CALCULATED)
    with pytest.raises(DatasetError, match=re.escape("pip install 'graphnorms[atoms]'")):
        load_dataset(tmp_path / "water.xyz")
