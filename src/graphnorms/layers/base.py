"""The base class of all layers: arguments, checks, parameters, epilogue, backend."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.index_checks import check_mask
from graphnorms.kernels.dropout import draw_seed
from graphnorms.kernels.point import (
    NO_STATISTICS,
    Averages,
    Call,
    MovedAverages,
    Parameters,
    Point,
    check_activation,
    check_dropout,
    check_residual,
)
from graphnorms.kernels.primitive import Statistics, finish, normalize, normalize_by_averages
from graphnorms.kernels.ranks import Group
from graphnorms.layers.argument_checks import check_channels, check_eps, check_features
from graphnorms.layers.inner_batch_norm import InnerBatchNorm
from graphnorms.layers.norm_options import PlainOptions, place, signature_of
from graphnorms.layers.running_statistics import by_running
from graphnorms.layers.shared_statistics import SharedStatistics
from graphnorms.segments import Segments, as_segments
from graphnorms.tracing import with_code_of_its_own

Equation = tuple[Point, Tensor | None, Tensor | None, Tensor | None, float]
"""The point, α, γ, β and ε."""

OneCall = tuple[Call, Parameters, MovedAverages | Averages | None]
"""A call of the primitive, its parameters, and the averages that it moves, or goes by."""

Given = tuple[Tensor | Segments | None, int | None, Tensor | None]
"""The arguments `batch`, `batch_size` and `mask` of a call; see `Norm.forward`."""


class Norm(SharedStatistics):
    r"""A normalization with fused activation, dropout and residual.

    $$ y = D(f(\mathrm{Norm}(x))) + r $$

    A subclass defines its formula: either a point of the one equation (see `segment_normalize`) or
    a `transform` in plain torch.

    Args:
        in_channels: Number of channels; `None` for a layer that takes any.
        point: Replaces the `point` of the class.
        eps: $\varepsilon$, in the squared unit of `x`; `None` for a layer without one.
        activation: $f$: `None`, `"relu"`, `"leaky_relu"` (slope 0.01), `"gelu"` (the exact one) or
            `"silu"`; a kernel fuses it into its pass.
        dropout: Probability with which $D$ drops an entry in training, fused as well; no mask is
            stored.
        device, dtype: Device and dtype of the parameters.
        backend: `"auto"`, or the name of a backend, without a fallback to another.
        process_group: Ranks that share the statistics: `"world"`, a `ProcessGroup`, or `None` for
            this rank alone. For statistics per graph, every graph is spread over the ranks, with
            the same id on each; for statistics over the batch, the nodes of all ranks form one
            minibatch.

    Raises:
        ValueError: An argument is outside its range; a layer without a statistic over rows gets a
            `process_group`; `x` has the wrong shape; or `batch` does not assign exactly the rows of
            `x`.
    """

    point: Point | None = None
    """Which entries share a statistic; `None` for a layer with a `transform`."""
    takes_positions: bool = False
    """Whether `x` may be `(nodes, …, channels)`; every position between is normalized
    separately."""
    takes_rows: bool = False
    """Whether `x` may be `(…, channels)`; every row along the last dimension is normalized by
    itself."""
    size_name: str = "batch_size"
    """The name of the number of graphs in errors."""
    _one_call: Any = False
    """Whether all that a call does to `x` is what `as_call` returns; a value or a property."""
    in_channels: Any = None
    eps: float
    weight: Any
    bias: Any

    @classmethod
    def point_with(cls, arguments: Mapping[str, Any]) -> Point | None:
        """Return the point of a layer built with these arguments."""
        return cls.point

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.__signature__ = signature_of(cls)  # type: ignore[attr-defined]
        if "forward" not in vars(cls) and cls.__module__.startswith("graphnorms."):
            cls.forward = with_code_of_its_own(cls.forward)  # type: ignore[method-assign]

    def __init__(
        self,
        in_channels: int | None,
        *,
        point: Point | None = None,
        eps: float | None = None,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__()
        check_activation(activation)
        check_dropout(dropout)
        if in_channels is not None:
            check_channels(in_channels)
            self.in_channels = in_channels
        if point is not None:
            self.point = point
        if eps is not None:
            check_eps(eps)
            self.eps = eps
        self.activation = activation
        self.dropout = dropout
        self.backend = backend
        self.process_group = process_group

    @property
    def statistics_of(self) -> str:
        """The rows that share a statistic: `"batch"`, `"graph"`, or `""` if each row has its
        own."""
        segment = "" if self.point is None else self.point.segment
        return "batch" if segment == "type" else segment

    @property
    def per_graph(self) -> bool:
        """Whether the result depends on which graph a row belongs to."""
        return self.point is not None and self.point.segment == "graph"

    @property
    def is_one_call(self) -> bool:
        """Whether all that a call does to `x` is what `as_call` returns.

        A class says so of itself by `_one_call`: one derived from it may compute something else.
        """
        return "_one_call" in vars(type(self)) and bool(self._one_call)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`.

        Args:
            x: The features.
            batch, batch_size: The graph of every node (`None`: one graph) and the number of graphs,
                or a `Segments`; ignored by a layer that is not per graph.
            residual: $r$, added last.
            mask: True for the nodes that count; the result of the others (padding) is $x + r$.
                For `(…, channels)` it has the shape of `x` but for the channels.
        """
        shape, channels = x.shape, self.in_channels
        if len(shape) != 2 or shape[1] != channels or not x.is_floating_point():
            check_features(x, channels, positions=self.takes_positions, rows=self.takes_rows)
        if residual is not None:
            check_residual(residual, x)
        given = (batch, batch_size, mask)
        if len(shape) == 2:
            return self._compute(x, given, residual, shape[1])
        if self.takes_rows:
            if isinstance(mask, Tensor) and mask.shape == shape[:-1]:
                mask = mask.reshape(-1)
            if residual is not None:
                residual = residual.reshape(-1, channels)
            x = x.reshape(-1, channels)
            return self._compute(x, (None, None, mask), residual, channels).view(shape)
        flat = None if residual is None else residual.flatten(1)
        return self._compute(x.flatten(1), given, flat, shape[-1]).view(shape)

    def equation(self, x: Tensor, segments: Segments, channels: int) -> Equation:
        """Return the point, the parameters and ε of a call.

        Args:
            x: The features, positions flattened: `(nodes, positions * channels)`.
            segments: The graphs of the rows.
            channels: Channels of one position.
        """
        assert self.point is not None
        return self.point, None, self.weight, self.bias, self.eps

    def transform(
        self, x: Tensor, segments: Segments | None, mask: Tensor | None, channels: int
    ) -> Tensor:
        """Normalize in plain torch, for a layer that is not a point of the equation.

        Args:
            x: The features, 0 in masked rows. The result may have a wider dtype.
            segments: The graphs, for a layer that is per graph.
            mask: True for the rows that count.
            channels: Channels of one position.
        """
        raise TypeError(
            f"{type(self).__name__} has neither a point nor a transform; define one of them"
        )

    def reset_parameters(self) -> None:
        """Set biases to 0 and all other parameters to 1."""
        for name, parameter in self.named_parameters(recurse=False):
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        """Normalize checked features, `(nodes, positions * channels)`."""
        if self.point is None:
            segments = self._graphs(x, given) if self.per_graph else None
            mask = given[2]
            return self._transformed(
                x, residual, mask, lambda x: self.transform(x, segments, mask, channels)
            )
        if self.point.segment == "graph":
            segments = self._graphs(x, given)
        else:
            segments = as_segments(None, rows_of=x, mask=given[2])
        # Not by `_normalize`: a small call would pay for one function more.
        call, parameters = self._call(x, segments, self.equation(x, segments, channels))
        y, _ = normalize(x, call, parameters, residual, backend=self.backend, ranks=self._ranks)
        return y

    def as_call(self, x: Tensor, segments: Segments, channels: int) -> OneCall | None:
        """Return the call of the primitive that the layer is, before its features are there.

        Args:
            x: Features of the same rows, of any width.
            segments: The graphs.
            channels: The width of the features.

        Returns:
            The call; `None` if the layer is more than that.
        """
        if self.point is None:
            return None
        if self.point.segment != "graph":
            segments = as_segments(None, rows_of=x)
        like = _without_rows(x.dtype, channels)
        return *self._call(x, segments, self.equation(like, segments, channels)), None

    def _add_parameters(
        self, shape: int | tuple[int, ...], options: PlainOptions, **wanted: bool
    ) -> None:
        """Register parameters: `bias` as 0, others as 1, unwanted ones as `None`."""
        shape = (shape,) if isinstance(shape, int) else shape
        for name, present in wanted.items():
            value = 0.0 if name == "bias" else 1.0
            made = nn.Parameter(torch.full(shape, value, **place(options))) if present else None
            self.register_parameter(name, made)

    def _call_inner(
        self, name: str, x: Tensor, mask: Tensor | None, compute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Call the inner BatchNorm, which runs `compute`, or the module that replaced it."""
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

    def _graphs(self, x: Tensor, given: Given) -> Segments:
        """Return the graphs; checks that every rank of the process group has equally many."""
        batch, batch_size, mask = given
        segments = as_segments(
            batch, rows_of=x, num_segments=batch_size, mask=mask, names=("batch", self.size_name)
        )
        if self._ranks is not None and batch is not None:
            self._ranks.agree(segments)
        return segments

    def _normalize(
        self,
        x: Tensor,
        segments: Segments,
        equation: Equation,
        residual: Tensor | None = None,
        *,
        statistics: bool = False,
        whole: bool = False,
        plain: bool = False,
    ) -> tuple[Tensor, Statistics | None]:
        """Run the primitive with the epilogue and process group of the layer.

        Args:
            x, segments: The features and the segments of their rows.
            equation, residual: See `equation` and `forward`.
            statistics: Whether to return the statistics.
            whole: Every graph is on one rank: do not synchronize.
            plain: Leave out activation and dropout.
        """
        call, parameters = self._call(x, segments, equation, plain=plain)
        return normalize(
            x,
            call,
            parameters,
            residual,
            backend=self.backend,
            statistics=statistics,
            ranks=None if whole else self._ranks,
        )

    def _call(
        self, x: Tensor, segments: Segments, equation: Equation, *, plain: bool = False
    ) -> tuple[Call, Parameters]:
        """Return the call of the primitive for an equation; draws the seed of dropout."""
        point, mean_scale, weight, bias, eps = equation
        share = self.dropout if self.training and not plain else 0.0
        seed = draw_seed(x.device) if share else None
        call = Call(segments, point, eps, None if plain else self.activation, share, seed)
        return call, (mean_scale, weight, bias)

    def _standardize(self, x: Tensor, point: Point) -> Tensor:
        """Center and scale every row, without parameters."""
        rows = as_segments(None, rows_of=x)
        y, _ = self._normalize(x, rows, (point, None, None, None, self.eps), plain=True)
        return y

    def _transformed(
        self,
        x: Tensor,
        residual: Tensor | None,
        mask: Tensor | None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Apply a row-preserving transform, then the epilogue, in plain torch.

        The transform sees 0 in masked rows and may return a wider dtype than x has.
        """
        if mask is not None:
            check_mask(mask, x.shape[0], x.device)
        share = self.dropout if self.training else 0.0
        # Values in masked rows must not reach the gradients either.
        y = x if mask is None else torch.where(mask.unsqueeze(1), x, 0)
        if transform is not None:
            y = transform(y)
        y = finish(y, self.activation, share, draw_seed(x.device) if share else None)
        y = y.to(x.dtype)
        if mask is not None:
            y = torch.where(mask.unsqueeze(1), y, x)
        return y if residual is None else y + residual

    def _by_averages(
        self,
        x: Tensor,
        residual: Tensor | None,
        mask: Tensor | None,
        averages: Averages,
        affine: tuple[Tensor | None, Tensor | None, float],
        *,
        plain: bool = False,
    ) -> Tensor:
        """Normalize by averages, with the epilogue unless `plain`.

        Args:
            x, residual, mask: The arguments of the call.
            averages: The running averages, `(channels,)`.
            affine: γ, β and ε.
            plain: Whether to leave out the epilogue.
        """
        weight, bias, eps = affine
        if mask is None and (plain or not self.training):
            equation = (NO_STATISTICS, None, weight, bias, eps)
            call, parameters = self._call(x, as_segments(None, rows_of=x), equation, plain=plain)
            y = normalize_by_averages(x, call, parameters, averages, residual, self.backend)
            if y is not None:
                return y
        running = by_running(*averages, weight, bias, eps)
        return running(x) if plain else self._transformed(x, residual, mask, running)

    def _own_repr(self) -> str:
        return "" if self.in_channels is None else str(self.in_channels)

    def extra_repr(self) -> str:
        """Return PyG's text, followed by the epilogue."""
        parts = [self._own_repr()]
        if self.activation is not None:
            parts.append(f"activation={self.activation!r}")
        if self.dropout:
            parts.append(f"dropout={self.dropout}")
        ranks = self._ranks_of_parts()
        if ranks is not None:
            parts.append(f"process_group={ranks}")
        return ", ".join(part for part in parts if part)


@functools.cache
def _without_rows(dtype: torch.dtype, channels: int) -> Tensor:
    return torch.empty((0, channels), dtype=dtype, device="cpu")
