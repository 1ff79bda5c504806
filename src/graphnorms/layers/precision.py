"""How a part of a layer keeps its own precision under autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Make a context in which autocast leaves operations on the device of x alone."""
    if x.is_meta:  # which knows no autocast
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
