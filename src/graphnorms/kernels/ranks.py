"""The ranks of a process group that share statistics."""

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
"""Values of the argument `process_group`: `None`, `True` or `"world"`, or a group."""


class Ranks:
    """The ranks of a process group.

    Every rank must make the same calls in the same order, also a rank without rows.

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
        """Gather tensors of one shape: `(ranks, …)`, in the order of the ranks."""
        values = values.contiguous()
        parts = [torch.empty_like(values) for _ in range(self.size())]
        dist.all_gather(parts, values, group=self.group)
        return torch.stack(parts)

    def total(self, values: Tensor) -> Tensor:
        """Sum tensors of one shape; every rank gets the same bits."""
        total = values.clone(memory_format=torch.contiguous_format)
        if self.size() > 1:
            dist.all_reduce(total, group=self.group)
        return total

    def agree(self, segments: Segments) -> None:
        """Check that all ranks have equally many segments, once per `Segments`.

        Collectives of different sizes kill a process or corrupt the result, so this is checked by a
        separate exchange, once for all layers of a model. It synchronizes a GPU; a compiled graph
        skips it.

        Raises:
            ValueError: The numbers differ; every rank raises.
        """
        if torch.compiler.is_compiling() or self.size() == 1:
            return
        group = self.group or dist.group.WORLD
        met = _agreed.setdefault(segments, weakref.WeakSet())
        # `Segments.single` is cached by row count, so the same object can stand for different
        # batches: check again.
        if group in met and segments.num_segments != 1:
            return
        number = torch.tensor([segments.num_segments], device=segments.device)
        numbers = self.gather(number).flatten().tolist()
        if len(set(numbers)) > 1:
            raise ValueError(
                f"the ranks have {', '.join(map(str, numbers))} segments, expected one number: "
                "pass the same batch_size on each"
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
"""The groups that are known to agree on the number of segments."""


def as_ranks(process_group: Group) -> Ranks | None:
    """Convert the argument `process_group` to ranks; `None` for this rank alone.

    Raises:
        ValueError: It has another type or value.
    """
    if process_group is None or process_group is False:
        return None
    if process_group is True or process_group == "world":
        return Ranks(None)
    if dist.is_available() and isinstance(process_group, dist.ProcessGroup):
        return Ranks(process_group)
    raise ValueError(
        f"process_group is {process_group!r}, expected None, True, 'world' or a ProcessGroup that "
        "contains this rank"
    )
