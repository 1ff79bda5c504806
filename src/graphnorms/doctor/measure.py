"""Measurements on what a norm was given: each says one thing about it in numbers."""

from __future__ import annotations

import copy
import math
import statistics
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.doctor.facts import NormFacts
from graphnorms.doctor.walk import Call, Norm, quiet
from graphnorms.dropin.known_norms import holder_of
from graphnorms.layers.base import Norm as OurNorm
from graphnorms.models.readout import readout
from graphnorms.probes.batch_noise import batch_noise
from graphnorms.segments import Segments

_SMALL_WEIGHT = 0.01
_LOW = (torch.float16, torch.bfloat16)
_SAME = 1e-4
"""Relative difference below which results are the same."""


def facts_of(norm: Norm, batches: int) -> NormFacts:
    """Measure a norm on its calls."""
    known = norm.known
    facts = NormFacts(
        name=norm.name,
        layer=type(norm.module).__name__,
        library=norm.library,
        kind="" if known is None else known.kind,
        channels=None if known is None else known.channels,
        calls=len(norm.calls) / batches,
        takes_batch=norm.takes_batch,
        learns_shift=getattr(norm.module, "mean_scale", None) is not None,
    )
    _of_weights(norm, facts)
    if not norm.calls:
        return facts
    if isinstance(norm.module, OurNorm):
        _without_epilogue(norm, norm.module)
    call = max(norm.calls, key=lambda each: each.x.shape[0])
    facts.rows_are = call.rows_are
    facts.rows = round(statistics.median(each.x.shape[0] for each in norm.calls))
    facts.graphs = round(statistics.median(each.graphs for each in norm.calls))
    facts.channels = facts.channels or call.x.shape[-1]
    _of_batch(call, facts)
    _of_reach(norm, call, facts)
    _of_graphs(norm, call, facts)
    _of_padding(norm, call, facts)
    _of_running_statistics(norm, facts)
    _of_channels(norm, facts)
    _of_information(call, facts)
    _of_zero_rows(norm, call, facts)
    _of_precision(norm, call, facts)
    _of_biases(norm, call, facts)
    return facts


def fresh(norm: Norm, *, training: bool = True) -> nn.Module:
    """Copy a norm, without what is fused behind it, for calls that leave it as it is."""
    module = copy.deepcopy(norm.module).train(training)
    for part in module.modules():
        if isinstance(part, OurNorm):
            part.dropout, part.activation = 0.0, None
    return module


def _without_epilogue(norm: Norm, module: OurNorm) -> None:
    """Leave activation, dropout and residual out of the calls of a layer of ours."""
    norm.followed = norm.followed or module.activation == "relu"
    for i, call in enumerate(norm.calls):
        call.kwargs.pop("residual", None)
        with torch.no_grad(), quiet():
            norm.calls[i] = call._replace(y=call.repeat(fresh(norm)))


def rms(x: Tensor) -> float:
    """Return the root of the mean square, in float64."""
    return float(x.double().square().mean().sqrt()) if x.numel() else 0.0


def difference(y: Tensor, other: Tensor) -> float:
    """Return the RMS of `y - other`, divided by the RMS of `y`."""
    size = rms(y)
    return rms(y.double() - other.double()) / size if size else rms(other)


def _rows(x: Tensor) -> Tensor:
    """Return all but the last dimension as rows, in float64."""
    return x.reshape(-1, x.shape[-1]).double()


def _of_weights(norm: Norm, facts: NormFacts) -> None:
    weight = holder_of(norm.module)._parameters.get("weight")
    if weight is not None and weight.dim() == 1 and weight.numel() > 1:
        small = weight.detach().abs() < _SMALL_WEIGHT
        facts.small_weights = float(small.double().mean())


def _of_batch(call: Call, facts: NormFacts) -> None:
    for value in call.given_batch().values():
        index = value.index if isinstance(value, Segments) else value
        facts.graphs_given = int(index.unique().shape[0])


