"""Random numbers of a trial: each purpose has a seed of its own, derived from the trial's."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def derive_seed(seed: int, *names: object) -> int:
    """Derive a seed of 63 bits for one purpose from a trial's seed."""
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def initialize(model: nn.Module, seed: int) -> None:
    """Reset every module of a model, each from random numbers of its own.

    Exchanging one layer, say a normalization for one that draws random numbers, then leaves the
    initial weights of all others as they were. The global random state is not touched.

    Args:
        model: Its modules' `reset_parameters` are called, by name.
        seed: The trial's seed.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                seed_draws(device, derive_seed(seed, "weights", name))
                reset()


def seed_draws(device: torch.device, seed: int) -> None:
    """Seed what dropout and norms draw from, as `torch.manual_seed` does."""
    if device.type == "cpu":
        # That one keeps a traceback of every call for a GPU that may be started later.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
