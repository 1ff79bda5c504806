"""The backends, the choice of one for a call, and the reasons why a backend refuses a call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.errors import BackendRefusedError, unknown_name
from graphnorms.kernels import derivatives
from graphnorms.kernels.aggregation.operands import Edges, Weights
from graphnorms.kernels.cpu import aggregate as cpu_aggregate
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.point import Call, Over, Parameters
from graphnorms.kernels.triton import aggregate as triton_aggregate
from graphnorms.kernels.triton import loading
from graphnorms.kernels.triton import normalize as triton
from graphnorms.tracing import constant_in_graphs, is_forward_mode, is_transformed

Forward = Callable[[Tensor, Tensor | None, Parameters, Call, bool], tuple[Tensor, Tensor]]
"""x, residual, parameters, call, and whether to return s² → y and the statistics."""

Backward = Callable[
    [Tensor, Tensor, Parameters, Tensor, Call, list[bool]],
    tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
]
"""grad_y, x, parameters, statistics, call, and which gradients are needed → those of x, α, γ and
β."""


DoubleBackward = Callable[
    [Sequence[Tensor | None], Tensor, Tensor, Parameters, Tensor, Call, list[bool]],
    tuple[Tensor | None, ...],
]
"""Cotangents of the four gradients that a backward returns, its grad_y, x, parameters, statistics
and call, and which gradients are needed → those of grad_y, x, α, γ and β."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Backend:
    """An implementation of the operations.

    Args:
        name: What `backend=` takes.
        device: The dispatch key under which compiled graphs run these kernels.
        unavailable: Returns why the backend cannot run on this machine; `None` if it can.
        description: Returns what it runs on.
        refusals: Returns why it cannot run features of a dtype on a kind of device.
        forward, backward, double_backward: The normalization; the last is the backward of the
            backward, without a graph for a third derivative.
        aggregate, aggregate_backward: The sum over neighbours.
    """

    name: str
    device: str
    unavailable: Callable[[], str | None]
    description: Callable[[], str]
    refusals: Callable[[str, torch.dtype], list[str]]
    forward: Forward
    backward: Backward
    double_backward: DoubleBackward
    aggregate: Callable[[Tensor, Edges, Weights], Tensor]
    aggregate_backward: Callable[
        [Tensor, Tensor, Edges, Weights, list[bool]], tuple[Tensor, Tensor]
    ]


def in_closed_form(
    cotangents: Sequence[Tensor | None],
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor | None, ...]:
    """Run the double backward differentiably, in plain torch."""
    return derivatives.double_backward(cotangents, grad_y, x, parameters, call)


CPU: Final = Backend(
    name="cpu",
    device="CPU",
    # Looked up at each call, because tests replace them.
    unavailable=lambda: extension.unavailable(),
    description=lambda: f"C++, {extension.description()}",
    refusals=extension.common_refusals,
    forward=cpu.normalize_forward,
    backward=cpu.normalize_backward,
    double_backward=cpu.normalize_double_backward,
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
    double_backward=triton.normalize_double_backward,
    aggregate=triton_aggregate.aggregate,
    aggregate_backward=triton_aggregate.aggregate_backward,
)

KERNELS: Final = {backend.name: backend for backend in (CPU, TRITON)}
"""The backends with kernels, in the order in which `backend="auto"` tries them."""

REFERENCE: Final = "reference"
"""Plain torch, which runs everything and is differentiated by autograd; tried last."""


def refusals(
    name: str,
    device: str,
    dtype: torch.dtype,
    center: Over | None,
    scale: Over | None,
    mean_scale: bool,
    layout: bool,
) -> list[str]:
    """Return why a backend cannot run a call; empty if it can.

    Args:
        name: The name of the backend.
        device: The device type of the features.
        dtype: Their dtype.
        center, scale: The domains of the point.
        mean_scale: Whether there is a `mean_scale`.
        layout: Whether there is a `layout`.

    Raises:
        ValueError: There is no backend of that name.
    """
    if name == REFERENCE:
        return []
    if name not in KERNELS:
        raise unknown_name("backend", name, ("auto", *KERNELS, REFERENCE))
    reasons = KERNELS[name].refusals(device, dtype) + _point_refusals(center, scale, mean_scale)
    if layout and name != CPU.name and {center, scale} & {Over.NODES, Over.BOTH}:
        reasons.append("a layout with statistics over nodes")
    elif layout and center is Over.BOTH:
        reasons.append("a layout with a centre over nodes and channels")
    return reasons


def _point_refusals(center: Over | None, scale: Over | None, mean_scale: bool) -> list[str]:
    """Return why the kernels do not support a point of the equation, on any device."""
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
    layout: bool,
    wanted: str,
) -> Backend | None:
    """Return the backend for a call: the first without a refusal, or the requested one.

    Args:
        device, dtype, center, scale, mean_scale, layout: See `refusals`.
        wanted: `"auto"`, or the name of a backend.

    Returns:
        The backend; `None` for the reference.

    Raises:
        BackendRefusedError: The requested backend cannot run the call.
        ValueError: There is no backend of that name.
    """
    call = (device, dtype, center, scale, mean_scale, layout)
    if wanted == "auto":
        return next((KERNELS[name] for name in KERNELS if not refusals(name, *call)), None)
    if found := refusals(wanted, *call):
        raise BackendRefusedError(
            f"backend {wanted!r} cannot run this: {'; '.join(found)}; "
            "use backend='auto' for one that can"
        )
    return KERNELS.get(wanted)


# Takes numbers, not a Point: Dynamo passes a NamedTuple to such a function without its items.
@constant_in_graphs
def name_in_graphs(*call_and_wanted: Any) -> str:
    """Return the name of the backend that `pick` returns, as a constant of a compiled graph."""
    backend = pick(*call_and_wanted)
    return REFERENCE if backend is None else backend.name


def needs_plain_torch(backend: str) -> bool:
    """Whether only the reference can run the call.

    This is the case under transforms of `torch.func` and forward-mode differentiation, which need
    every single operation, and in an export to ONNX, which supports torch's operations only.

    Raises:
        BackendRefusedError: It is the case, but another backend was requested by name.
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
    """Whether a call on features that are not plain runs as an operator, or else in plain torch.

    Args:
        x: The features; see `graphnorms.tracing.is_plain`.
        wanted: The arguments of `pick`.

    Raises:
        BackendRefusedError: Triton's interpreter was chosen: on the CPU, operators run the C++
            kernels.
    """
    chosen = name_in_graphs(*wanted)
    if chosen == REFERENCE or needs_plain_torch(wanted[-1]):
        return False
    if chosen == "triton" and x.is_cpu:
        raise BackendRefusedError(
            "backend 'triton' cannot run this: its interpreter does not support torch.compile and "
            "dispatch modes; use backend='auto' for one that can"
        )
    return True


def forget_choices() -> None:
    """Clear the cache of `pick`, e.g. after a backend has become available."""
    pick.cache_clear()


@dataclass(frozen=True)
class BackendStatus:
    """The status of a backend on this machine.

    Args:
        name: What `backend=` takes.
        available: Whether it can run at all.
        detail: What it runs on, or why it cannot run.
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
