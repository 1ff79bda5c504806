r"""`fold`: BatchNorm in `eval()` folded into the linear layer in front of it.

Between a linear layer and a norm that uses running statistics lies one affine map per channel,

$$ \gamma \frac{W x + b - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta = W' x + b', \quad
   W' = \operatorname{diag}(s) W, \quad b' = s (b - \mu) + \beta, \quad
   s = \frac{\gamma}{\sqrt{\sigma^2 + \varepsilon}}. $$
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from graphnorms.dropin.known_norms import (
    KnownNorm,
    find_norms,
    has_parameter,
    holder_of,
    recognize,
)
from graphnorms.dropin.norm_hook import NormHook
from graphnorms.dropin.producers import observed, outputs_of, preceding_in_sequences
from graphnorms.dropin.result import Change, table_of
from graphnorms.dropin.transfer import Owners, owners_in
from graphnorms.kernels.point import in_float64
from graphnorms.layers.base import Norm
from graphnorms.layers.identity import Identity

_Step = Callable[[], object]

_LINEAR: Final = (
    "torch.nn.modules.linear",
    "torch_geometric.nn.dense.linear",
    "graphnorms.models.linear",
)
"""Where linear layers are defined."""


class Folding:
    """A model with folded norms; prints as a table of its norms.

    Attributes:
        model: The model.
        changes: For every norm in the order of the model: `name` (`names` if used in several
            places), `old`, `new` (what is at its place now; `None` if it was left) and `note`: what
            it was folded into, or why it was left.
    """

    def __init__(self, model: nn.Module, changes: tuple[Change, ...], steps: list[_Step]) -> None:
        self.model = model
        self.changes = changes
        self._steps: list[_Step] | None = steps

    @property
    def folded(self) -> tuple[Change, ...]:
        """The norms that were folded."""
        return tuple(change for change in self.changes if change.new is not None)

    @property
    def left(self) -> tuple[Change, ...]:
        """The norms that were left, with the reason in the note."""
        return tuple(change for change in self.changes if change.new is None)

    def undo(self) -> nn.Module:
        """Restore the norms, and the weights of the linear layers; return the model.

        Raises:
            ValueError: It was called before.
        """
        if self._steps is None:
            raise ValueError("undo was called before; the model has its norms")
        for step in reversed(self._steps):
            step()
        self._steps = None
        return self.model

    def __str__(self) -> str:
        total = f"{len(self.folded)} of {len(self.changes)} norms folded."
        return "\n".join(
            [*table_of(self.changes, "folded into, or why it was left", "left"), total]
        )

    def __repr__(self) -> str:
        return f"Folding({len(self.folded)} of {len(self.changes)} norms folded)"


def fold(model: nn.Module, example: Any = None, *, inplace: bool = True) -> Folding:
    r"""Fold every BatchNorm of a model in `eval()` into the linear layer in front of it.

    $W' = \operatorname{diag}(s) W$ and $b' = s (b - \mu) + \beta$ with
    $s = \gamma / \sqrt{\sigma^2 + \varepsilon}$, computed in float64: the outputs are the same up
    to rounding. A linear layer without a bias gets one. At the place of the norm is `nn.Identity`,
    or for ours `Identity` with its activation. It is done where it is exact: the norm uses running
    statistics, and gets `(nodes, channels)` from an `nn.Linear`, or PyG's `Linear`, whose result
    nothing else uses. Every other norm is left, with the reason in the table.

    Inside an `nn.Sequential` that is read off its order; elsewhere `example` shows it. The folded
    model is for inference.

    Args:
        model: The model, in `eval()`.
        example: Arguments of the model: a tuple, a mapping, or a `Data` object. The model is called
            once before, without gradients, to see what the norms get, and once after, to compare
            its outputs.
        inplace: Whether to change the model itself or a copy.

    Returns:
        The model, a table of its norms, and `undo()`.

    Raises:
        ValueError: The model is in training mode, is itself a norm, or has none; or with `example`
            its outputs are others after folding. The model is unchanged then.
    """
    if recognize(model) is not None:
        raise ValueError(f"model is a {type(model).__name__}, expected a module with norms inside")
    if model.training:
        raise ValueError(
            f"{type(model).__name__} is in training mode, where BatchNorm uses the batch; call "
            "model.eval() first"
        )
    if not inplace:
        model = copy.deepcopy(model)
    norms, _ = find_norms(model)
    if not norms:
        raise ValueError(f"{type(model).__name__} has no norm of PyG, torch or graphnorms")
    names = {id(module): name for name, module in model.named_modules()}
    owners = owners_in(model)
    unknown = "the example does not reach it"
    if example is None:
        in_front, before = preceding_in_sequences(model), None
        unknown = "pass an example: what it gets is not known"
    else:
        in_front, before = observed(model, norms, example)
    steps: list[_Step] = []
    changes = []
    for norm in norms:
        linear = in_front.get(id(norm.module), unknown)
        new, note = None, _why_not(norm, linear, owners)
        if not note and isinstance(linear, nn.Module):
            new, note = _identity_for(norm), names[id(linear)]
            note += "" if has_parameter(linear, "bias") else ", which has a bias now"
            steps.append(_fold_into(linear, norm, new))
        changes.append(Change(norm.names, norm.module, new, note))
    result = Folding(model, tuple(changes), steps)
    if before is not None and not _alike(before, outputs_of(model, example)):
        result.undo()
        raise ValueError(
            f"{type(model).__name__} has other outputs for the example once its norms are folded: "
            "it draws random numbers, or uses the weights of a linear layer by itself"
        )
    return result


def _why_not(norm: KnownNorm, linear: nn.Module | str, owners: Owners) -> str:
    """Return why a norm cannot be folded; empty if it can."""
    module = norm.module
    inner: Any = holder_of(module)
    if norm.kind == "hetero-batch":
        return "its scale and shift depend on the types of the nodes"
    if norm.kind != "batch":
        return f"{type(module).__name__} computes statistics of its input"
    if norm.reason:
        return norm.reason
    if module.training or inner.training:
        return "it is in training mode"
    if inner.running_mean is None or inner.running_var is None:
        return "it has no running statistics, and uses those of its input"
    if _is_hooked(module) or _is_hooked(inner):
        return "it has hooks, which would see another input"
    if isinstance(linear, str):
        return linear
    kind = type(linear).__name__
    if not _is_linear(linear):
        return f"it gets the result of {kind}, which is no linear layer"
    if _is_hooked(linear):
        return f"the {kind} in front of it has hooks, which would see another result"
    tensors = [linear._parameters.get(name) for name in ("weight", "bias")]
    if not has_parameter(linear, "weight"):
        return f"the weight of the {kind} in front of it is computed (parametrized or pruned)"
    if any(tensor is not None and len(owners[id(tensor)]) > 1 for tensor in tensors):
        return f"the {kind} in front of it shares its parameters with another module"
    return ""


def _is_linear(module: nn.Module) -> bool:
    forward = type(module).forward
    return forward.__qualname__ == "Linear.forward" and forward.__module__ in _LINEAR


def _is_hooked(module: nn.Module) -> bool:
    return any(
        not isinstance(getattr(hook, "__self__", None), NormHook)
        for kind in ("_forward_pre_hooks", "_forward_hooks")
        for hook in vars(module)[kind].values()
    )


def _identity_for(norm: KnownNorm) -> nn.Module:
    """Return what takes the place of a norm: it applies what the norm does beyond."""
    module = norm.module
    if not isinstance(module, Norm):
        return nn.Identity().eval()
    return Identity(module.in_channels, activation=module.activation, dropout=module.dropout).eval()


def _fold_into(linear: nn.Module, norm: KnownNorm, new: nn.Module) -> _Step:
    """Change the weights of a linear layer and the module at the norm's places.

    Returns:
        What undoes it.
    """
    inner: Any = holder_of(norm.module)
    weight: Any = linear._parameters["weight"]
    bias: Any = linear._parameters["bias"]
    kept: Any = [None if each is None else each.detach().clone() for each in (weight, bias)]
    with torch.no_grad():
        scale = (in_float64(inner.running_var) + inner.eps).rsqrt()
        if inner.weight is not None:
            scale = scale * in_float64(inner.weight)
        shift = in_float64(inner.running_mean).neg()
        if bias is not None:
            shift = shift + in_float64(bias)
        shift = shift * scale
        if inner.bias is not None:
            shift = shift + in_float64(inner.bias)
        weight.copy_(in_float64(weight) * scale[:, None])
        if bias is None:
            linear.register_parameter("bias", nn.Parameter(shift.to(weight)))
        else:
            bias.copy_(shift)
    for place in norm.places:
        place.put(new)

    def undo() -> None:
        with torch.no_grad():
            weight.copy_(kept[0])
            if bias is None:
                linear.register_parameter("bias", None)
            else:
                bias.copy_(kept[1])
        for place in norm.places:
            place.put(norm.module)

    return undo


def _alike(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether two outputs of a model agree up to rounding."""
    if [each.shape for each in first] != [each.shape for each in second]:
        return False
    for one, other in zip(first, second, strict=True):
        if one.is_floating_point() and one.numel():
            size = one.abs().max().clamp(min=1)
            near = torch.finfo(one.dtype).eps ** 0.5 * size
            if not torch.allclose(one, other, rtol=0.0, atol=near.item(), equal_nan=True):
                return False
    return True