def _of_reach(norm: Norm, call: Call, facts: NormFacts) -> None:
    facts.reach = _reach(fresh(norm), call)
    facts.reach_in_eval = _reach(fresh(norm, training=False), call)
    counts = None if call.segments is None else call.segments.counts
    if facts.reach == "graph" and counts is not None:
        facts.of_a_statistic = float(counts[counts > 0].double().median())
    elif facts.reach == "batch":
        axis = 0 if call.x.dim() == 2 else 1
        facts.of_a_statistic = float(call.x.numel() / call.x.shape[-1] if axis else facts.rows)
        facts.synchronized = _is_synchronized(norm.module)


def _reach(module: nn.Module, call: Call) -> str:
    """Change one row, and see which results change; the row is one of the largest graph."""
    index = torch.arange(call.x.shape[0], device=call.x.device)  # every row by itself
    given = next(iter(call.given_batch().values()), None)
    given = given if call.segments is None else call.segments
    if given is not None:
        index = given.index if isinstance(given, Segments) else given
    first = int((index == index.mode().values).nonzero()[0])
    changed = call.x.clone()
    size = rms(call.x) or 1.0
    shape = changed[first].shape
    push = torch.linspace(-1, 2, math.prod(shape), dtype=torch.float64).reshape(shape)
    changed[first] += (10 * size * push).to(changed)
    with torch.no_grad(), quiet():
        y, other = (call.repeat(copy.deepcopy(module), x) for x in (call.x, changed))
    if y.shape[:1] != call.x.shape[:1]:
        return ""
    moved = (y.double() - other.double()).abs().reshape(y.shape[0], -1).amax(1)
    moved = moved > _SAME * (rms(y) or 1.0)
    moved[first] = False
    if not moved.any():
        return "row"
    return "graph" if not moved[index != index[first]].any() else "batch"


def _is_synchronized(module: nn.Module) -> bool:
    return isinstance(module, nn.SyncBatchNorm) or any(
        isinstance(part, nn.SyncBatchNorm) or getattr(part, "process_group", None) is not None
        for part in module.modules()
    )


def _of_graphs(norm: Norm, call: Call, facts: NormFacts) -> None:
    batches = [_rows(each.x) for each in norm.calls if each.x.shape[0]]
    if facts.reach == "batch" and len(batches) > 3:
        ratio = batch_noise(batches).mean_ratio
        if (ratio.isfinite()).any():
            facts.noise = float(ratio[ratio.isfinite()].median())
    if call.segments is None or call.graphs < 2:
        return
    counts = torch.cat([c.segments.counts for c in norm.calls if c.segments is not None])
    facts.empty_graphs = int((counts == 0).sum())
    facts.one_row_graphs = float((counts == 1).sum() / (counts > 0).sum().clamp(min=1))
    alone = (call.segments.counts == 1)[call.segments.index]
    if int(alone.sum()) > 1 and facts.reach == "graph":
        y = _rows(call.y)
        facts.one_row_spread = rms(y[alone] - y[alone].mean(0)) / (rms(y - y.mean(0)) or 1.0)


def _of_padding(norm: Norm, call: Call, facts: NormFacts) -> None:
    x, module = call.x, norm.module
    is_torchs = norm.known is not None and norm.known.library == "torch"
    if is_torchs and isinstance(module, nn.InstanceNorm1d):
        facts.wrong_axis = x.dim() == 2
    if is_torchs and x.dim() == 3 and isinstance(module, nn.BatchNorm1d | nn.InstanceNorm1d):
        facts.wrong_axis = call.longest == x.shape[1] != x.shape[2]
    if facts.reach == "row":
        return
    arguments = (*call.args, *call.kwargs.values())
    masked = any(isinstance(value, Tensor) and value.dtype == torch.bool for value in arguments)
    if call.real is not None and not masked:
        facts.padding = float((~call.real).double().mean())
    elif call.rows_are in ("padded", "sequence") and not masked:
        facts.padding = 1 - call.nodes / (call.graphs * call.longest)


