"""What the modules of a model return in the forward passes of a training, held or measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from graphnorms.dropin.known_norms import recognize
from graphnorms.probes.blow_up import INPUT
from graphnorms.probes.norm_gain import Scaling

_CONTAINERS: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Outputs:
    """What the modules return in the forward passes of a step.

    It is held until the backward pass begins, when autograd still holds most of it, and then
    measured or dropped.

    Args:
        model: The model.
        wanted: Whether to measure, given what the model returned.
        watched: Whether there are hooks at all.
    """

    def __init__(
        self, model: nn.Module, wanted: Callable[[Tensor], bool], *, watched: bool
    ) -> None:
        self.names: list[str] = [INPUT]
        self.norms: dict[int, tuple[nn.Module, Scaling]] = {}
        self.measured: dict[int, Tensor] = {}
        self.gains: dict[int, tuple[Tensor, Tensor]] = {}
        self.halves: set[str] = set()
        self.closed = False
        self._wanted = wanted
        self._held: list[tuple[int, Tensor]] = []
        self._given: dict[int, tuple[Tensor, Any]] = {}
        self._handles: list[RemovableHandle] = []
        self._inner: list[RemovableHandle] = []
        self._followed: list[tuple[int, nn.Module, Scaling | None]] = []
        if not watched:
            return
        self._handles.append(model.register_forward_pre_hook(self._enter, with_kwargs=True))
        blocks = _blocks(model)
        for name, module in _seen(model, blocks):
            index, scaling = len(self.names), Scaling.of(module)
            self.names.append(name)
            if scaling is not None:
                self.norms[index] = (module, scaling)
            if scaling is None and (module is model or id(module) in blocks):
                self._handles.append(self._follow(index, module, scaling))
            else:
                self._followed.append((index, module, scaling))
        # The last hook: what the model returns is held already.
        self._handles.append(model.register_forward_hook(self._leave))

    def look_inside(self, wanted: bool) -> None:
        """Follow the layers inside the blocks, too, in the next forward pass, or no longer."""
        if wanted and not self._inner:
            self._inner = [self._follow(*each) for each in self._followed]
        elif not wanted and self._inner:
            for handle in self._inner:
                handle.remove()
            self._inner = []

    def clear(self) -> None:
        """Forget the step."""
        self._drop()
        self.measured.clear()
        self.gains.clear()

    def close(self) -> None:
        """Remove the hooks."""
        self.look_inside(False)
        for handle in self._handles:
            handle.remove()
        self.closed = True
        self.clear()

    def measure(self, *, gains: bool) -> None:
        """Measure what is held, and drop it; of several calls of a module the largest counts.

        Args:
            gains: Whether to measure the gains of norms.
        """
        # What encloses a module often returns the same tensor.
        alike = {(x.data_ptr(), x.numel()): x for _, x in self._held}
        norms = dict(zip(alike, norms_of(list(alike.values())), strict=True)) if alike else {}
        for index, x in self._held:
            if x.dtype == torch.float16:
                self.halves.add(self.names[index])
            value = norms[x.data_ptr(), x.numel()] / math.sqrt(max(1, x.numel()))
            before = self.measured.get(index)
            self.measured[index] = value if before is None else torch.maximum(before, value)
        for index, (x, batch) in self._given.items() if gains else ():
            module, scaling = self.norms[index]
            found = scaling.gain(module, x, batch)
            if found is not None:
                self.gains[index] = found
        self._drop()

    def _drop(self) -> None:
        self._held.clear()
        self._given.clear()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Hold the features that the model is called with."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        for given in (*args, *kwargs.values()):
            # Graphs come in objects of other packages, whose `x` are the features.
            x = given if isinstance(given, Tensor) else getattr(given, "x", None)
            if isinstance(x, Tensor) and x.is_floating_point():
                self._held.append((0, x.detach()))
                return

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Wait for the gradient of what the model returns."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        x = _first(output)
        if x is None or not x.requires_grad:
            return
        kept = x.detach()

        def begin(gradient: Tensor) -> None:
            with torch.no_grad():
                if not self._held or self._wanted(kept):
                    return
                self._drop()

        x.register_hook(begin)

    def _follow(self, index: int, module: nn.Module, scaling: Scaling | None) -> RemovableHandle:
        """Hold what a module returns, and what a norm is given."""
        held = self._held
        tracing, recorded = torch.compiler.is_compiling, torch.is_grad_enabled

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if tracing() or not recorded():
                return
            x = output if type(output) is Tensor else _first(output)
            if x is not None and x.is_floating_point():
                held.append((index, x))

        def norm_hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            hook(module, args, output)
            if tracing() or not (recorded() and module.training):
                return
            if args and isinstance(args[0], Tensor) and kwargs.get("mask") is None:
                second = args[1] if len(args) > 1 else kwargs.get("batch")
                self._given[index] = (args[0], second)

        if scaling is None:
            return module.register_forward_hook(hook)
        return module.register_forward_hook(norm_hook, with_kwargs=True)


def _first(output: Any) -> Tensor | None:
    """The first tensor of what a module returned."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        output = next((part for part in output if isinstance(part, Tensor)), None)
    return output if isinstance(output, Tensor) else None


def norms_of(tensors: list[Tensor]) -> list[Tensor]:
    """Norms over all entries, in float32 or wider: that of a half would overflow."""
    dtypes = {x.dtype for x in tensors}
    if dtypes <= {torch.float32, torch.float64}:
        return list(torch._foreach_norm(tensors))
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    return list(torch._foreach_norm(tensors, dtype=wide))


def _blocks(model: nn.Module) -> set[int]:
    """The ids of the outermost modules that learn, looking into containers and single children."""
    found: list[nn.Module] = [model]
    while len(found) == 1 and not _learns(found[0], recurse=False):
        inner = [child for child in found[0].children() if _learns(child)]
        while any(isinstance(child, _CONTAINERS) for child in inner):
            inner = [
                each
                for child in inner
                for each in (child.children() if isinstance(child, _CONTAINERS) else (child,))
                if _learns(each)
            ]
        if not inner:
            break
        found = inner
    return {id(module) for module in found}


def _seen(model: nn.Module, blocks: set[int]) -> list[tuple[str, nn.Module]]:
    """The modules to follow: the blocks, layers with parameters of their own, and norms.

    Nothing inside a norm is followed: a hook there would take it off its fast path.
    """
    inside: set[int] = set()
    found = []
    for name, module in model.named_modules():
        if id(module) in inside:
            continue
        norm = recognize(module) is not None
        if norm:
            inside |= {id(inner) for inner in module.modules()}
        learns = _learns(module, recurse=False)
        if norm or learns or id(module) in blocks or module is model:
            found.append((plain_name(name), module))
    return found


def _learns(module: nn.Module, *, recurse: bool = True) -> bool:
    return next(module.parameters(recurse), None) is not None


def plain_name(name: str) -> str:
    """The name without what DDP and torch.compile put in front."""
    parts = name.split(".")
    while parts and parts[0] in ("module", "_orig_mod"):
        parts = parts[1:]
    return ".".join(parts)
