"""What is derived from a batch vector, kept as long as the vector lives."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from graphnorms.segments.segments import Segments


class Memory:
    """The Segments of recently seen batch vectors, by the identity of the vector."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int | None], tuple[weakref.ref[Tensor], int, Segments]] = {}

    def find(self, batch: Tensor, num_segments: int | None) -> Segments | None:
        """Return what is kept for a vector that was not written to since.

        Nothing while a CUDA graph is recorded: it is replayed when the vector holds another batch,
        and must derive anew what follows from it.
        """
        if is_recorded(batch):
            return None
        entry = self.entries.get((id(batch), num_segments))
        if entry is None or entry[0]() is not batch or entry[1] != batch._version:
            return None
        return entry[2]

    def keep(self, batch: Tensor, num_segments: int | None, segments: Segments) -> None:
        """Keep Segments as long as the vector lives."""
        key = (id(batch), num_segments)

        def forget(dead: weakref.ref[Tensor]) -> None:
            # Another tensor may have got the same id in the meantime.
            entry = self.entries.get(key)
            if entry is not None and entry[0] is dead:
                del self.entries[key]

        self.entries[key] = (weakref.ref(batch, forget), batch._version, segments)


memory = Memory()


def is_recorded(of: Tensor | torch.device | None) -> bool:
    """Whether operations on a tensor or device are now recorded in a CUDA graph."""
    device = of.device if isinstance(of, Tensor) else of
    on_gpu = device is not None and device.type == "cuda"
    return on_gpu and torch.cuda.is_current_stream_capturing()


def may_keep(of: Tensor | torch.device | None) -> bool:
    """Whether what is derived now, of a tensor or for a device, outlives the call.

    In a compiled graph a kept tensor would be a side effect and a reason to compile again, under
    a transform of `torch.func` it belongs to the transform, one made in inference mode cannot
    be used in training, and one made while a CUDA graph is recorded lies in the graph's memory.
    """
    return not (
        is_recorded(of)
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch.is_inference_mode_enabled()
    )
