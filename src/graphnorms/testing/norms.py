"""The battery for a normalization layer, one's own or another library's."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from graphnorms.testing.awkward import awkward_cases
from graphnorms.testing.tolerance import tolerance
from graphnorms.testing.violations import Violations

MakeNorm = Callable[[int], nn.Module]

_BATCH = (2, 0, 2, 1, 0, 2, 2, 1, 2)
"""Unsorted, of three graphs of 2, 2 and 5 nodes."""


def check_norm(
    make: MakeNorm,
    *,
    per_graph: bool = True,
    skip: tuple[str, ...] = (),
) -> None:
    """Run the battery on a normalization called as `layer(x, batch, batch_size)`.

    Every check is run, and everything that is violated is named. The checks, by the names that
    `skip` takes:

    - `"call"`: shape and dtype of the result, no change of the input, the same in train and eval
      mode twice in a row.
    - `"batch"`: no batch is one graph; int32 ids are those of int64.
    - `"order"`: permuting the nodes permutes the result; the batch need not be sorted.
    - `"graphs"`: every graph by itself gives what it gives in the batch (with `per_graph`).
    - `"nan"`: a NaN in one graph leaves the others alone (with `per_graph`).
    - `"awkward"`: no rows, one row, empty graphs, strides, large means: finite and right to the
      tolerance of the dtype, judged by the layer itself in float64.
    - `"half"`: bfloat16 and float16, long graphs and large values among them, likewise.
    - `"gradients"`: first and second derivatives against finite differences.
    - `"state"`: deepcopy, state_dict and reset_parameters.
    - `"errors"`: a wrong width and a batch of another length are refused.
    - `"compile"`: `torch.compile(fullgraph=True)` runs and agrees.

    Args:
        make: Builds the layer from a number of channels, in float32, parameters as they come.
        per_graph: Whether graphs are independent, as they are not for BatchNorm.
        skip: Checks to leave out.

    Raises:
        ConformanceError: Something is violated; the message has a line for each.
        ValueError: `skip` names no check.
    """
    violations = Violations(type(make(4)).__name__, _CHECKS, skip)
    for name, check in _CHECKS.items():
        if name in ("graphs", "nan") and not per_graph:
            continue
        violations.run(name, check, make)
    violations.raise_if_any()


def _features(rows: int, channels: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, channels, generator=generator, dtype=torch.float64)


def _layer(make: MakeNorm, channels: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A layer in training mode with parameters away from 0 and 1, given what it takes."""
    torch.manual_seed(0)
    layer = make(channels).to(dtype).train()
    if "batch" not in inspect.signature(layer.forward).parameters:
        layer = _WithoutBatch(layer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise.to(dtype) * 0.5)
    return layer


