"""The cost of a norm against our fused layer of its kind, and what it does not let through."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from graphnorms.doctor.facts import NormFacts
from graphnorms.doctor.measure import fresh
from graphnorms.doctor.walk import Call, Norm, quiet
from graphnorms.dropin.known_norms import same
from graphnorms.errors import one_line
from graphnorms.segments import Segments

_ROUNDS: Final = 5


def measure_costs(norm: Norm, facts: NormFacts) -> None:
    """Time forward and backward of a norm, and count the bytes it keeps; the same of ours.

    The time is the shortest of five, in turn.
    """
    known, call = norm.known, norm.calls[0]
    contenders = {"": fresh(norm)}
    of_torch = known is not None and known.library == "torch"
    replaceable = known is not None and known.library != "graphnorms" and not known.reason
    if known is not None and replaceable and call.x.dim() == 2:
        if not (of_torch and known.kind == "instance"):  # ours is another function
            place = {"device": call.x.device, "dtype": call.x.dtype}
            contenders["fused_"] = same(known, **place).train()
    for name, module in contenders.items():
        setattr(facts, f"{name}kept_bytes", _kept(module, call))
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(_ROUNDS):
        for name, module in contenders.items():
            best[name] = min(best[name], _seconds(lambda module=module: _step(module, call)))
    for name, seconds in best.items():
        setattr(facts, f"{name}seconds", seconds)


def _step(module: nn.Module, call: Call) -> None:
    x = call.x.detach().requires_grad_()
    with torch.enable_grad(), quiet():
        y = call.repeat(module, x)
        if y.requires_grad:
            torch.autograd.grad(y, x, torch.ones_like(y), allow_unused=True)


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _kept(module: nn.Module, call: Call) -> int:
    """Count the bytes kept for the backward, each memory once, without what is there anyway."""
    anyway = [*module.parameters(), *module.buffers(), *call.args, *call.kwargs.values()]
    known = {t.untyped_storage().data_ptr() for t in anyway if isinstance(t, Tensor)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = call.x.detach().clone().requires_grad_()
    with torch.enable_grad(), quiet(), saved_tensors_hooks(pack, lambda tensor: tensor):
        y = call.repeat(module, x)
    total = sum(size for place, size in kept.items() if place not in known)
    del y
    return total


def try_compilers(norm: Norm, facts: NormFacts) -> None:
    """Compile a norm in one graph, and export it, with the arguments of its first call."""
    call = norm.calls[0]
    with torch.no_grad(), quiet():
        facts.compile_error = _refusal(lambda: _compile(fresh(norm), call))
        if not any(isinstance(value, Segments) for value in call.named().values()):
            facts.export_error = _refusal(lambda: _export(fresh(norm, training=False), call))


def _compile(module: nn.Module, call: Call) -> None:
    torch.compiler.reset()
    call.repeat(torch.compile(module, fullgraph=True, backend="eager", dynamic=True))


def _export(module: nn.Module, call: Call) -> None:
    torch.export.export(module, (call.x, *call.args), dict(call.kwargs), strict=False)


def _refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as error:  # whatever a compiler raises
        return one_line(error)[:200]
    return ""
