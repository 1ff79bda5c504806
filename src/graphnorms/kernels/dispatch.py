"""The backends, and in words why one of them cannot run a call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch

from graphnorms.errors import BackendRefusedError, unknown_name
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.point import Over
from graphnorms.kernels.triton import loading
from graphnorms.tracing import constant_in_graphs


@dataclass(frozen=True)
class Backend:
    """One way to run the operations.

    Args:
        name: What `backend=` takes.
        unavailable: Says why it cannot run at all here; `None` if it can.
        description: Says what it runs on.
        refusals: Says why it cannot run features of a dtype on a kind of device.
        has_every_point: Whether it runs the equation at every point, not only where kernels do.
    """

    name: str
    unavailable: Callable[[], str | None]
    description: Callable[[], str]
    refusals: Callable[[str, torch.dtype], list[str]]
    has_every_point: bool = False


def _with_dtypes(describe: Callable[[], str]) -> Callable[[], str]:
    return lambda: f"{describe()}; float64, float32, bfloat16, float16"


BACKENDS: Final = {
    backend.name: backend
    for backend in (
        Backend(
            "cpu",
            lambda: extension.unavailable(),
            _with_dtypes(lambda: f"C++, {extension.description()}"),
            extension.common_refusals,
        ),
        Backend(
            "triton",
            lambda: loading.unavailable(),
            _with_dtypes(lambda: loading.description()),
            loading.common_refusals,
        ),
        Backend(
            "reference",
            lambda: None,
            lambda: "plain torch, any device and floating dtype",
            lambda device, dtype: [],
            has_every_point=True,
        ),
    )
}
"""By name, in the order in which `backend="auto"` tries them."""


def refusals(
    name: str,
    device: str,
    dtype: torch.dtype,
    center: Over | None,
    scale: Over | None,
    mean_scale: bool,
) -> list[str]:
    """Why a backend cannot run a call; empty if it can.

    Args:
        name: The backend's.
        device: The kind of device that the features are on.
        dtype: Their dtype.
        center, scale: Of the point of the equation.
        mean_scale: Whether a share of the mean is removed.

    Raises:
        ValueError: There is no backend of that name.
    """
    if name not in BACKENDS:
        raise unknown_name("backend", name, ("auto", *BACKENDS))
    backend = BACKENDS[name]
    found = backend.refusals(device, dtype)
    return found if backend.has_every_point else found + _point_refusals(center, scale, mean_scale)


def _point_refusals(center: Over | None, scale: Over | None, mean_scale: bool) -> list[str]:
    """Why no kernel has a point of the equation, on whatever device."""
    reasons = []
    over = {center, scale} - {None}
    if Over.CHANNELS in over and len(over) > 1:
        reasons.append("one statistic within rows and one over nodes")
    if Over.CHANNELS in over and mean_scale:
        reasons.append("mean_scale with a centre within rows")
    if center is Over.BOTH and scale is Over.NODES:
        reasons.append("a centre over nodes and channels with a scale over nodes")
    if center is Over.BOTH and mean_scale:
        reasons.append("mean_scale with a centre over nodes and channels")
    return reasons


# Of numbers, not of a Point: to a constant function Dynamo hands a NamedTuple without its items.
@constant_in_graphs
def choose(
    device: str,
    dtype: torch.dtype,
    center: Over | None = None,
    scale: Over | None = None,
    mean_scale: bool = False,
    wanted: str = "auto",
) -> str:
    """Return the backend for a call: the first without a refusal, or the one asked for.

    Args:
        device, dtype, center, scale, mean_scale: See `refusals`.
        wanted: `"auto"`, or the name of a backend.

    Raises:
        BackendRefusedError: The backend asked for cannot run the call.
        ValueError: There is no backend of that name.
    """
    return _choice(device, dtype, center, scale, mean_scale, wanted)


@functools.cache
def _choice(*call_and_wanted: Any) -> str:
    *call, wanted = call_and_wanted
    if wanted == "auto":
        return next(name for name in BACKENDS if not refusals(name, *call))
    if found := refusals(wanted, *call):
        raise BackendRefusedError(
            f"backend {wanted!r} cannot run this: {'; '.join(found)}; "
            "use backend='auto' for one that can"
        )
    return str(wanted)


def forget_choices() -> None:
    """Ask the backends anew, as when one has become available."""
    _choice.cache_clear()


@dataclass(frozen=True)
class BackendStatus:
    """One backend on this machine.

    Args:
        name: What `backend=` takes.
        available: Whether it can run at all.
        detail: What it runs on, or why it cannot.
    """

    name: str
    available: bool
    detail: str


def backends() -> list[BackendStatus]:
    """List the backends in the order in which `backend="auto"` tries them."""
    return [
        BackendStatus(backend.name, reason is None, reason or backend.description())
        for backend in BACKENDS.values()
        for reason in [backend.unavailable()]
    ]
