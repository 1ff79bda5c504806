"""The processes of a group, as far as statistics are shared among them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch import Tensor
from torch import distributed as dist

from graphnorms.segments import Segments

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Group: TypeAlias = "ProcessGroup | str | bool | None"
"""What layers take as `process_group`: `None`, `True` or `"world"`, or a group."""


class Ranks:
    """The ranks of a process group.

    Every rank has to make the same calls in the same order, also one without rows.

    Args:
        group: The group; `None` for the world, looked up at every call.
    """

    __slots__ = ("group",)

    def __init__(self, group: ProcessGroup | None) -> None:
        self.group = group

    def size(self) -> int:
        """Return the number of ranks.

        Raises:
            RuntimeError: `torch.distributed` is not initialized.
        """
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "process_group is given, but torch.distributed is not initialized; call "
                "torch.distributed.init_process_group(), or use process_group=None for one process"
            )
        return dist.get_world_size(self.group)

    def gather(self, values: Tensor) -> Tensor:
        """Collect tensors of one shape: `(ranks, …)`, in the order of the ranks on each."""
        values = values.contiguous()
        parts = [torch.empty_like(values) for _ in range(self.size())]
        dist.all_gather(parts, values, group=self.group)
        return torch.stack(parts)

    def total(self, values: Tensor) -> Tensor:
        """Sum tensors of one shape, the same bits on every rank."""
        total = values.clone(memory_format=torch.contiguous_format)
        if self.size() > 1:
            dist.all_reduce(total, group=self.group)
        return total

    def agree(self, segments: Segments) -> None:
        """Check that all ranks have as many segments, the first time a `Segments` is met.

        Collectives of unlike sizes end a process or corrupt the result, so that it is asked with
        an exchange of its own: once for all layers of a model. On a GPU it reads the device; a
        compiled graph leaves it out.

        Raises:
            ValueError: They have not; every rank raises.
        """
        if torch.compiler.is_compiling() or self.size() == 1:
            return
        group = self.group or dist.group.WORLD
        met = _agreed.setdefault(segments, weakref.WeakSet())
        # A single segment may be one that is kept for every batch of so many rows, and other
        # ranks have other numbers of rows.
        if group in met and segments.num_segments != 1:
            return
        number = torch.tensor([segments.num_segments], device=segments.device)
        numbers = self.gather(number).flatten().tolist()
        if len(set(numbers)) > 1:
            raise ValueError(
                f"the ranks have {', '.join(map(str, numbers))} segments, expected one number: "
                "the graphs of a process group are the same on every rank; pass the same "
                "batch_size on each"
            )
        met.add(group)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.group is not None:
            raise TypeError(
                "a layer with a ProcessGroup cannot be pickled; save its state_dict, or use "
                "process_group='world'"
            )
        return Ranks, (None,)

    def __repr__(self) -> str:
        return "world" if self.group is None else self.group.group_name


_agreed: Final[weakref.WeakKeyDictionary[Segments, weakref.WeakSet[Any]]] = (
    weakref.WeakKeyDictionary()
)
"""Of which Segments a group is known to have one number."""


def as_ranks(process_group: Group) -> Ranks | None:
    """Turn what a layer was given as `process_group` into ranks; `None` for a rank alone.

    Raises:
        ValueError: It is something else.
    """
    if process_group is None or process_group is False:
        return None
    if process_group is True or process_group == "world":
        return Ranks(None)
    if dist.is_available() and isinstance(process_group, dist.ProcessGroup):
        return Ranks(process_group)
    raise ValueError(
        f"process_group is {process_group!r}, expected None, True, 'world' or a ProcessGroup that "
        "this rank is in"
    )
