"""Capturing the features that enter or leave layers, by hooks that are always removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name

Side = Literal["input", "output"]


@contextmanager
def hooked(
    model: nn.Module, layers: Iterable[str], side: Side, receive: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Pass what enters or leaves layers to a function, at every call.

    Args:
        model: The model.
        layers: Names of modules, as in `model.named_modules()`.
        side: `"input"` for the first tensor that a layer is called with, `"output"` for its
            result, the first one of several.
        receive: Called with the name and the tensor, with its graph.

    Raises:
        ValueError: A module is unknown, `side` is neither, or a layer neither takes nor gives
            a tensor.
    """
    if side not in ("input", "output"):
        raise unknown_name("side", side, ("input", "output"))
    modules = dict(model.named_modules())
    handles = []
    try:
        for name in layers:
            if name not in modules:
                raise unknown_name("layer", name, [known for known in modules if known])

            def pre(module: nn.Module, args: Any, given: Any, name: str = name) -> None:
                receive(name, _first_tensor((*args, *given.values()), name, "takes"))

            def post(module: nn.Module, args: Any, result: Any, name: str = name) -> None:
                parts = result if isinstance(result, (tuple, list)) else (result,)
                receive(name, _first_tensor(parts, name, "returns"))

            if side == "input":
                handles.append(modules[name].register_forward_pre_hook(pre, with_kwargs=True))
            else:
                handles.append(modules[name].register_forward_hook(post))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def captured(
    model: nn.Module, layers: Iterable[str], side: Side = "output"
) -> Iterator[dict[str, list[Tensor]]]:
    """Copy what enters or leaves layers while the body runs the model.

    The dictionary that the body gets has, by name of the layer, one tensor for each of its
    calls, without a graph. Copies, because an activation may work in place. A layer that is
    not called has an empty list.

    ```python
    with captured(model, ["convolutions.0.linear"]) as seen, torch.no_grad():
        model(x, adjacency, segments)
    features = seen["convolutions.0.linear"][0]  # (nodes, channels)
    ```

    Args:
        model: The model.
        layers: Names of modules, as in `model.named_modules()`.
        side: `"input"` for the first tensor that a layer is called with, `"output"` for its
            result, the first one of several.

    Raises:
        ValueError: A module is unknown, `side` is neither, or a layer neither takes nor gives
            a tensor.
    """
    names = list(layers)
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    with hooked(model, seen, side, lambda name, x: seen[name].append(x.detach().clone())):
        yield seen


def captured_rows(
    model: nn.Module, run: Callable[[], object], layers: Iterable[str], side: Side
) -> dict[str, Tensor]:
    """Run a model without gradients, and return what `captured` saw of each layer.

    The calls of a layer are concatenated, `(rows, channels)`; a layer that was not called is an
    error. Running averages and random numbers are not restored.
    """
    with captured(model, layers, side) as seen, torch.no_grad():
        run()
    for name, calls in seen.items():
        require_called(name, bool(calls))
    return {
        name: torch.cat([call.reshape(-1, call.shape[-1]) for call in calls])
        for name, calls in seen.items()
    }


def require_called(layer: str, called: bool) -> None:
    """Raise an error if a layer was not called."""
    if not called:
        raise ValueError(f"the layer {layer!r} was not called; leave it out, or run it")


def _first_tensor(things: Iterable[Any], name: str, verb: str) -> Tensor:
    for thing in things:
        if isinstance(thing, Tensor):
            return thing
    raise ValueError(f"the layer {name!r} {verb} no tensor; choose another layer or side")
