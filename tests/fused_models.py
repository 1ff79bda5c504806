"""What `replace_norms(model, "fused")` changes in the force fields of others.

`python -m tests.fused_models` prints the table of docs/equivariant.md for the packages that are
installed. They need, in an environment with graphnorms, its `dev` extra and torch 2.13:

    pip install --no-deps cuequivariance==0.13.0 cuequivariance-torch==0.13.0 mace-torch==0.3.16 \
        torchmd-net==3.1.0 fairchem-core==2.24.0 ase h5py warp-lang matscipy torch_ema lmdb orjson \
        tabulate submitit clusterscope wandb==0.31.0 torchtnt pyre-extensions typing-inspect numba \
        llvmlite hydra-core omegaconf antlr4-python3-runtime==4.9.3 huggingface_hub httpx2 monty \
        ruamel.yaml cwevals backoff setuptools==80.10.2
    pip install opentelemetry-api opentelemetry-sdk opentelemetry-exporter-otlp-proto-http

EquiformerV2 left fairchem with version 2, so it comes from a folder of its own:

    pip install --no-deps --target v1 fairchem-core==1.10.0
    PYTHONPATH=v1 python -m tests.fused_models equiformer_v2
"""

from __future__ import annotations

import copy
import importlib.metadata
import sys
import warnings
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.dropin import Replacement
from tests.force_models import MODELS, Outputs, Subject, build


class Compared(NamedTuple):
    """What replacing the norms of a model changed."""

    replacement: Replacement
    differences: dict[str, float]
    """Largest differences of outputs and of gradients, relative to the largest value."""


def results(subject: Subject) -> Outputs:
    """Outputs in `train()` and in `eval()`, and gradients of a loss that holds forces."""
    found: dict[str, Tensor] = {}
    outputs = subject.call(subject.model.train())
    loss = sum((value.square().mean() for value in outputs.values()), torch.tensor(0.0))
    subject.model.zero_grad()
    loss.backward()
    found |= {f"{key} in training": value.detach() for key, value in outputs.items()}
    for key, parameter in subject.model.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {key}"] = parameter.grad.clone()
    outputs = subject.call(subject.model.eval())
    return found | {key: value.detach() for key, value in outputs.items()}


def compare(name: str) -> Compared:
    """Replace the norms of a model, and compare all results; check its state both ways.

    Raises:
        ImportError: Its package is not installed.
        AssertionError: A state does not load, or changed.
    """
    subject = build(name)
    before = copy.deepcopy(subject.model.state_dict())
    expected = results(subject)
    averages = copy.deepcopy(subject.model.state_dict())
    subject.model.load_state_dict(before)
    replacement = gn.replace_norms(subject.model, "fused")
    state = subject.model.state_dict()
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in state)
    found = results(subject)
    assert found.keys() == expected.keys()
    for key, value in subject.model.state_dict().items():
        torch.testing.assert_close(value, averages[key])
    build(name).model.load_state_dict(subject.model.state_dict())
    subject.model.load_state_dict(before)
    differences: dict[str, float] = {}
    for key, value in expected.items():
        # Parameters in front of a norm may have gradients of rounding errors alone.
        floor = max(other.abs().max() for name, other in expected.items() if name[:8] == key[:8])
        away = (value - found[key]).abs().max() / max(value.abs().max(), 1e-3 * floor)
        kind = key.partition(" ")[0]
        differences[kind] = max(float(away), differences.get(kind, 0.0))
    return Compared(replacement, differences)


def main(wanted: list[str]) -> None:
    """Print the rows of the table in docs/equivariant.md."""
    for name, (make, _, package) in MODELS.items():
        if wanted and make.__name__ not in wanted:
            continue
        cells = []
        for dtype in (torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
            try:
                replacement, away = compare(name)
            except ImportError as error:
                print(f"{name}: {error}")
                break
            cells.append(", ".join(f"{away[key]:.0e}" for key in ("energy", "forces", "gradient")))
        else:
            classes = Counter(type(change.old).__name__ for change in replacement.changed)
            what = ", ".join(f"{count} {kind}" for kind, count in classes.items())
            left = "; ".join(f"{change.name}: {change.note}" for change in replacement.left)
            left = "; ".join([left, *replacement.notes]).strip("; ")
            version = importlib.metadata.version(package)
            print(f"| {name} | {package} {version} | {what} | {' | '.join(cells)} | {left} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1:])
