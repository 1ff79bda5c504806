"""Calls of the kernels with every tensor in turn without memory: `python -m … cpu` or `triton`.

A process of its own, because a kernel that takes such an address ends it. Each call is a line: what
was called, the tensor, how it lost its memory, and the error. With `noted` instead: whether numbers
are read right that torch has not written out.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels.aggregation.operands import Edges, Weights
from graphnorms.kernels.cpu import aggregate, gather, normalize
from graphnorms.kernels.point import NO_STATISTICS, Averages, Call
from graphnorms.kernels.triton import aggregate as triton_aggregate
from graphnorms.kernels.triton import normalize as triton_normalize
from graphnorms.models.linear import Linear
from graphnorms.segments import Segments
from tests.interpreter import choose_interpreter
from tests.operands import (
    run_aggregate,
    run_aggregate_backward,
    run_backward,
    run_double_backward,
    run_forward,
)

ROWS, CHANNELS, SEGMENTS, EDGES = 5, 4, 2, 3
BACKENDS: dict[str, tuple[Any, Any]] = {
    "cpu": (normalize, aggregate),
    "triton": (triton_normalize, triton_aggregate),
}
Arguments = dict[str, Any]


def whole(tensor: Tensor) -> Tensor:
    """A tensor whose storage was freed."""
    return _free(tensor.clone())


def part(tensor: Tensor) -> Tensor:
    """A tensor in the midst of a storage that was freed, as FSDP1 has its parameters."""
    room = torch.zeros(7 + tensor.untyped_storage().nbytes(), dtype=tensor.dtype)
    return _free(room.as_strided(tensor.shape, tensor.stride(), 7))


def _free(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().resize_(0)
    return tensor


def calls(backend: str) -> Iterator[tuple[str, Callable[..., object], Arguments]]:
    """Every function of a backend, with arguments that fit."""
    norm, edges = BACKENDS[backend]
    for dtype, layout in ((torch.float32, "rows"), (torch.bfloat16, "columns")):
        rows = torch.ones(ROWS, CHANNELS, dtype=dtype)
        if layout == "columns":  # copied, and the parameters converted
            rows = torch.ones(CHANNELS, ROWS, dtype=dtype).T
        vector, scalars = torch.ones(CHANNELS, dtype=dtype), torch.ones(SEGMENTS * CHANNELS * 3)
        for own in (False, True):
            affine = torch.ones(SEGMENTS, CHANNELS, dtype=dtype) if own else vector
            both: Arguments = {
                "x": rows,
                "ptr": torch.tensor([0, 2, ROWS]),
                "order": torch.arange(ROWS),
                "seed": torch.tensor(3),
                "mean_scale": vector,
                "weight": affine,
                "bias": affine,
                "center": 1,
                "scale": 1,
                "groups": 1,
                "eps": 1e-5,
                "activation": 1,
                "dropout": 0.5,
                "masked": False,
            }
            forward = both | {"residual": rows, "moment": True}
            yield f"forward {layout} {own}", functools.partial(run_forward, norm), forward
            backward = both | {"grad_y": rows, "statistics": scalars, "needs": [True] * 4}
            yield f"backward {layout} {own}", functools.partial(run_backward, norm), backward
            double = both | {"of_grad_x": rows, "grad_y": rows, "statistics": scalars}
            double |= {f"of_grad_{name}": both[name] for name in ("mean_scale", "weight", "bias")}
            run = functools.partial(run_double_backward, norm)
            yield f"double backward {layout} {own}", run, double
        both = {
            "x": rows,
            "ptr": torch.tensor([0, 1, 1, 2, 2, EDGES]),
            "index": torch.arange(EDGES),
            "order": torch.arange(EDGES),
            "self_weight": 1.0,
        }
        weighted = both | {
            "node_scale": torch.ones(ROWS, dtype=dtype),
            "edge_weight": torch.ones(EDGES, dtype=dtype),
            "edge_features": None,
        }
        messages = both | {"node_scale": None, "edge_weight": None, "edge_features": rows[:EDGES]}
        for name, given in (("weights", weighted), ("features", messages)):
            yield f"aggregate {layout} {name}", functools.partial(run_aggregate, edges), given
            backward = given | {"grad_y": rows, "needs": [True, True]}
            run = functools.partial(run_aggregate_backward, edges)
            yield f"aggregate_backward {layout} {name}", run, backward
    if backend == "cpu":
        statistics = torch.ones(3 * CHANNELS)
        yield (
            "update_running",
            normalize.update_running,
            {
                "x": torch.ones(ROWS, CHANNELS),
                "statistics": statistics,
                "running_mean": torch.ones(CHANNELS),
                "running_var": torch.ones(CHANNELS),
                "num_batches_tracked": torch.tensor(0),
                "momentum": 0.1,
            },
        )
        yield (
            "normalize_by_averages",
            _by_averages,
            {
                "x": torch.ones(ROWS, CHANNELS),
                "residual": torch.ones(ROWS, CHANNELS),
                "ptr": torch.tensor([0, ROWS]),
                "weight": torch.ones(CHANNELS),
                "bias": torch.ones(CHANNELS),
                "mean": torch.ones(CHANNELS),
                "var": torch.ones(CHANNELS),
            },
        )
        for dtype in (torch.float32, torch.uint8):
            yield (
                f"gather {dtype}",
                _gather,
                {
                    "table": torch.tensor([[0, 2], [0, 2], [2, 1], [2, 0]]),
                    "x": torch.ones(3, CHANNELS, dtype=dtype),
                    "width": CHANNELS,
                    "edge_ptr": torch.tensor([0, 1, 2, 2]),
                    "edge_index": torch.tensor([1, 0]),
                    "transpose_ptr": torch.tensor([0, 1, 2, 2]),
                    "transpose_index": torch.tensor([1, 0]),
                },
            )


def _by_averages(
    *,
    x: Tensor,
    residual: Tensor,
    ptr: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
) -> Tensor:
    call = Call(Segments(ptr, None, ROWS), NO_STATISTICS)
    affine = (None, weight, bias)
    return normalize.normalize_by_averages(x, residual, affine, call, Averages(mean, var))


def _gather(
    *,
    edge_ptr: Tensor,
    edge_index: Tensor,
    transpose_ptr: Tensor,
    transpose_index: Tensor,
    **given: Any,
) -> object:
    return gather.gather(
        **given, edges=(edge_ptr, edge_index), transpose=(transpose_ptr, transpose_index)
    )


def of_layers() -> Iterator[tuple[str, str, Callable[[], object]]]:
    """What users call: a layer, and its backward when what it has saved was freed since."""
    ids = torch.tensor([0, 0, 1, 1, 1])
    for name in ("weight", "bias", "mean_scale"):
        layer = gn.GraphNorm(CHANNELS)
        _free(getattr(layer, name).data)
        yield "layer", name, lambda layer=layer: layer(torch.ones(ROWS, CHANNELS), ids)
    for name in ("x", "weight"):
        layer, x = gn.GraphNorm(CHANNELS), torch.ones(ROWS, CHANNELS, requires_grad=True)
        loss = layer(x, ids).sum()
        _free((x if name == "x" else layer.weight).data)
        yield "backward of a layer", name, loss.backward
    for name in ("weight", "bias"):
        linear = Linear(CHANNELS, CHANNELS)
        _free(getattr(linear, name).data)
        yield "linear map", name, lambda linear=linear: linear(torch.ones(ROWS, CHANNELS))
    layer = gn.BatchNorm(CHANNELS)
    _free(layer.module.running_var)
    yield "running averages", "running_var", lambda: layer(torch.ones(ROWS, CHANNELS))


def _one_call(x: Tensor, ids: Tensor, grad_y: Tensor, weight: Tensor) -> list[Tensor]:
    segments = gn.Segments.from_batch(ids, 2)
    rest: Arguments = {
        "ptr": segments.ptr,
        "order": segments.order,
        "seed": None,
        "mean_scale": None,
        "weight": weight,
        "bias": None,
        "center": 1,
        "scale": 1,
        "groups": 1,
        "eps": 1e-5,
        "activation": 0,
        "dropout": 0.0,
        "masked": False,
    }
    y, statistics = run_forward(normalize, x=x, residual=None, moment=False, **rest)
    grads = run_backward(
        normalize,
        grad_y=grad_y,
        x=x,
        statistics=statistics,
        needs=[True, False, True, False],
        **rest,
    )
    edges = Edges(torch.tensor([0, 1, 1, 2, 2, 3]), torch.tensor([1, 0, 4]))
    weights = Weights(edge_weight=weight[:3], self_weight=0.5)
    found = aggregate.aggregate(x, edges, weights)
    edge = aggregate.aggregate_backward(grad_y, x, edges, weights, [True, True])
    return [y, statistics, *(grad for grad in grads if grad is not None), found, *edge]


def of_noted() -> Iterator[tuple[str, str, str]]:
    """Whether zeros, and a sign that torch has noted beside them, are read as numbers are."""
    draw = torch.Generator().manual_seed(0)
    given = {
        "x": torch.randn(5, 4, generator=draw),
        "grad_y": torch.randn(5, 4, generator=draw),
        "weight": torch.randn(4, generator=draw),
    }
    ids = torch.tensor([0, 1, 0, 1, 1])
    for kind in ("zeros", "sign"):
        for names in (["x"], ["grad_y"], ["weight"], list(given)):
            noted, written = dict(given), dict(given)
            for name in names:
                if kind == "zeros":
                    noted[name] = torch._efficientzerotensor(given[name].shape)
                    written[name] = torch.zeros(given[name].shape)
                else:
                    noted[name] = torch.complex(given[name], given[name]).conj().imag
                    written[name] = -given[name]
            pairs = zip(_one_call(ids=ids, **noted), _one_call(ids=ids, **written), strict=True)
            same = all(torch.equal(one, other) for one, other in pairs)
            yield kind, ",".join(names), "same" if same else "differs"


def _error(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def main(what: str) -> None:
    """Make the calls."""
    if what == "noted":
        for kind, names, found in of_noted():
            print("noted", names, kind, found, sep="\t", flush=True)
        return
    if what == "triton":
        choose_interpreter()
    for label, run, given in calls(what):
        run(**given)
        for name, tensor in given.items():
            if not isinstance(tensor, Tensor):
                continue
            for free in (whole, part):
                print(label, name, free.__name__, sep="\t", end="\t", flush=True)
                changed = given | {name: free(tensor)}
                print(_error(lambda run=run, changed=changed: run(**changed)), flush=True)
    if what == "cpu":
        for label, name, call in of_layers():
            print(label, name, "whole", _error(call), sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
