"""What a new norm takes over from the one in whose place it stands."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from graphnorms.dropin.norms import Known, affine_of

_AFFINE: Final = frozenset({
    "batch", "layer", "layer-graph", "instance", "graph", "rms", "group", "group-graph", "power",
    "custom", "adja", "united",
})  # fmt: skip
"""The kinds whose weight and bias are those of each channel, behind the normalization."""


def carry_over(old: nn.Module, was: Known, new: nn.Module, now: Known | None) -> str:
    """Copy the parameters and statistics that mean the same, and say in words what was copied.

    Between norms of one kind that is everything; between others weight and bias.

    Args:
        old: The norm that goes.
        was: What is known of it.
        new: The norm that comes.
        now: What is known of it; `None` for a module that is no norm of those known.
    """
    if now is None:
        return "nothing: its parameters are its own"
    if was.kind == now.kind and _copy_state(old, new):
        return "everything" if list(old.state_dict()) else "nothing to keep"
    if was.kind not in _AFFINE or now.kind not in _AFFINE:
        return (
            "nothing: its parameters mean something else" if _has_state(old) else "nothing to keep"
        )
    kept, lost = [], []
    pairs = zip(("weight", "bias"), affine_of(old), affine_of(new), strict=True)
    for name, before, after in pairs:
        if before is None:
            continue
        if after is None or before.shape != after.shape:
            lost.append(name)
            continue
        with torch.no_grad():
            after.copy_(before)
        after.requires_grad_(before.requires_grad)
        kept.append(name)
    lost += [
        last
        for name, _ in old.named_parameters()
        if (last := name.rpartition(".")[2]) not in ("weight", "bias")
    ]
    if "running_mean" in (name.rpartition(".")[2] for name, _ in old.named_buffers()):
        lost.append("running statistics")
    text = " and ".join(kept) or "nothing to keep"
    return f"{text}; not {' and '.join(lost)}" if lost else text


def _copy_state(old: nn.Module, new: nn.Module) -> bool:
    """Load the whole state, by the names without PyG's prefix; `False` where it does not fit."""
    given = {key.removeprefix("module."): value for key, value in old.state_dict().items()}
    wanted = new.state_dict()
    if given.keys() != {key.removeprefix("module.") for key in wanted}:
        return False
    state = {key: given[key.removeprefix("module.")] for key in wanted}
    if any(state[key].shape != value.shape for key, value in wanted.items()):
        return False
    new.load_state_dict(state)
    trained = {key.removeprefix("module."): p.requires_grad for key, p in old.named_parameters()}
    for key, parameter in new.named_parameters():
        parameter.requires_grad_(trained[key.removeprefix("module.")])
    return True


def _has_state(module: nn.Module) -> bool:
    return bool(module.state_dict())
