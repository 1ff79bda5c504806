"""Shared statistics: the ranks over which a layer computes them."""

from __future__ import annotations

from torch import nn

from graphnorms.kernels.ranks import Group, Ranks, as_ranks
from graphnorms.layers.inner_batch_norm import InnerBatchNorm
from graphnorms.layers.running_statistics import RunningStatistics


class SharedStatistics(RunningStatistics):
    """A module whose statistics the ranks of a process group can share."""

    _ranks: Ranks | None = None

    @property
    def statistics_of(self) -> str:
        """The rows that share a statistic, see `Norm`."""
        raise NotImplementedError

    @property
    def process_group(self) -> Group:
        """The ranks that share the statistics: `None`, `"world"` or a `ProcessGroup`.

        Setting it also sets it for the inner layers with statistics over the batch.

        Raises:
            ValueError: The value set is something else, or the layer has no statistic over rows.
        """
        ranks = self._ranks_of_parts()
        if ranks is None:
            return None
        return "world" if ranks.group is None else ranks.group

    @process_group.setter
    def process_group(self, process_group: Group) -> None:
        ranks = as_ranks(process_group)
        if ranks is not None and not self.statistics_of:
            raise ValueError(
                f"process_group is {ranks}, but this {type(self).__name__} has no statistic over "
                "rows that ranks could share; use process_group=None"
            )
        self._ranks = ranks
        for part in self.children():
            if isinstance(part, SharedStatistics) and part.statistics_of == "batch":
                part.process_group = process_group

    def _ranks_of_parts(self) -> Ranks | None:
        """The ranks of the layer, or of an inner layer that torch's conversion changed alone."""
        parts = (part._ranks for part in self.children() if isinstance(part, SharedStatistics))
        return self._ranks or next((ranks for ranks in parts if ranks is not None), None)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Register a module; a `SyncBatchNorm` from torch's conversion sets the process group.

        `torch.nn.SyncBatchNorm.convert_sync_batchnorm` replaces the BatchNorm inside a layer by a
        `SyncBatchNorm`: the layer then shares its statistics over the ranks of its process group.
        """
        if type(module) is nn.SyncBatchNorm and isinstance(self._modules.get(name), InnerBatchNorm):
            self.process_group = module.process_group or "world"
            module = InnerBatchNorm.of_synchronized(module)
        super().add_module(name, module)

    def _is_shared(self) -> bool:
        """Whether several ranks share the statistics."""
        return self._ranks is not None and self._ranks.size() > 1
