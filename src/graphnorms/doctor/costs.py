"""The cost of a norm against our fused layer of its kind, and what it does not let through."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from graphnorms.doctor.facts import NormFacts
from graphnorms.doctor.measure import fresh
from graphnorms.doctor.walk import Call, Norm, quiet
from graphnorms.dropin.known_norms import KnownNorm, same
from graphnorms.errors import one_line
from graphnorms.segments import Segments

_ROUNDS: Final = 5


def measure_costs(norm: Norm, facts: NormFacts) -> None:
    """Time forward and backward of a norm, and count the bytes it keeps; the same of ours.

    The time is the shortest of five, in turn.
    """
    known, call = norm.known, norm.calls[0]
    contenders = {"": fresh(norm)}
    if known is not None and not known.reason and call.x.dim() == 2 and _has_fused(known):
        place = {"device": call.x.device, "dtype": call.x.dtype}
        contenders["fused_"] = same(known, **place).train()
    for name, module in contenders.items():
        setattr(facts, f"{name}kept_bytes", _kept(module, call))
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(_ROUNDS):
        for name, module in contenders.items():
            best[name] = min(best[name], _seconds(partial(_step, module, call)))
    for name, seconds in best.items():
        setattr(facts, f"{name}seconds", seconds)


def _has_fused(known: KnownNorm) -> bool:
    """Whether ours is the same function, and not the norm itself."""
    of_torch = known.library == "torch" and known.kind == "instance"
    return known.library != "graphnorms" and not of_torch


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


def try_compilers(norms: Sequence[Norm], facts: Sequence[NormFacts]) -> None:
    """Compile norms in one graph, and export them, with the arguments of their first calls.

    Of norms of one class with the same kinds of arguments one is tried.
    """
    tried: dict[object, tuple[str, str | None]] = {}
    for norm, each in zip(norms, facts, strict=True):
        if not norm.calls:
            continue
        call = norm.calls[0]
        kinds = [(name, type(value)) for name, value in call.named().items()]
        key = (type(norm.module), norm.module.extra_repr(), call.x.dim(), *kinds)
        if key not in tried:
            tried[key] = _tried(norm, call)
        each.compile_error, each.export_error = tried[key]


def _tried(norm: Norm, call: Call) -> tuple[str, str | None]:
    exported = None
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what the compilers log and print, the error says
    try:
        printed = io.StringIO()
        with torch.no_grad(), quiet(), redirect_stdout(printed), redirect_stderr(printed):
            compiled = _refusal(lambda: _compile(fresh(norm), call))
            if not any(isinstance(value, Segments) for value in call.named().values()):
                exported = _refusal(lambda: _export(fresh(norm, training=False), call))
    finally:
        logging.disable(level)
    return compiled, exported


def _compile(module: nn.Module, call: Call) -> None:
    torch.compiler.reset()
    module.compile(fullgraph=True, backend="eager", dynamic=True)
    call.repeat(module)


def _export(module: nn.Module, call: Call) -> None:
    torch.export.export(module, (call.x, *call.args), dict(call.kwargs), strict=False)


def _refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as error:  # whatever a compiler raises
        return one_line(error).partition(" (")[0].partition(". ")[0][:160]
    return ""
