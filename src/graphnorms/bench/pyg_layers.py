"""PyG's layers as contenders; PyG is loaded at first use, and may be missing."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Final

from torch import Tensor, nn

from graphnorms.errors import GraphnormsError
from graphnorms.layers.normalization import Normalization

INSTALL: Final = "pip install torch_geometric"
_GIVEN: Final = {"self", "x", "batch", "batch_size", "dim_size"}


def is_installed() -> bool:
    """Whether PyG can be loaded."""
    return importlib.util.find_spec("torch_geometric") is not None


@functools.cache
def load(module: str = "nn") -> ModuleType:
    """Load a module of PyG.

    Raises:
        GraphnormsError: PyG is not installed.
    """
    if not is_installed():
        raise GraphnormsError(f"PyG is not installed: {INSTALL}")
    with warnings.catch_warnings():
        # PyG calls torch.jit.script while it is imported, which torch warns of.
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"torch_geometric.{module}")


def twin(row: Normalization, channels: int) -> nn.Module | None:
    """Build PyG's layer of the same name and arguments; `None` where it has none.

    A layer of PyG that needs more than features and batch (node types, messages) is no twin.

    Args:
        row: The row of the catalogue.
        channels: Width of the features.
    """
    layer = getattr(load(), row.layer.__name__, None)
    if layer is None:
        return None
    given = {"in_channels": channels, **row.arguments}
    taken = inspect.signature(layer).parameters
    named = {name for name, parameter in taken.items() if parameter.kind not in _VARIADIC}
    if not row.arguments.keys() <= named or _required(layer) - given.keys():
        return None
    if _required(layer.forward) - _GIVEN:
        return None
    module: nn.Module = layer(**{name: value for name, value in given.items() if name in named})
    return module


def bind(
    layer: nn.Module, batch: Tensor, graphs: int, forward: Callable[..., Tensor] | None = None
) -> Callable[[Tensor], Tensor]:
    """Return a layer of PyG as a function of the features.

    Args:
        layer: Whose signature decides what it is given.
        batch: Graph of each row.
        graphs: Number of graphs, so that the layer need not find it out.
        forward: What to call in place of the layer, e.g. the same compiled.
    """
    # Not `forward or layer`: a compiled module has no truth value.
    call: Callable[..., Tensor] = layer if forward is None else forward
    if "batch" not in inspect.signature(layer.forward).parameters:
        return lambda x: call(x)
    return lambda x: call(x, batch, graphs)


_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _required(function: Callable[..., object]) -> set[str]:
    return {
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIADIC
    }
