"""What every layer has beside its formula: an epilogue and a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.kernels.api import Statistics, finish, normalize
from graphnorms.kernels.dropout import draw_seed
from graphnorms.kernels.problem import Over, check_activation, check_dropout
from graphnorms.kernels.ranks import Group, Ranks, as_ranks
from graphnorms.layers.checks import check_channels
from graphnorms.layers.inner import InnerBatchNorm
from graphnorms.layers.running import RunningStatistics
from graphnorms.segments import Segments, as_segments


class Norm(RunningStatistics):
    """A normalization, with activation, dropout and residual fused behind it.

    Args:
        in_channels: Number of channels; `None` for a layer that takes any.
        activation: `None`, or the name of what is fused: see `segment_normalize`.
        dropout: Share of the entries to drop in training, behind the activation.
        backend: `"auto"`, or one backend by name, which then never falls back.
    """

    in_channels: int
    statistics_of: str = ""
    """Whose rows share a statistic: `"batch"`, `"graph"`, or `""` where no rows do."""
    per_graph: bool = True
    """Whether the result depends on which graph a row belongs to."""

    def __init__(
        self, in_channels: int | None, activation: str | None, dropout: float, backend: str = "auto"
    ) -> None:
        super().__init__()
        check_activation(activation)
        check_dropout(dropout)
        if in_channels is not None:
            check_channels(in_channels)
            self.in_channels = in_channels
        self.activation = activation
        self.dropout = dropout
        self.backend = backend
        self._ranks: Ranks | None = None

    @property
    def process_group(self) -> Group:
        """The ranks that share the statistics: `None`, `"world"` or a `ProcessGroup`.

        Set, it is set for the parts of the layer that have statistics of the batch, too.

        Raises:
            ValueError: When it is set: it is something else, or the layer has no statistic over
                rows.
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
            if isinstance(part, Norm) and part.statistics_of == "batch":
                part.process_group = process_group

    def _ranks_of_parts(self) -> Ranks | None:
        """Those of the layer, or of a part, which torch's conversion may have set alone."""
        parts = (part._ranks for part in self.children() if isinstance(part, Norm))
        return self._ranks or next((ranks for ranks in parts if ranks is not None), None)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Register a module; one that torch's conversion hands in becomes the process group's.

        `torch.nn.SyncBatchNorm.convert_sync_batchnorm` exchanges the BatchNorm inside a layer for
        a `SyncBatchNorm`: the layer then shares its statistics over the ranks of that.
        """
        if type(module) is nn.SyncBatchNorm and isinstance(self._modules.get(name), InnerBatchNorm):
            self.process_group = module.process_group or "world"
            module = InnerBatchNorm.of_synchronized(module)
        super().add_module(name, module)

    def _add_affine(
        self,
        shape: int | tuple[int, ...],
        affine: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        bias: bool = True,
    ) -> None:
        """Register `weight` and `bias`, for `_reset_affine` to set; `None` if not affine."""
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            made = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, made)

    def _call_inner(
        self, name: str, x: Tensor, mask: Tensor | None, compute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Call the inner BatchNorm, which then runs `compute`, or the module that replaced it."""
        inner = getattr(self, name)
        given: dict[str, Any] = {"compute": compute}
        if not isinstance(inner, InnerBatchNorm):
            given = {}
            for argument, value in (("mask", mask), ("process_group", self._ranks)):
                if value is not None:
                    raise ValueError(
                        f"{name} is a {type(inner).__name__} in the place of this layer's own "
                        f"BatchNorm, which is called without a {argument}; use {argument}=None"
                    )
        y: Tensor = inner(x, **given)
        return y

    def _reset_affine(self) -> None:
        """Set `weight` to 1 and `bias` to 0, where there are any."""
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            parameter = getattr(self, name)
            if parameter is not None:
                nn.init.constant_(parameter, value)

    def _is_shared(self) -> bool:
        """Whether there are other ranks that share the statistics."""
        return self._ranks is not None and self._ranks.size() > 1

    def _graphs(
        self,
        x: Tensor,
        batch: Tensor | Segments | None,
        batch_size: int | None,
        mask: Tensor | None,
        names: tuple[str, str] = ("batch", "batch_size"),
    ) -> Segments:
        """Turn `batch` into Segments, as many on every rank of the layer's process group."""
        segments = as_segments(batch, rows_of=x, num_segments=batch_size, mask=mask, names=names)
        if self._ranks is not None and batch is not None:
            self._ranks.agree(segments)
        return segments

    def _normalize(
        self, x: Tensor, segments: Segments, residual: Tensor | None, *, center: Over | None,
        scale: Over | None, groups: int = 1, mean_scale: Tensor | None = None,
        weight: Tensor | None, bias: Tensor | None, eps: float, statistics: bool = False,
        whole: bool = False, plain: bool = False,
    ) -> tuple[Tensor, Statistics | None]:  # fmt: skip
        """Run the primitive with the layer's own epilogue, over its process group.

        With `whole`, no segment is divided over ranks, so that they have nothing to share. With
        `plain`, there is no epilogue.
        """
        share = self.dropout if self.training and not plain else 0.0
        # Named one by one: to gather and spread keywords costs 3 µs of a small call.
        return normalize(
            x, segments, center=center, scale=scale, groups=groups, mean_scale=mean_scale,
            weight=weight, bias=bias, eps=eps, activation=None if plain else self.activation,
            dropout=share, seed=draw_seed(x.device) if share else None, residual=residual,
            backend=self.backend, statistics=statistics, ranks=None if whole else self._ranks,
        )  # fmt: skip

    def _finish(
        self,
        x: Tensor,
        residual: Tensor | None,
        mask: Tensor | None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Apply a transform that leaves rows in their place, then the epilogue, in plain torch.

        The transform sees 0 in masked rows, and may return a wider dtype than that of x.
        """
        share = self.dropout if self.training else 0.0
        # What masked rows hold stays out of the gradients, too.
        y = x if mask is None else torch.where(mask.unsqueeze(1), x, 0)
        if transform is not None:
            y = transform(y)
        y = finish(y, self.activation, share, draw_seed(x.device) if share else None)
        y = y.to(x.dtype)
        if mask is not None:
            y = torch.where(mask.unsqueeze(1), y, x)
        return y if residual is None else y + residual

    def _own_repr(self) -> str:
        return str(getattr(self, "in_channels", ""))

    def extra_repr(self) -> str:
        """Return PyG's text, and what is fused behind it."""
        parts = [self._own_repr()]
        if self.activation is not None:
            parts.append(f"activation={self.activation!r}")
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        ranks = self._ranks_of_parts()
        if ranks is not None:
            parts.append(f"process_group={ranks}")
        return ", ".join(part for part in parts if part)
