"""The conformance checks for a backend of the primitive."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from graphnorms.errors import BackendRefusedError
from graphnorms.kernels import Over, segment_normalize
from graphnorms.kernels.point import ACTIVATIONS
from graphnorms.segments import Segments
from graphnorms.testing.awkward import AwkwardCase, awkward_cases
from graphnorms.testing.tolerance import tolerance
from graphnorms.testing.violations import Violations

Primitive = Callable[..., Tensor]


def check_backend(
    backend: str | Primitive,
    *,
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64),
    device: str = "cpu",
    skip: tuple[str, ...] = (),
) -> None:
    """Check a backend, given by name or as a function with the signature of `segment_normalize`.

    Refusing a point of the equation with `BackendRefusedError` is not a violation. The checks, by
    the names for `skip`:

    - `"equation"`: result and gradients for every pair of domains on every awkward input, against
      the definition in float64.
    - `"epilogue"`: every activation, dropout and residual.
    - `"parameters"`: weight and bias per segment.
    - `"mask"`: masked rows are passed through, and have no influence even if they are NaN.
    - `"nan"`: NaN and infinities stay in their cells.
    - `"repeats"`: a second call gives the same bits.

    Args:
        backend: The backend.
        dtypes: Dtypes of the features.
        device: Device of the features.
        skip: Checks to leave out.

    Raises:
        ConformanceError: There are violations; the message has a line for each.
        ValueError: `skip` contains an unknown name.
    """
    run: Primitive
    if isinstance(backend, str):
        name, run = f"backend {backend!r}", partial(segment_normalize, backend=backend)
    else:
        name, run = getattr(backend, "__name__", repr(backend)), backend
    violations = Violations(name, _CHECKS, skip)
    for dtype in dtypes:
        for check_name, check in _CHECKS.items():
            violations.run(check_name, check, run, dtype, device)
    violations.raise_if_any()


def _domains() -> Iterator[tuple[Over | None, Over | None]]:
    yield from itertools.product((None, *Over), repeat=2)


def _arguments(channels: int, center: Over | None, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    wide = torch.promote_types(dtype, torch.float32)
    names = ("weight", "bias", "mean_scale") if center is Over.NODES else ("weight", "bias")
    values = torch.rand(3, channels, generator=generator) + 0.5
    return {name: value.to(wide) for name, value in zip(names, values, strict=False)}


@dataclass(frozen=True)
class _Input:
    """Features with their segments, and how much rounding errors of gradients are magnified."""

    x: Tensor
    segments: Segments
    device: str
    steepness: float = 10.0


def _differs(
    run: Primitive,
    words: str,
    given: _Input,
    tensors: dict[str, Tensor],
    choices: dict[str, Any],
) -> Iterator[str]:
    """Compare result and gradients with those of the definition in float64."""
    x, segments, device = given.x, given.segments, given.device
    generator = torch.Generator().manual_seed(2)
    grad_y = torch.randn(x.shape, generator=generator).to(x.dtype)
    results: list[list[Tensor]] = []
    for function, dtype, where in (
        (run, None, device),
        (partial(segment_normalize, backend="reference"), torch.float64, "cpu"),
    ):
        leaves = {
            name: tensor.detach().to(where, dtype or tensor.dtype).requires_grad_()
            for name, tensor in {"x": x, **tensors}.items()
        }
        inputs = dict(leaves)
        others = {
            name: value.to(where) if isinstance(value, Tensor) else value
            for name, value in choices.items()
        }
        try:
            y = function(inputs.pop("x"), segments.to(where), **inputs, **others)
        except BackendRefusedError:
            return
        grads = torch.autograd.grad(y, list(leaves.values()), grad_y.to(where, y.dtype))
        results.append([y.detach().cpu(), *(grad.cpu() for grad in grads)])
    allowed = 4 * tolerance(x.dtype, max(x.numel(), 1))
    # With different domains, the rounding error of the largest entry remains.
    mixed = None not in (choices["center"], choices["scale"], x.numel() or None) and (
        choices["center"] is not choices["scale"]
    )
    magnified = float(x.double().max() - x.double().min()) if mixed else 0.0
    rows = max(x.shape[0], 1) ** 0.5
    for what, mine, exact in zip(
        ("the result", *(f"the gradient of {name}" for name in ("x", *tensors))),
        *results,
        strict=True,
    ):
        size = max(1.0, float(exact.abs().max()) if exact.numel() else 0.0, magnified)
        if what != "the result":
            size = max(size, given.steepness * rows)
        error = float((mine.double() - exact).abs().max()) if exact.numel() else 0.0
        if not error <= allowed * size:
            yield f"{words}: {what} is off by {error:.1e}, allowed {allowed * size:.1e}"


def _steepness(case: AwkwardCase) -> float:
    """Return by how much the smallest spread magnifies rounding errors of gradients."""
    return 1e-5**-0.5 * 1.5 if case.x.shape[0] else 1.0


def _equation(run: Primitive, dtype: torch.dtype, device: str) -> Iterator[str]:
    for case in awkward_cases(dtype):
        segments = _segments(case)
        for center, scale in _domains():
            words = f"{case.name} in {dtype}, center {_word(center)}, scale {_word(scale)}"
            yield from _differs(
                run,
                words,
                _Input(case.x, segments, device, _steepness(case)),
                _arguments(case.x.shape[1], center, dtype),
                {"center": center, "scale": scale},
            )


def _epilogue(run: Primitive, dtype: torch.dtype, device: str) -> Iterator[str]:
    x, segments = _some(dtype)
    residual = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    for activation, over in itertools.product(ACTIVATIONS, Over):
        choices = {
            "center": over,
            "scale": over,
            "activation": activation,
            "dropout": 0.25,
            "seed": torch.tensor(7),
        }
        tensors = {**_arguments(x.shape[1], over, dtype), "residual": residual}
        words = f"{activation}, dropout and residual in {dtype}, statistics over {_word(over)}"
        yield from _differs(run, words, _Input(x, segments, device), tensors, choices)


def _parameters(run: Primitive, dtype: torch.dtype, device: str) -> Iterator[str]:
    x, segments = _some(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    shape = (2, segments.num_segments, x.shape[1])
    weight, bias = torch.rand(shape, generator=torch.Generator().manual_seed(3)).to(wide).unbind()
    for over in Over:
        words = f"own weights and biases in {dtype}, statistics over {_word(over)}"
        tensors = {"weight": weight, "bias": bias}
        choices = {"center": over, "scale": over}
        yield from _differs(run, words, _Input(x, segments, device), tensors, choices)


def _mask(run: Primitive, dtype: torch.dtype, device: str) -> Iterator[str]:
    x, segments = _some(dtype)
    mask = torch.arange(x.shape[0]) % 3 != 0
    kept = Segments.from_batch(segments.index[mask], segments.num_segments)
    masked = segments.with_mask(mask).to(device)
    bad = torch.where(mask.unsqueeze(1), x, torch.nan)
    for over in Over:
        choices: dict[str, Any] = {"center": over, "scale": over}
        y = run(bad.to(device), masked, **choices).cpu()
        words = f"masked rows in {dtype}, statistics over {_word(over)}"
        if not torch.isnan(y[~mask]).all():
            yield f"{words}: changed"
        alone = segment_normalize(x[mask].double(), kept, **choices, backend="reference")
        error = float((y[mask].double() - alone).abs().max())
        if not error <= 4 * tolerance(dtype, x.numel()) * float(alone.abs().max()):
            yield f"{words}: they change the result by {error:.1e}"


def _nan(run: Primitive, dtype: torch.dtype, device: str) -> Iterator[str]:
    x, segments = _some(dtype)
    x[3, 1] = torch.inf
    others = segments.index != segments.index[3]
    for over in (Over.NODES, Over.BOTH):
        y = run(x.to(device), segments.to(device), center=over, scale=over).cpu()
        if not torch.isfinite(y[others]).all():
            yield f"an infinity in one segment reaches others, statistics over {_word(over)}"
        if torch.isfinite(y[3, 1]):
            yield f"an infinity becomes finite, statistics over {_word(over)}"


def _repeats(run: Primitive, dtype: torch.dtype, device: str) -> Iterator[str]:
    x, segments = _some(dtype)
    for over in Over:
        calls = [run(x.to(device), segments.to(device), center=over, scale=over) for _ in range(2)]
        if not torch.equal(*calls):
            yield f"the second call gives other bits in {dtype}, statistics over {_word(over)}"


def _segments(case: AwkwardCase) -> Segments:
    if case.batch is None:
        return Segments.single(case.x.shape[0])
    return Segments.from_batch(case.batch, case.batch_size)


def _some(dtype: torch.dtype) -> tuple[Tensor, Segments]:
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 5, (60,), generator=generator)
    return torch.randn(60, 12, generator=generator).to(dtype), Segments.from_batch(batch, 5)


def _word(over: Over | None) -> str:
    return "none" if over is None else over.name.lower()


_CHECKS: dict[str, Callable[[Primitive, torch.dtype, str], Iterator[str]]] = {
    "equation": _equation,
    "epilogue": _epilogue,
    "parameters": _parameters,
    "mask": _mask,
    "nan": _nan,
    "repeats": _repeats,
}