def _of_running_statistics(norm: Norm, facts: NormFacts) -> None:
    holder = holder_of(norm.module)
    mean, var = (getattr(holder, name, None) for name in ("running_mean", "running_var"))
    if not (isinstance(mean, Tensor) and isinstance(var, Tensor)):
        return
    counter = getattr(holder, "num_batches_tracked", None)
    untouched = bool((mean == 0).all() and (var == 1).all())
    if isinstance(counter, Tensor):
        facts.steps = int(counter)
    else:
        facts.steps = 0 if untouched else None
    # A channel dimension is the second one in torch's layout of three.
    parts = [each.x.movedim(1, -1) if each.x.dim() == 3 else each.x for each in norm.calls]
    rows = torch.cat([_rows(part) for part in parts])
    if rows.shape[1] != mean.shape[0] or var.shape != mean.shape or rows.shape[0] < 2:
        return
    deviation = rows.std(0, correction=0)
    wanted = deviation > _SAME * rows.square().mean(0).sqrt()
    if not wanted.any():
        return
    gap = (mean.double() - rows.mean(0)).abs()[wanted] / deviation[wanted]
    facts.mean_gap = float(gap.square().mean().sqrt())
    ratio = (var.double()[wanted].clamp(min=1e-30).sqrt() / deviation[wanted]).log().abs()
    facts.scale_gap = float(ratio.mean().exp())
    call = norm.calls[0]
    with torch.no_grad(), quiet():
        train, evaluated = (call.repeat(fresh(norm, training=mode)) for mode in (True, False))
    facts.eval_gap = difference(train, evaluated)


def _of_channels(norm: Norm, facts: NormFacts) -> None:
    x = torch.cat([_rows(each.x) for each in norm.calls])
    y = torch.cat([_rows(each.y) for each in norm.calls])
    if x.shape[0] < 2 or x.shape[1] != y.shape[1]:
        return
    facts.finite = bool(y.isfinite().all()) or not bool(x.isfinite().all())
    facts.largest = float(x.abs().max())
    facts.constant = float((_deviation(y) <= _SAME * (rms(y) or 1.0)).double().mean())
    facts.constant_before = float((_deviation(x) <= _SAME * (rms(x) or 1.0)).double().mean())
    if norm.followed:
        facts.never_positive = float((y <= 0).all(0).double().mean())


def _deviation(x: Tensor) -> Tensor:
    return (x - x.mean(0)).square().mean(0).sqrt()


def _of_information(call: Call, facts: NormFacts) -> None:
    segments = call.segments
    if segments is None or call.x.dim() != 2 or call.y.shape != call.x.shape:
        return
    x, y = call.x.double(), call.y.double()
    edges = call.example.edge_index
    if edges is not None and edges.numel() and int(edges.max()) < x.shape[0]:
        degree = torch.bincount(edges[1], minlength=x.shape[0]).double().log1p()
        facts.degree_before, facts.degree_after = (_explained(part, degree) for part in (x, y))
    full = segments.counts > 1
    if int(full.sum()) < 4:
        return
    for part, which in ((x, "before"), (y, "after")):
        setattr(facts, f"between_{which}", _between(part, segments))
        size = readout(part.square().mean(1, keepdim=True), segments, "mean")[full].sqrt()
        logs = size.clamp(min=1e-12).log()
        setattr(facts, f"scale_{which}", float(logs.std(correction=0)))


def _between(x: Tensor, segments: Segments) -> float | None:
    """Return the share of the variance that is between the means of graphs, for noise 0."""
    graphs, rows = int((segments.counts > 0).sum()), x.shape[0]
    if rows <= graphs + 1:
        return None
    means = readout(x, segments, "mean")
    within = (x - means[segments.index]).square().sum(0)
    total = (x - x.mean(0)).square().sum(0)
    wanted = total > _SAME**2 * x.square().sum().clamp(min=1e-300) / x.shape[1]
    if not wanted.any():
        return None
    share = 1 - (within[wanted] / (rows - graphs)) / (total[wanted] / (rows - 1))
    return float((share * total[wanted]).sum() / total[wanted].sum())


