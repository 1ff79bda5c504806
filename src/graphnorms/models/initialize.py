"""Seeds for every purpose, derived from the seed of a trial, and initialization of models."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def derive_seed(seed: int, *names: object) -> int:
    """Derive a 63-bit seed for one purpose from the seed of a trial."""
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def initialize(model: nn.Module, seed: int) -> None:
    """Reset every module of a model, each with its own seed.

    So replacing one layer, e.g. by a normalization that draws random numbers, does not change the
    initial weights of the others. The global random state does not change.

    Args:
        model: The model; the `reset_parameters` of its modules are called.
        seed: The seed of the trial.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                seed_draws(device, derive_seed(seed, "weights", name))
                reset()


def seed_draws(device: torch.device, seed: int) -> None:
    """Seed the generator of dropout and norms, like `torch.manual_seed`."""
    if device.type == "cpu":
        # manual_seed stores a traceback per call for a GPU that may be initialized later.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
