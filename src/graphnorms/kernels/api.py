"""The primitive's contract: `segment_normalize`, its checks and errors."""

from __future__ import annotations

from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.kernels import autograd, reference
from graphnorms.kernels.calls import check_features as _check_features
from graphnorms.kernels.calls import needs_plain_torch as _needs_plain_torch
from graphnorms.kernels.dispatch import choose_normalize
from graphnorms.kernels.problem import ACTIVATIONS, Over
from graphnorms.segments import Segments


def segment_normalize(
    x: Tensor,
    segments: Segments,
    *,
    center: Over | None,
    scale: Over | None,
    groups: int = 1,
    mean_scale: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: str | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""Center, scale and transform features within their cells: the one equation.

    $$ o = x - \alpha \mu, \quad s^2 = \mathrm{mean}(o^2), \quad
       y = f\Big(\gamma \frac{o}{\sqrt{s^2 + \varepsilon}} + \beta\Big) $$

    $\mu$ is the mean over the entries that share a cell of the domain `center`, $s^2$ the
    second moment over those that share a cell of `scale` (see `Over`). $s^2$ is the variance
    only where both domains are the same and $\alpha = 1$. Without a centre $o = x$; without a
    scale $y = f(\gamma o + \beta)$.

    Shapes: `x` and the result `(rows, channels)`; parameters `(channels,)`.

    Precision: statistics in float32 or wider, centred before squaring, relative to an entry of
    the cell, in both directions: the error does not grow with $|\mu| / \sigma$. The result has
    the dtype of `x`. NaN and infinities stay within their cells.

    Args:
        x: The features.
        segments: Which rows belong together.
        center: Over what the mean is taken, or `None` to subtract nothing.
        scale: Over what the second moment is taken, or `None` to divide by nothing.
        groups: Channel groups of `Over.CHANNELS` and `Over.BOTH`.
        mean_scale: $\alpha$, how much of the mean to remove; `None` for 1.
        weight, bias: $\gamma$ and $\beta$; `None` for 1 and 0.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation: $f$: `None` or `"relu"`, fused into the same pass.
        backend: `"auto"`, or one backend by name, which then never falls back.

    Raises:
        ValueError: A shape or dtype that does not fit, `groups` that do not divide the
            channels, or an unknown activation or backend.
        BackendRefusedError: The backend asked for cannot run this; the message says why.
    """
    _check(x, segments, groups, mean_scale, weight, bias, activation)
    if mean_scale is not None and center is None:
        raise ValueError("mean_scale is given, but center is None: there is no mean to scale")
    y, _, _ = normalize_with_statistics(
        x, segments, center=center, scale=scale, groups=groups, mean_scale=mean_scale,
        weight=weight, bias=bias, eps=eps, activation=activation, backend=backend,
    )  # fmt: skip
    return y


def normalize_with_statistics(
    x: Tensor,
    segments: Segments,
    *,
    center: Over | None,
    scale: Over | None,
    groups: int = 1,
    mean_scale: Tensor | None = None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str | None,
    backend: str,
    statistics: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run `segment_normalize` on arguments that fit each other, as a layer knows of its own.

    Returns:
        y; and, if `statistics`, the mean per cell of `center` and the second moment per cell of
        `scale`. The two carry no gradient.
    """
    chosen = choose_normalize(
        x.device.type, x.dtype, center, scale, mean_scale is not None, activation, backend
    )
    if chosen == "reference" or _needs_plain_torch(backend):
        plain = reference.segment_normalize(
            x, segments, center=center, scale=scale, groups=groups, mean_scale=mean_scale,
            weight=weight, bias=bias, eps=eps, activation=activation,
        )  # fmt: skip
        if not statistics:
            return plain[0], None, None
        return plain[0], plain[1].detach(), plain[2].detach()
    y, shift, moment = autograd.normalize(
        x, segments, center=center, scale=scale, groups=groups, mean_scale=mean_scale,
        weight=weight, bias=bias, eps=eps, activation=activation, statistics=statistics,
    )  # fmt: skip
    if shift is not None and center is not None and x.shape[0]:
        entries = x.detach()
        if center is Over.NODES and segments.num_segments == 1 and segments.order is None:
            shift = shift + entries[:1]
        else:
            entries = entries.to(shift.dtype)
            shift = shift + reference.first_of_cells(entries, segments, center, groups)
    return y, shift, moment


def activate(y: Tensor, activation: str | None) -> Tensor:
    """Apply an activation by itself, where there is no normalization to fuse it with."""
    return reference.ACTIVATION_FUNCTIONS[activation](y)


def _check(
    x: Tensor,
    segments: Segments,
    groups: int,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> None:
    _check_features(x)
    rows, channels = x.shape
    if segments.num_rows != rows:
        raise ValueError(f"segments has {segments.num_rows} rows, but x has {rows}")
    if segments.ptr.device != x.device:
        raise ValueError(f"segments is on {segments.ptr.device}, but x is on {x.device}")
    if groups < 1 or channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide the {channels} channels of x")
    for name, parameter in (("mean_scale", mean_scale), ("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.shape != (channels,):
            raise ValueError(
                f"{name} is {tuple(parameter.shape)}, expected one number per channel of x, "
                f"({channels},)"
            )
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", str(activation), [str(name) for name in ACTIVATIONS])