class _WithoutBatch(nn.Module):
    """A layer that takes features alone, as BatchNorm may."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()  # type: ignore[operator]

    def forward(self, x: Tensor, batch: Tensor | None = None, size: int | None = None) -> Tensor:
        y: Tensor = self.layer(x)
        return y


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or not torch.isfinite(a).all():
        return float("inf")
    return float((a.double() - b.double()).detach().abs().max()) if a.numel() else 0.0


def _call(make: MakeNorm) -> Iterator[str]:
    for dtype in (torch.float32, torch.float64):
        layer = _layer(make, 6, dtype)
        x, batch = _features(9, 6).to(dtype), torch.tensor(_BATCH)
        before = x.clone()
        y = layer(x, batch, 3)
        if y.shape != x.shape or y.dtype != dtype:
            yield f"the result for (9, 6) of {dtype} is {tuple(y.shape)} of {y.dtype}"
        if not torch.equal(x, before):
            yield "the input is changed"
        layer.eval()
        if _difference(layer(x, batch, 3), layer(x, batch, 3)):
            yield "eval mode gives another result the second time"


def _batch(make: MakeNorm) -> Iterator[str]:
    x, batch = _features(9, 6), torch.tensor(_BATCH)
    one = _difference(_layer(make, 6)(x), _layer(make, 6)(x, torch.zeros_like(batch), 1))
    if not one < 1e-9:
        yield f"no batch is off from a batch of zeros by {one:.1e}"
    narrow = _difference(_layer(make, 6)(x, batch.int(), 3), _layer(make, 6)(x, batch, 3))
    if not narrow < 1e-9:
        yield f"ids of int32 are off from those of int64 by {narrow:.1e}"


def _order(make: MakeNorm) -> Iterator[str]:
    x, batch = _features(9, 6), torch.tensor(_BATCH)
    order = torch.argsort(batch, stable=True)
    y, z = _layer(make, 6)(x, batch, 3), _layer(make, 6)(x[order], batch[order], 3)
    error = _difference(y[order], z)
    if not error < 1e-9:
        yield f"an unsorted batch is off from the same nodes sorted by {error:.1e}"


def _graphs(make: MakeNorm) -> Iterator[str]:
    x, batch = _features(9, 6), torch.tensor(_BATCH)
    y = _layer(make, 6)(x, batch, 3)
    for graph in range(3):
        alone = _layer(make, 6)(x[batch == graph])
        error = _difference(y[batch == graph], alone)
        if not error < 1e-9:
            yield f"graph {graph} of the batch is off from the same graph alone by {error:.1e}"


def _nan(make: MakeNorm) -> Iterator[str]:
    x, batch = _features(9, 6), torch.tensor(_BATCH)
    clean = _layer(make, 6)(x, batch, 3)
    for poison in (float("nan"), float("inf")):
        bad = x.clone()
        bad[3, 2] = poison
        others = batch != batch[3]
        if _difference(_layer(make, 6)(bad, batch, 3)[others], clean[others]):
            yield f"{poison} in one graph changes others"


def _awkward(make: MakeNorm) -> Iterator[str]:
    yield from _against_itself(make, torch.float32)


def _half(make: MakeNorm) -> Iterator[str]:
    for dtype in (torch.bfloat16, torch.float16):
        yield from _against_itself(make, dtype)
        for rows, mean, std, words in (
            (3000, 30.0, 1.0, "3000 rows of mean 30"),
            (3000, 0.0, 300.0, "3000 rows of spread 300"),
            (5000, 0.0, 1.0, "5000 rows"),
        ):
            x = (_features(rows, 4) * std + mean).to(dtype)
            yield from _compare(make, dtype, words, x, None, 1)


def _against_itself(make: MakeNorm, dtype: torch.dtype) -> Iterator[str]:
    for case in awkward_cases(dtype):
        yield from _compare(make, dtype, case.name, case.x, case.batch, case.batch_size)


def _compare(
    make: MakeNorm, dtype: torch.dtype, words: str, x: Tensor, batch: Tensor | None, size: int
) -> Iterator[str]:
    """Say where a layer in a dtype is off from itself in float64 on the same numbers."""
    wide = torch.promote_types(dtype, torch.float32)
    layer, exact = _layer(make, x.shape[1], wide), _layer(make, x.shape[1])
    exact.load_state_dict(layer.state_dict())
    graphs = (batch, size) if batch is not None else ()
    try:
        y, z = layer(x, *graphs).detach(), exact(x.double(), *graphs).detach()
    except ValueError as refusal:
        if x.shape[0] > 1:
            yield f"{words} in {dtype}: {refusal}"
        return  # one row or none may be refused, as BatchNorm must
    except Exception as error:
        yield f"{words} in {dtype}: raises {type(error).__name__}: {error}"
        return
    if y.dtype != dtype:
        yield f"{words}: the result of {dtype} is {y.dtype}"
    largest = float(z.abs().max()) if z.numel() else 0.0
    if largest > torch.finfo(dtype).max:
        return  # the right result is beyond what the dtype has
    allowed = 2 * tolerance(dtype, max(x.numel(), 1)) * max(1.0, largest)
    off = _difference(y, z)
    if not off <= allowed:
        yield f"{words} in {dtype}: off from float64 by {off:.1e}, allowed {allowed:.1e}"


def _gradients(make: MakeNorm) -> Iterator[str]:
    layer = _layer(make, 3)
    batch = torch.tensor(_BATCH)
    x = _features(9, 3, seed=2).requires_grad_()
    for words, check in (
        ("the first", torch.autograd.gradcheck),
        ("the second", torch.autograd.gradgradcheck),
    ):
        if not check(lambda x: layer(x, batch, 3), (x,), raise_exception=False):
            yield f"{words} derivative is off from finite differences"


def _state(make: MakeNorm) -> Iterator[str]:
    x, batch = _features(9, 6), torch.tensor(_BATCH)
    layer = _layer(make, 6).eval()
    fresh = _layer(make, 6).eval()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(layer.state_dict())
    for words, twin in (("a deepcopy", copy.deepcopy(layer)), ("its state_dict", fresh)):
        if _difference(twin(x, batch, 3), layer(x, batch, 3)):
            yield f"{words} gives another result"
    reset = getattr(layer, "reset_parameters", None)
    if not callable(reset):
        yield "there is no reset_parameters()"


def _errors(make: MakeNorm) -> Iterator[str]:
    layer = _layer(make, 6)
    x, batch = _features(9, 6), torch.tensor(_BATCH)
    wrong = [("features of 5 channels in place of 6", (x[:, :5], batch, 3))]
    if _difference(layer(x, batch, 3), layer(x)):  # else it need not look at the batch
        wrong += [
            ("a batch of 8 ids for 9 nodes", (x, batch[:8], 3)),
            ("an id of 7 among 3 graphs", (x, batch + 5, 3)),
        ]
    for words, arguments in wrong:
        try:
            layer(*arguments)
        except (ValueError, IndexError, RuntimeError):
            continue
        yield f"{words}: no error"


def _compile(make: MakeNorm) -> Iterator[str]:
    x, batch = _features(9, 6), torch.tensor(_BATCH)
    torch.compiler.reset()
    compiled = torch.compile(_layer(make, 6), fullgraph=True, backend="aot_eager")
    error = _difference(compiled(x, batch, 3), _layer(make, 6)(x, batch, 3))
    if not error < 1e-9:
        yield f"compiled, it is off by {error:.1e}"


_CHECKS: dict[str, Callable[[MakeNorm], Iterator[str]]] = {
    "call": _call,
    "batch": _batch,
    "order": _order,
    "graphs": _graphs,
    "nan": _nan,
    "awkward": _awkward,
    "half": _half,
    "gradients": _gradients,
    "state": _state,
    "errors": _errors,
    "compile": _compile,
}
