"""Which backend runs a problem, and in words why the others do not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch

from graphnorms.errors import BackendRefusedError, unknown_name
from graphnorms.kernels.cpu import aggregate, extension, normalize
from graphnorms.kernels.problem import AggregateProblem, NormalizeProblem, Over
from graphnorms.kernels.triton import aggregate as triton_aggregate
from graphnorms.kernels.triton import loading as triton_loading
from graphnorms.kernels.triton import normalize as triton_normalize

Problem = NormalizeProblem | AggregateProblem


def _no_refusals(problem: Problem) -> list[str]:
    return []


_NORMALIZE: Final[dict[str, Callable[[NormalizeProblem], list[str]]]] = {
    "cpu": normalize.normalize_refusals,
    "triton": triton_normalize.normalize_refusals,
    "reference": _no_refusals,
}
_AGGREGATE: Final[dict[str, Callable[[AggregateProblem], list[str]]]] = {
    "cpu": aggregate.aggregate_refusals,
    "triton": triton_aggregate.aggregate_refusals,
    "reference": _no_refusals,
}


def choose(problem: Problem, wanted: str) -> str:
    """Return the backend for a problem: the first without a refusal, or the one asked for.

    The answer is the same for every problem of a kind, so those who ask keep it.

    Args:
        problem: The kind of call.
        wanted: `"auto"`, or the name of a backend.

    Raises:
        BackendRefusedError: The backend asked for cannot run the problem.
        ValueError: There is no backend of that name.
    """
    if wanted != "auto":
        refusals = _refusals(problem, wanted)
        if refusals:
            raise BackendRefusedError(
                f"backend {wanted!r} cannot run this: {'; '.join(refusals)}; "
                "use backend='auto' for one that can"
            )
        return wanted
    return next(name for name in _NORMALIZE if not _refusals(problem, name))


def choose_normalize(
    device: str,
    dtype: torch.dtype,
    center: Over | None,
    scale: Over | None,
    mean_scale: bool,
    wanted: str,
) -> str:
    """Return the backend for a `segment_normalize`; see `choose`."""
    return _normalize_choice(device, dtype, center, scale, mean_scale, wanted)


def choose_aggregate(device: str, dtype: torch.dtype, wanted: str) -> str:
    """Return the backend for an `aggregate`; see `choose`."""
    return _aggregate_choice(device, dtype, wanted)


@functools.cache
def _normalize_choice(*problem_and_wanted: Any) -> str:
    *problem, wanted = problem_and_wanted
    return choose(NormalizeProblem(*problem), wanted)


@functools.cache
def _aggregate_choice(device: str, dtype: torch.dtype, wanted: str) -> str:
    return choose(AggregateProblem(device, dtype), wanted)


def forget_choices() -> None:
    """Ask the backends anew, as when one has become available."""
    _normalize_choice.cache_clear()
    _aggregate_choice.cache_clear()


# What `torch.compiler.assume_constant_result` does, which at import would load all of Dynamo:
# a compiled graph holds the answer and never traces how it is found.
choose_normalize._dynamo_marked_constant = True  # type: ignore[attr-defined]
choose_aggregate._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _refusals(problem: Problem, name: str) -> list[str]:
    if name not in _NORMALIZE:
        raise unknown_name("backend", name, ("auto", *_NORMALIZE))
    if isinstance(problem, NormalizeProblem):
        return _NORMALIZE[name](problem)
    return _AGGREGATE[name](problem)


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
    reason = extension.unavailable()
    no_triton = triton_loading.unavailable()
    return [
        BackendStatus(
            "cpu",
            reason is None,
            f"C++, {extension.description()}; float64, float32, bfloat16, float16"
            if reason is None
            else reason,
        ),
        BackendStatus(
            "triton",
            no_triton is None,
            f"{triton_loading.description()}; float64, float32, bfloat16, float16"
            if no_triton is None
            else no_triton,
        ),
        BackendStatus("reference", True, "plain torch, any device and floating dtype"),
    ]
