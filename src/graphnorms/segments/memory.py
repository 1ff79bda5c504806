"""What is derived from a batch vector, kept as long as the vector lives."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from torch import Tensor

from graphnorms import tracing

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
        if tracing.is_recorded(batch):
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
