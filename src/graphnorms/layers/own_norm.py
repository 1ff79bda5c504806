"""User-defined normalizations: finding, identifying and calling them like our layers."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from graphnorms.errors import one_line, unknown_name
from graphnorms.kernels.point import check_activation
from graphnorms.kernels.primitive import finish
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.spec import format_spec, parse_arguments
from graphnorms.segments import Segments, as_segments
from graphnorms.user_code import UserFunction, as_spec, find, is_spec, no_exit, source_hash

_EXPECTED: Final = "a class or a function (channels) -> torch.nn.Module"
_SPEC: Final = re.compile(r"(?P<function>[^:]+:[^:]+)(:(?P<arguments>.*))?", re.DOTALL)
_SIZES: Final = ("batch_size", "num_graphs", "dim_size")
INPUTS: Final = ("batch", "segments", "ptr", *_SIZES)
"""Arguments that the `forward` of a norm may take by name, after the features."""


@dataclass(frozen=True, kw_only=True)
class OwnNorm(UserFunction):
    """A user-defined normalization: the function that makes its layers, and its identity.

    Args:
        name: `module:function`, with arguments after a second colon as for the catalogue's norms,
            `"my_norms:Scaled:eps=0.001"`; or the name of a function in memory.
        function: Makes a layer from the number of channels.
        source, in_memory: See `UserFunction`.
    """

    @classmethod
    def of(cls, norm: str | Callable[..., Any]) -> Self:
        """Find a norm by its name, or wrap a class or function.

        A class or function that can be imported is identified by its name, also in a
        `functools.partial` with plain keyword arguments.

        Raises:
            ValueError: It does not exist, its source cannot be read, or it does not accept the
                arguments.
        """
        if isinstance(norm, str):
            return cls._named(norm)
        if isinstance(norm, nn.Module):
            raise ValueError(
                f"a norm is a {type(norm).__name__} that is made already, expected {_EXPECTED}"
            )
        base, arguments, plain = _taken_apart(norm)
        text = _importable(base)
        if text and plain:
            spec = format_spec(text, arguments)
            if "," not in "".join(map(str, arguments.values())) and _parsed(spec)[1] == arguments:
                return cls._named(spec)
        name = base.__qualname__.rpartition("<locals>.")[2].strip("<>")
        source = source_hash(norm)
        return cls(name=format_spec(name, arguments), source=source, function=norm, in_memory=True)

    @classmethod
    def _named(cls, text: str) -> Self:
        spec, arguments = _parsed(as_spec(text.strip()))
        module = spec.partition(":")[0]
        if module in CATALOG:
            raise ValueError(
                f"norm {text!r}: {module} is a norm of the catalogue, so the module of your own "
                "needs another name"
            )
        function = find(spec, "a norm")
        if isinstance(function, nn.Module):
            raise ValueError(
                f"{spec} is a {type(function).__name__} that is made already, expected {_EXPECTED}"
            )
        _check_arguments(spec, function, arguments)
        return cls(
            name=format_spec(spec, arguments),
            source=source_hash(function, module),
            function=functools.partial(function, **arguments) if arguments else function,
        )

    @classmethod
    def found(cls, name: str, source: str) -> Self:
        """Find the norm of a trial by its name.

        Raises:
            ValueError: The name is unknown, or the source has changed.
        """
        if not is_own(name):
            raise ValueError(f"the norm {name} was made in memory, and is not given")
        norm = cls._named(name)
        norm.require_source(source)
        return norm

    def layer(self, channels: int, *, activation: str | None = None, **place: Any) -> OwnLayer:
        """Make a layer.

        Args:
            channels: Number of channels.
            activation: Applied after it, see `graphnorms.segment_normalize`.
            place: Device and dtype.

        Raises:
            ValueError: The function cannot be called with the channels alone, does not return a
                module, or the `forward` of the module has unknown arguments.
        """
        parameters = _parameters(self.function)
        first = next((each for each in parameters.values() if each.kind not in _BY_NAME), None)
        if first is not None and first.default is not first.empty:
            raise ValueError(
                f"the first argument of {self.name} is {first.name}={first.default!r}, expected "
                f"the channels: {_EXPECTED}"
            )
        try:
            inspect.signature(self.function).bind(channels)
        except TypeError as error:
            raise ValueError(
                f"{self.name} cannot be called with the channels alone ({error}), expected "
                f"{_EXPECTED}"
            ) from None
        except ValueError:  # a class in C has no signature
            pass
        made = self.function(channels)
        if not isinstance(made, nn.Module):
            raise ValueError(
                f"{self.name} makes something of type {type(made).__name__}, expected a "
                "torch.nn.Module"
            )
        return OwnLayer(made.to(**place) if place else made, self.name, activation)

    def check(self, channels: int) -> None:
        """Make a layer and run it on two small graphs.

        Raises:
            ValueError: It cannot be made, or returns another shape; one line.
        """
        try:
            with no_exit(self.name), torch.random.fork_rng(devices=[]), torch.no_grad():
                layer = self.layer(channels)
                layer(torch.randn(5, channels), Segments.from_counts(torch.tensor([3, 2])))
        except Exception as error:  # user code may raise anything
            if isinstance(error, ValueError) and self.name in str(error):  # our own message
                raise
            raise ValueError(
                f"the norm {self.name}, with {channels} channels on two small graphs, raised "
                f"{one_line(error)}"
            ) from error


class OwnLayer(nn.Module):
    """A user-defined layer, called like ours.

    The first argument of its `forward` is the features. Those of `INPUTS` that it names are passed
    by name.

    Args:
        norm: The layer.
        name: Its name in messages.
        activation: Applied after it.

    Raises:
        ValueError: Its `forward` requires any other argument.
    """

    def __init__(self, norm: nn.Module, name: str, activation: str | None = None) -> None:
        super().__init__()
        check_activation(activation)
        self.norm = norm
        self.name = name
        self.activation = activation
        self.inputs = inputs_of(norm, name)

    @property
    def per_graph(self) -> bool:
        """Whether the layer is given the graph of every row."""
        return bool(self.inputs)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Normalize, activate, and add the residual.

        Raises:
            ValueError: The result does not have the shape of `x`.
        """
        given: dict[str, Any] = {}
        if self.inputs:
            segments = as_segments(batch, rows_of=x, num_segments=batch_size)
            given = {name: _value(name, batch, segments) for name in self.inputs}
        y = self.norm(x, **given)
        if not isinstance(y, Tensor):
            raise ValueError(
                f"the norm {self.name} gives something of type {type(y).__name__}, expected a "
                f"tensor of the shape of x, {tuple(x.shape)}"
            )
        if y.shape != x.shape:
            raise ValueError(
                f"the norm {self.name} gives a tensor of shape {tuple(y.shape)}, expected that of "
                f"x, {tuple(x.shape)}"
            )
        y = finish(y, self.activation, 0.0, None)
        return y if residual is None else y + residual