def _explained(x: Tensor, target: Tensor) -> float | None:
    """Return R² of a linear function of x on every other row, fitted on the rest, at least 0."""
    order = torch.randperm(x.shape[0], generator=torch.Generator().manual_seed(0))
    half = order.shape[0] // 2
    fit, held = order[:half].to(x.device), order[half:].to(x.device)
    if half < 4 * (x.shape[1] + 1) or float(target.std()) < 0.05:
        return None
    z = (x - x[fit].mean(0)) / x[fit].std(0).clamp(min=1e-3 * (rms(x) or 1.0))
    centred = target - target[fit].mean()
    gram = z[fit].T @ z[fit] + 1e-3 * half * torch.eye(z.shape[1]).to(z)
    weights = torch.linalg.solve(gram, z[fit].T @ centred[fit])
    rest = (centred[held] - z[held] @ weights).square().sum() / centred[held].square().sum()
    return max(0.0, float(1 - rest))


def _of_zero_rows(norm: Norm, call: Call, facts: NormFacts) -> None:
    flat = call.x.reshape(call.x.shape[0], -1)
    zero = (flat == 0).all(1)
    facts.zero_rows = float(zero.double().mean()) if zero.numel() else 0.0
    if not zero.any() or zero.all() or not call.x.isfinite().all():
        return
    x = call.x.clone().requires_grad_()
    with torch.enable_grad(), quiet():
        y = call.repeat(fresh(norm), x)
        push = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y)
        gradient = None
        if y.requires_grad:
            (gradient,) = torch.autograd.grad((y * push).sum(), x)
    facts.zero_rows_gradient = bool(y.isfinite().all()) and (
        gradient is None or bool(gradient.isfinite().all())
    )


def _of_precision(norm: Norm, call: Call, facts: NormFacts) -> None:
    if not call.x.isfinite().all():
        return
    if call.x.dtype in _LOW:
        facts.own_error = _error(norm, call, torch.float32, call.x.dtype)
    elif call.x.dtype == torch.float32:
        facts.float16_error = _error(norm, call, torch.float32, torch.float16)
        facts.bfloat16_error = _error(norm, call, torch.float32, torch.bfloat16)


def _error(norm: Norm, call: Call, wide: torch.dtype, low: torch.dtype) -> float | None:
    """Return the RMS of the difference of results in two precisions, relative to those in one."""
    results = []
    with torch.no_grad(), quiet():
        for dtype in (wide, low):
            try:
                x = call.x.to(dtype)
                results.append(call.repeat(fresh(norm).to(dtype), x, **_in(call, dtype)))
            except (RuntimeError, NotImplementedError, ValueError):  # not on this device
                return None
    return difference(*results) if results[1].isfinite().all() else math.inf


def _in(call: Call, dtype: torch.dtype) -> dict[str, Any]:
    return {
        name: value.to(dtype)
        for name, value in call.named().items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }


def _of_biases(norm: Norm, call: Call, facts: NormFacts) -> None:
    """A bias is idle if the norm removes a shift of each channel and learns no share of it."""
    if not norm.behind or facts.learns_shift or facts.reach == "row":
        return
    shift = torch.linspace(-1, 2, call.x.shape[-1], dtype=torch.float64) * (rms(call.x) or 1.0)
    with torch.no_grad(), quiet():
        y, other = (call.repeat(fresh(norm), x) for x in (call.x, call.x + shift.to(call.x)))
    if difference(y, other) < 10 * _SAME:
        facts.idle_biases = tuple(norm.behind)


def size_error(norm: Norm, call: Call) -> float | None:
    """Merge graphs pairwise into one, and return the change of the results, see `NormFacts`."""
    if call.segments is None or call.graphs < 2:
        return None
    merged = call.segments.index // 2
    given: dict[str, Any] = {}
    for name, value in call.given_batch().items():
        given[name] = Segments.from_batch(merged) if isinstance(value, Segments) else merged
    for name, value in call.named().items():
        if isinstance(value, int) and value == call.graphs:
            given[name] = int(merged.max()) + 1
    with torch.no_grad(), quiet():
        return difference(call.repeat(fresh(norm)), call.repeat(fresh(norm), **given))
