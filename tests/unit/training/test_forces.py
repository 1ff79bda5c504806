"""Energies and forces: what is removed of energies, the loss, errors, and forces as gradients."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from graphnorms.data import Frames, GraphSet, SplitConfig, split_items
from graphnorms.models import ForceModel, ForceModelConfig
from graphnorms.training import run_trial
from graphnorms.training.force_objective import ForceObjective, objective_of
from graphnorms.training.forces import energies_and_forces, energies_of, error_of, rows_of
from graphnorms.training.trial import train
from graphnorms.training.trial_config import TrialConfig

OFFSETS = {1: -13.6, 6: -1029.25, 8: -2041.5}
STIFF, LENGTH = 5.0, 1.4


def springs(frames: int = 48) -> GraphSet:
    """Pairs of atoms on springs beside their elements: E = Σ e + k (r − r₀)² / 2."""
    draw = np.random.default_rng(0)
    z = draw.choice([*OFFSETS], (frames, 2))
    axis = draw.normal(size=(frames, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    r = draw.uniform(1.0, 1.8, frames)
    pull = STIFF * (r - LENGTH)[:, None] * axis  # on the first atom
    pos = np.stack((0 * axis, r[:, None] * axis), 1)
    of_elements = np.vectorize(OFFSETS.get)(z).sum(1)
    return Frames(
        z=z.ravel(),
        pos=pos.reshape(-1, 3),
        ptr=np.arange(frames + 1) * 2,
        energy=of_elements + STIFF * (r - LENGTH) ** 2 / 2,
        forces=np.stack((pull, -pull), 1).reshape(-1, 3),
    ).pack("springs", cutoff=3.0)


def free(sizes: list[int], **changes: np.ndarray) -> GraphSet:
    """Atoms that do not act on each other, so that energies are those of their elements alone."""
    draw = np.random.default_rng(1)
    atoms = sum(sizes)
    z, ptr = draw.choice([*OFFSETS], atoms), np.cumsum([0, *sizes])
    of_atoms = np.vectorize(OFFSETS.get)(z)
    arrays = {
        "z": z,
        "pos": draw.uniform(0, 9, (atoms, 3)),
        "energy": np.add.reduceat(of_atoms, ptr[:-1]),
        "forces": np.zeros((atoms, 3)),
    }
    return Frames(**arrays | changes, ptr=ptr).pack("free", cutoff=2.0)


def test_energies_of_elements_are_those_of_the_training_frames() -> None:
    graphs = free([30 + size for size in range(12)])  # total energies of 1e4 to 1e5
    train = torch.arange(8)
    spoiled = graphs.with_targets(torch.cat((graphs.y[:8], graphs.y[8:] + 1e3)))
    for each in (graphs, spoiled):
        objective = objective_of(each, train)
        for z, energy in OFFSETS.items():
            assert float(objective.mean[z]) == pytest.approx(energy, abs=1e-9)
        assert objective.mean.isnan().sum() == len(objective.mean) - len(OFFSETS)
        rest = objective.standardized(each).y
        torch.testing.assert_close(rest[:8], torch.zeros(8, 1).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(rest[8:], torch.full((4, 1), 1e3).double(), rtol=1e-11, atol=0)


def test_an_element_that_no_training_frame_has() -> None:
    graphs = springs()
    with_oxygen = [k for k in range(len(graphs)) if 8 in graphs.atoms.z[2 * k : 2 * k + 2].tolist()]
    others = torch.tensor([k for k in range(len(graphs)) if k not in with_oxygen])
    with pytest.raises(ValueError, match="has O"):
        objective_of(graphs, others)


def test_errors_and_loss_by_hand() -> None:
    """A frame of one atom and one of three: frames count alike in energies, atoms in forces."""
    counts = torch.tensor([1, 3])
    energy, forces = torch.tensor([[2.0], [9.0]]).double(), torch.zeros(4, 3).double()
    targets = rows_of(energy, forces, counts)
    outputs = rows_of(energy + torch.tensor([[0.5], [-6.0]]), forces + 0.25, counts)[:, :4]
    assert error_of("energy_mae", outputs, targets) == pytest.approx((0.5 + 2.0) / 2)
    assert error_of("energy_rmse", outputs, targets) == pytest.approx(math.sqrt((0.25 + 4) / 2))
    assert error_of("force_mae", outputs, targets) == pytest.approx(0.25)
    assert torch.equal(energies_of(targets, counts), energy)
    unit = torch.ones(1).double()
    objective = ForceObjective(springs(2).task, unit, 4 * unit, weight=3.0)
    assert float(objective.loss(outputs, targets)) == pytest.approx((0.25 + 4) / 2 + 3 * 0.0625)
    judged = objective.judge("force_mae", outputs, targets)
    assert judged.score == pytest.approx(4 * 0.25)  # in the unit of the data


def test_forces_are_finite_differences_of_the_predicted_energy() -> None:
    graphs = springs(16)
    config = config_of(graphs, epochs=1, dtype="float64")
    _, predictor = train(config, graphs)
    batch = graphs.batch(torch.arange(4))
    forces = predictor(batch).forces.detach()
    step = 1e-4
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        moved = []
        for sign in (1, -1):
            pos = batch.atoms.pos.clone()
            pos[atom, axis] += sign * step
            atoms = dataclasses.replace(batch.atoms, pos=pos)
            energy = predictor(dataclasses.replace(batch, atoms=atoms)).energy
            moved.append(float(energy.detach().sum()))
        slope = (moved[0] - moved[1]) / (2 * step)
        assert float(forces[atom, axis]) == pytest.approx(-slope, rel=1e-5, abs=1e-6)


def test_a_graph_is_kept_only_where_gradients_are_recorded() -> None:
    graphs = springs(3)
    model = ForceModel(ForceModelConfig(name="painn", layers=1, hidden=4), "layer", seed=0)
    batch = graphs.batch(torch.arange(3))
    recorded = energies_and_forces(model, batch)
    recorded[:, 1:].square().sum().backward()
    assert all(
        p.grad is not None for name, p in model.named_parameters() if "head.bias" not in name
    )
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            found = energies_and_forces(model, batch)
        assert not found.requires_grad
        torch.testing.assert_close(found, recorded.detach())


def config_of(graphs: GraphSet, **changes) -> TrialConfig:
    model = ForceModelConfig(name="painn", layers=1, hidden=8, cutoff=graphs.atoms.cutoff)
    values = {
        "dataset": graphs.name,
        "fingerprint": graphs.fingerprint,
        "model": model.to_dict(),
        "norm": "layer",
        "split": SplitConfig(kind="random", seed=0, holdout=0.25).to_dict(),
        "stage": "final",
        "run": 0,
        "metric": "force_mae",
        "epochs": 16,
        "batch_size": 8,
        "learning_rate": 0.02,
        "schedule": "linear",
        "weight_decay": 0.0,
        "seed": 0,
        "device": "cpu",
        "dtype": "float32",
        "graphnorms_version": "",
        "torch_version": "",
    }
    return TrialConfig(**values | changes)


def test_a_trial_learns_springs() -> None:
    """The mean force of the planted springs is known, and so is what no force would score."""
    graphs = springs()
    config = config_of(graphs)
    record = run_trial(config, graphs)
    assert record.status == "done"
    assert "problem" not in record.measures["initial"]
    split = split_items(graphs, SplitConfig(**config.split))
    nodes = graphs.node_ids(split.test)
    without = float(graphs.atoms.forces[nodes].abs().mean())
    assert record.scores["test"]["force_mae"] < without / 2
    assert record.scores["test"]["energy_mae"] < 0.1  # of total energies of 1e3
    assert record.outcome["test_score"] == record.scores["test"]["force_mae"]
