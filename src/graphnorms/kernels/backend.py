"""The backends, and in words why one of them cannot run a call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.errors import BackendRefusedError, unknown_name
from graphnorms.kernels.aggregation.edges import Edges, Weights
from graphnorms.kernels.cpu import aggregate as cpu_aggregate
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.point import Call, Over, Parameters
from graphnorms.kernels.triton import aggregate as triton_aggregate
from graphnorms.kernels.triton import loading
from graphnorms.kernels.triton import normalize as triton
from graphnorms.tracing import constant_in_graphs, is_forward_mode, is_transformed

Forward = Callable[[Tensor, Tensor | None, Parameters, Call, bool], tuple[Tensor, Tensor]]
"""x, residual, parameters, call, and whether s² is asked for → y and the statistics."""

Backward = Callable[
    [Tensor, Tensor, Parameters, Tensor, Call, list[bool]],
    tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
]
"""grad_y, x, parameters, statistics, call, and which gradients are asked for → those of x, α, γ
and β."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Backend:
    """One way to run the operations.

    Args:
        name: What `backend=` takes.
        device: The kind of device whose operators in compiled graphs run these kernels.
        unavailable: Says why it cannot run at all here; `None` if it can.
        description: Says what it runs on.
        refusals: Says why it cannot run features of a dtype on a kind of device.
        forward, backward: Of the normalization.
        aggregate, aggregate_backward: Of the sum over neighbours.
    """

    name: str
    device: str
    unavailable: Callable[[], str | None]
    description: Callable[[], str]
    refusals: Callable[[str, torch.dtype], list[str]]
    forward: Forward
    backward: Backward
    aggregate: Callable[[Tensor, Edges, Weights], Tensor]
    aggregate_backward: Callable[
        [Tensor, Tensor, Edges, Weights, list[bool]], tuple[Tensor, Tensor]
    ]


CPU: Final = Backend(
    name="cpu",
    device="CPU",
    # Looked up when asked for: tests put others in their place.
    unavailable=lambda: extension.unavailable(),
    description=lambda: f"C++, {extension.description()}",
    refusals=extension.common_refusals,
    forward=cpu.normalize_forward,
    backward=cpu.normalize_backward,
    aggregate=cpu_aggregate.aggregate,
    aggregate_backward=cpu_aggregate.aggregate_backward,
)

TRITON: Final = Backend(
    name="triton",
    device="CUDA",
    unavailable=lambda: loading.unavailable(),
    description=lambda: loading.description(),
    refusals=loading.common_refusals,
    forward=triton.normalize_forward,
    backward=triton.normalize_backward,
    aggregate=triton_aggregate.aggregate,
    aggregate_backward=triton_aggregate.aggregate_backward,
)

KERNELS: Final = {backend.name: backend for backend in (CPU, TRITON)}
"""The backends with kernels by name, in the order in which `backend="auto"` tries them."""

REFERENCE: Final = "reference"
"""Plain torch, which runs everything and is differentiated by autograd: tried last."""


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
    if name == REFERENCE:
        return []
    if name not in KERNELS:
        raise unknown_name("backend", name, ("auto", *KERNELS, REFERENCE))
    return KERNELS[name].refusals(device, dtype) + _point_refusals(center, scale, mean_scale)


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


@functools.cache
def pick(
    device: str,
    dtype: torch.dtype,
    center: Over | None,
    scale: Over | None,
    mean_scale: bool,
    wanted: str,
) -> Backend | None:
    """Pick the backend for a call: the first without a refusal, or the one asked for.

    Args:
        device, dtype, center, scale, mean_scale: See `refusals`.
        wanted: `"auto"`, or the name of a backend.

    Returns:
        The backend; `None` is the reference.

    Raises:
        BackendRefusedError: The backend asked for cannot run the call.
        ValueError: There is no backend of that name.
    """
    call = (device, dtype, center, scale, mean_scale)
    if wanted == "auto":
        return next((KERNELS[name] for name in KERNELS if not refusals(name, *call)), None)
    if found := refusals(wanted, *call):
        raise BackendRefusedError(
            f"backend {wanted!r} cannot run this: {'; '.join(found)}; "
            "use backend='auto' for one that can"
        )
    return KERNELS.get(wanted)


# Of numbers, not of a Point: to a constant function Dynamo hands a NamedTuple without its items.
@constant_in_graphs
def name_in_graphs(*call_and_wanted: Any) -> str:
    """Name what `pick` picks, as a constant of a compiled graph."""
    backend = pick(*call_and_wanted)
    return REFERENCE if backend is None else backend.name


def needs_plain_torch(backend: str) -> bool:
    """Whether the call is one that only the reference can serve.

    Those are the transforms of `torch.func` and forward-mode differentiation, which go through
    every operation by itself, and an export to ONNX, which knows torch's operations alone.

    Raises:
        BackendRefusedError: It is, but another backend was asked for by name.
    """
    if is_transformed():
        reason = "torch.func transforms"
    elif is_forward_mode():
        reason = "forward-mode differentiation"
    elif torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
        reason = "an export to ONNX"
    else:
        return False
    if backend != "auto":
        raise BackendRefusedError(
            f"backend {backend!r} cannot run this: it is under {reason}, which needs plain "
            "torch; use backend='auto' for one that can"
        )
    return True


def runs_as_operator(x: Tensor, *wanted: Any) -> bool:
    """Whether a call that kernels may not be given directly runs as an operator, or in plain torch.

    Args:
        x: The features, not plain; see `graphnorms.tracing.is_plain`.
        wanted: What `pick` takes.

    Raises:
        BackendRefusedError: Triton's interpreter was chosen: on the CPU operators run the kernels
            of the CPU.
    """
    chosen = name_in_graphs(*wanted)
    if chosen == REFERENCE or needs_plain_torch(wanted[-1]):
        return False
    if chosen == "triton" and x.is_cpu:
        raise BackendRefusedError(
            "backend 'triton' cannot run this: on the CPU its interpreter has no operator that "
            "torch.compile or a dispatch mode could see; use backend='auto' for one that can"
        )
    return True


def forget_choices() -> None:
    """Ask the backends anew, as when one has become available."""
    pick.cache_clear()


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
    found = []
    for name, backend in KERNELS.items():
        reason = backend.unavailable()
        detail = reason or f"{backend.description()}; float64, float32, bfloat16, float16"
        found.append(BackendStatus(name, reason is None, detail))
    return [*found, BackendStatus(REFERENCE, True, "plain torch, any device and floating dtype")]
