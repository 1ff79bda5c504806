"""The layers of a model that are measured: its norms and its convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from graphnorms.dropin.known_norms import find_norms, holder_of, recognize
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.own_norm import OwnLayer
from graphnorms.models import GNN
from graphnorms.models.norm_slot import NormSlot


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """List the norms of a model by name, in the order of its modules; those of edges left out."""
    if isinstance(model, GNN):
        return {
            f"{name}.norm": slot.norm
            for name, slot in model.named_modules()
            if isinstance(slot, NormSlot) and not slot.of_edges
        }
    own = {name for name, module in model.named_modules() if isinstance(module, OwnLayer)}
    known = {norm.name for norm in find_norms(model)[0]}
    inside = {name for name in known if any(name.startswith(f"{each}.") for each in own)}
    return {
        name: module for name, module in model.named_modules() if name in (own | known) - inside
    }


def convolutions_of(model: nn.Module) -> list[str]:
    """List the convolutions of a model by name; the norms of one that has no known ones."""
    if isinstance(model, GNN):
        return [f"convolutions.{layer}" for layer in range(len(model.convolutions))]
    passing = [  # PyG's MessagePassing
        name for name, module in model.named_modules() if callable(getattr(module, "propagate", 0))
    ]
    outermost = [
        name for name in passing if not any(name.startswith(f"{each}.") for each in passing)
    ]
    return outermost or list(norms_of(model))


def forgets_scale(norm: nn.Module) -> bool:
    """Whether the scale of what a norm is given has no influence on the result."""
    point = getattr(norm, "point", None)
    if point is None:
        known = recognize(norm)
        point = None if known is None else CATALOG[known.kind].point
    return point is not None and point.scale is not None


def parameter_of(norm: nn.Module, name: str) -> Tensor | None:
    """Return a parameter of a norm, or of the layer inside it; `None` if it has none."""
    found = getattr(_inner(norm), name, None)
    return found if isinstance(found, nn.Parameter) else None


def running_of(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Return the running mean and variance of a norm, `(channels,)` each, if it has them."""
    inner = _inner(norm)
    mean, variance = (getattr(inner, f"running_{name}", None) for name in ("mean", "var"))
    if mean is None or variance is None or mean.dim() != 1:
        return None
    return mean, variance


def _inner(norm: nn.Module) -> nn.Module:
    return holder_of(norm.norm if isinstance(norm, OwnLayer) else norm)


@contextmanager
def plain_calls(
    norms: Mapping[str, nn.Module], rows: int, receive: Callable[[str, Tensor, Tensor], None]
) -> Iterator[None]:
    """Pass what enters and leaves norms to a function: of ours what is before the activation.

    Activation, dropout and residual sum are part of our layers, which are called a second time
    without them.

    Args:
        norms: The norms by name.
        rows: The rows of the nodes; calls with another number, e.g. of graphs, are left out.
        receive: Called with the name, the features before and those after.
    """

    def passing(name: str) -> Callable[..., None]:
        def hook(norm: Any, args: Any, given: dict[str, Any], result: Any) -> None:
            x = next(each for each in (*args, *given.values()) if isinstance(each, Tensor))
            if x.dim() == 2 and x.shape[0] == rows:
                receive(name, x, _plain(norm, args, given, result))

        return hook

    handles = [
        norm.register_forward_hook(passing(name), with_kwargs=True) for name, norm in norms.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _plain(norm: Any, args: Any, given: dict[str, Any], result: Tensor) -> Tensor:
    fused = {
        name: value
        for name, value in (("activation", None), ("dropout", 0.0))
        if getattr(norm, name, value) != value
    }
    if not fused and given.get("residual") is None:
        return result
    kept = {name: getattr(norm, name) for name in fused}
    try:
        for name in fused:
            setattr(norm, name, None if name == "activation" else 0.0)
        y: Tensor = norm.forward(*args, **{**given, "residual": None})
    finally:
        for name, value in kept.items():
            setattr(norm, name, value)
    return y
