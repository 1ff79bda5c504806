"""The keyword arguments that layers share, and the signatures that show them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final, TypedDict

import torch

from graphnorms.kernels.ranks import Group


class PlainOptions(TypedDict, total=False):
    """Arguments of every layer; see `Norm`."""

    activation: str | None
    dropout: float
    device: torch.device | str | None
    dtype: torch.dtype | None


class KernelOptions(PlainOptions, total=False):
    """Arguments of a layer that runs on the kernels; see `Norm`."""

    backend: str


class NormOptions(KernelOptions, total=False):
    """Arguments of a layer with a statistic over rows; see `Norm`."""

    process_group: Group


class DegreesOptions(TypedDict, total=False):
    """Arguments of a norm of spherical harmonics; see `DegreesNorm`."""

    normalization: str
    device: torch.device | str | None
    dtype: torch.dtype | None
    backend: str


class IrrepsOptions(DegreesOptions, total=False):
    """Arguments of a norm of irreps; see `IrrepsNorm`."""

    layout: str
    process_group: Group


_DEFAULTS: Final[dict[str, Any]] = {
    "activation": None,
    "dropout": 0.0,
    "device": None,
    "dtype": None,
    "backend": "auto",
    "process_group": None,
    "normalization": "component",
    "layout": "mul_ir",
}


def place(options: Mapping[str, object]) -> dict[str, Any]:
    """Select `device` and `dtype` for torch's constructors."""
    return {"device": options.get("device"), "dtype": options.get("dtype")}


_OPTIONS: Final = {
    f"Unpack[{options.__name__}]": [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_DEFAULTS[name],
            annotation=kind.__forward_arg__,
        )
        for name, kind in options.__annotations__.items()
    ]
    for options in (PlainOptions, KernelOptions, NormOptions, DegreesOptions, IrrepsOptions)
}


def signature_of(layer: type) -> inspect.Signature:
    """Return the signature of a layer with `**options` expanded to keywords.

    Type checkers understand `Unpack[…]`; `inspect.signature`, help and notebooks do not.
    """
    own = inspect.signature(layer.__init__)  # type: ignore[misc]
    parameters = list(own.parameters.values())[1:]  # without self
    if parameters:
        parameters[-1:] = _OPTIONS.get(str(parameters[-1].annotation), parameters[-1:])
    return own.replace(parameters=parameters, return_annotation=own.empty)