def inputs_of(norm: nn.Module, name: str) -> tuple[str, ...]:
    """Return the arguments that the `forward` of a norm takes by name, after the features.

    Args:
        norm: The layer.
        name: Its name in messages.

    Raises:
        ValueError: It takes no features, or requires an unknown argument.
    """
    forward = getattr(norm, "_orig_mod", norm).forward  # unwraps torch.compile
    parameters = list(inspect.signature(forward).parameters.values())
    if not parameters or parameters[0].kind in _BY_NAME:
        raise ValueError(f"the forward of the norm {name} takes no features, expected (x, batch)")
    others = [each for each in parameters[1:] if each.kind not in _ANY]
    for each in others:
        if each.name not in INPUTS and each.default is each.empty:
            raise ValueError(
                f"the forward of the norm {name} asks for {each.name!r}, expected the features, "
                f"and behind them by name: {', '.join(INPUTS)}"
            )
    return tuple(each.name for each in others if each.name in INPUTS)


_ANY: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_BY_NAME: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


def _value(name: str, batch: Tensor | Segments | None, segments: Segments) -> Any:
    if name == "batch":
        return batch if isinstance(batch, Tensor) else segments.as_batch()
    if name in _SIZES:
        return segments.num_segments
    return segments if name == "segments" else segments.ptr


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Split a name into `module:function` and the arguments."""
    found = _SPEC.fullmatch(text)
    if found is None or not is_spec(found["function"]):
        raise ValueError(f"norm {text!r}, expected module:function, or module:function:argument=2")
    rest = found["arguments"]
    return found["function"], {} if rest is None else parse_arguments(text, rest)


def is_own(text: str) -> bool:
    """Whether a text names a user-defined norm, not one of the catalogue."""
    name, colon, rest = text.strip().partition(":")
    if not colon:
        return False
    function = rest.partition(":")[0]
    return name.endswith(".py") or (name not in CATALOG and is_spec(f"{name}:{function}"))


def _taken_apart(norm: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any], bool]:
    """Return the function inside partials, their keyword arguments, and whether there are no
    others."""
    arguments: dict[str, Any] = {}
    plain = True
    while isinstance(norm, functools.partial):
        plain = plain and not norm.args
        arguments = {**norm.keywords, **arguments}
        norm = norm.func
    return norm, arguments, plain


def _importable(function: Any) -> str:
    """Return the shortest import name of a class or function; empty if it cannot be imported."""
    module, path = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    parts = [] if module in ("", None, "__main__") else module.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        found: Any = sys.modules.get(name)
        for part in path.split("."):
            found = getattr(found, part, None)
        if found is function and is_spec(f"{name}:{path}") and name not in CATALOG:
            return f"{name}:{path}"
    return ""


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:  # a class in C
        return {}


def _check_arguments(spec: str, function: Callable[..., Any], given: dict[str, Any]) -> None:
    """Refuse arguments that a function does not take."""
    known = _parameters(function)
    if any(each.kind is each.VAR_KEYWORD for each in known.values()):
        return
    names = [name for name, each in known.items() if each.kind is not each.VAR_POSITIONAL]
    for name in given:
        if name not in names:
            raise unknown_name(f"argument of {spec}", name, names)
