"""The conformance checks for a normalization layer, user-defined or of another library."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphnorms.testing.awkward import awkward_cases
from graphnorms.testing.norm_samples import (
    BATCH,
    Adapter,
    Given,
    MakeNorm,
    NormUnderTest,
    Sample,
    features,
)
from graphnorms.testing.tolerance import tolerance
from graphnorms.testing.violations import Violations


def check_norm(
    make: MakeNorm,
    *,
    per_graph: bool = True,
    given: Given | None = None,
    components: int | None = None,
    skip: tuple[str, ...] = (),
) -> None:
    """Check a normalization that is called as `layer(x, batch, batch_size, **given)`.

    All checks run, and all violations are reported. The checks, by the names for `skip`:

    - `"call"`: shape and dtype of the result, unchanged input, reproducible results in eval mode.
    - `"batch"`: no batch means one graph; int32 ids give the same result as int64.
    - `"order"`: permuting the nodes permutes the result; the batch need not be sorted.
    - `"graphs"`: every graph has the same result alone and in the batch (with `per_graph`).
    - `"nan"`: a NaN in one graph does not affect the others (with `per_graph`).
    - `"mask"`: masked rows are passed through and have no influence (for a layer that takes
      `mask`).
    - `"awkward"`: no rows, one row, empty graphs, strides, large means: finite, and equal to the
      layer itself in float64 within the tolerance of the dtype.
    - `"half"`: likewise in bfloat16 and float16, including long graphs and large values.
    - `"autocast"`: the result has the dtype of the features and about the same values.
    - `"gradients"`: first and second derivatives by features, parameters and floating tensors in
      `given`, against finite differences.
    - `"state"`: deepcopy, state_dict and reset_parameters.
    - `"errors"`: a wrong width and a batch of another length raise errors.
    - `"compile"`: `torch.compile(fullgraph=True)` runs with the same results, gradients and
      buffers.

    Args:
        make: Builds the layer in float32 from a number of channels.
        per_graph: Whether graphs are independent, unlike in BatchNorm.
        given: Makes further keyword arguments of the layer from the graph of each node, the number
            of graphs and the number of nodes: float64 tensors with a row per node or graph, or an
            `Adjacency`.
        components: For a layer of features `(nodes, components, channels)`, such as
            `EquivariantRMSNorm`: their number.
        skip: Checks to leave out.

    Raises:
        ConformanceError: There are violations; the message has a line for each.
        ValueError: `skip` contains an unknown name.
    """
    norm = NormUnderTest(make, given or (lambda batch, size, rows: {}), components)
    violations = Violations(type(make(4)).__name__, _CHECKS, skip)
    for name, check in _CHECKS.items():
        if name in ("graphs", "nan") and not per_graph:
            continue
        violations.run(name, check, norm)
    violations.raise_if_any()


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or not torch.isfinite(a).all():
        return float("inf")
    return float((a.double() - b.double()).detach().abs().max()) if a.numel() else 0.0


def _call(norm: NormUnderTest) -> Iterator[str]:
    for dtype in (torch.float32, torch.float64):
        layer, some = norm.layer(6, dtype), norm.some(dtype=dtype)
        before = some.x.clone()
        y = some.run(layer)
        if y.shape != some.x.shape or y.dtype != dtype:
            yield f"the result for (9, 6) of {dtype} is {tuple(y.shape)} of {y.dtype}"
        if not torch.equal(some.x, before):
            yield "the input is changed"
        layer.eval()
        if _difference(some.run(layer), some.run(layer)):
            yield "the second call in eval mode gives another result"


def _batch(norm: NormUnderTest) -> Iterator[str]:
    x = features(9, 6)
    without = norm.sample(x)
    zeros = replace(without, batch=torch.zeros(9, dtype=torch.int64))
    one = _difference(without.run(norm.layer(6)), zeros.run(norm.layer(6)))
    if not one < 1e-9:
        yield f"no batch is off from a batch of zeros by {one:.1e}"
    some = norm.some()
    assert some.batch is not None
    int32 = replace(some, batch=some.batch.int())
    narrow = _difference(int32.run(norm.layer(6)), some.run(norm.layer(6)))
    if not narrow < 1e-9:
        yield f"ids of int32 are off from those of int64 by {narrow:.1e}"


def _order(norm: NormUnderTest) -> Iterator[str]:
    some = norm.some()
    assert some.batch is not None
    order = torch.argsort(some.batch, stable=True)
    error = _difference(some.run(norm.layer(6))[order], some.take(order).run(norm.layer(6)))
    if not error < 1e-9:
        yield f"an unsorted batch is off from the same nodes sorted by {error:.1e}"


def _graphs(norm: NormUnderTest) -> Iterator[str]:
    some = norm.some()
    y = some.run(norm.layer(6))
    for graph in range(3):
        error = _difference(y[some.batch == graph], some.graph(graph).run(norm.layer(6)))
        if not error < 1e-9:
            yield f"graph {graph} of the batch is off from the same graph alone by {error:.1e}"


def _nan(norm: NormUnderTest) -> Iterator[str]:
    some = norm.some()
    assert some.batch is not None
    clean = some.run(norm.layer(6))
    for poison in (float("nan"), float("inf")):
        bad = some.x.clone()
        bad[3, 2] = poison
        others = some.batch != some.batch[3]
        if _difference(some.of(bad).run(norm.layer(6))[others], clean[others]):
            yield f"{poison} in one graph changes others"


def _mask(norm: NormUnderTest) -> Iterator[str]:
    layer, twin = norm.layer(6), norm.layer(6)
    inner = layer.layer if isinstance(layer, Adapter) else layer
    if "mask" not in inspect.signature(inner.forward).parameters:
        return
    some = norm.some()
    mask = torch.arange(9) % 3 != 1
    counted = some.take(mask.nonzero()[:, 0])
    grad_y = features(9, 6, seed=4)
    bad = torch.where(mask.unsqueeze(1), some.x, torch.nan).requires_grad_()
    small = counted.x.requires_grad_()
    y = some.of(bad).run(layer, mask=mask)
    expected = counted.run(twin)
    if not torch.isnan(y[~mask]).all():
        yield "masked rows are changed"
    (grad,) = torch.autograd.grad(y, bad, grad_y)
    (wanted,) = torch.autograd.grad(expected, small, grad_y[mask])
    for words, got, right in (
        ("the result", y[mask], expected),
        ("the gradient", grad[mask], wanted),
        ("the gradient of a masked row", grad[~mask], grad_y[~mask]),
        *(
            (f"buffer {name}", value, twin.get_buffer(name))
            for name, value in layer.named_buffers()
            if value.is_floating_point()
        ),
    ):
        error = _difference(got, right)
        if not error < 1e-9:
            yield f"{words} is off from that without the masked rows by {error:.1e}"


def _awkward(norm: NormUnderTest) -> Iterator[str]:
    yield from _against_itself(norm, torch.float32)


def _half(norm: NormUnderTest) -> Iterator[str]:
    for dtype in (torch.bfloat16, torch.float16):
        yield from _against_itself(norm, dtype)
        for rows, mean, std, words in (
            (3000, 30.0, 1.0, "3000 rows of mean 30"),
            (3000, 0.0, 300.0, "3000 rows of spread 300"),
            (5000, 0.0, 1.0, "5000 rows"),
        ):
            x = (features(rows, 4) * std + mean).to(dtype)
            yield from _compare(norm, words, norm.sample(x))


def _against_itself(norm: NormUnderTest, dtype: torch.dtype) -> Iterator[str]:
    for case in awkward_cases(dtype):
        yield from _compare(norm, case.name, norm.sample(case.x, case.batch, case.batch_size))


def _compare(norm: NormUnderTest, words: str, sample: Sample) -> Iterator[str]:
    """Compare a layer in some dtype with itself in float64 on the same input."""
    x, dtype = sample.x, sample.x.dtype
    wide = torch.promote_types(dtype, torch.float32)
    layer, exact = norm.layer(x.shape[1], wide), norm.layer(x.shape[1])
    exact.load_state_dict(layer.state_dict())
    try:
        y, z = sample.run(layer).detach(), sample.of(x.double()).run(exact).detach()
    except ValueError as refusal:
        if x.shape[0] > 1:
            yield f"{words} in {dtype}: {refusal}"
        return  # layers like BatchNorm may refuse one row or none
    except Exception as error:
        yield f"{words} in {dtype}: raises {type(error).__name__}: {error}"
        return
    if y.dtype != dtype:
        yield f"{words}: the result of {dtype} is {y.dtype}"
    largest = float(z.abs().max()) if z.numel() else 0.0
    if largest > torch.finfo(dtype).max:
        return  # the exact result overflows the dtype
    allowed = 2 * tolerance(dtype, max(x.numel(), 1)) * max(1.0, largest)
    off = _difference(y, z)
    if not off <= allowed:
        yield f"{words} in {dtype}: off from float64 by {off:.1e}, allowed {allowed:.1e}"


def _autocast(norm: NormUnderTest) -> Iterator[str]:
    for dtype in (torch.float32, torch.bfloat16):
        some = norm.some(dtype=dtype)
        plain = some.run(norm.layer(6, torch.float32)).detach()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = some.run(norm.layer(6, torch.float32)).detach()
        if y.dtype != dtype:
            yield f"the result of {dtype} is {y.dtype}"
        allowed = 0.05 * max(1.0, float(plain.abs().max()))
        if not _difference(y, plain) <= allowed:
            yield f"in {dtype} it is off by {_difference(y, plain):.1e}, allowed {allowed:.1e}"


def _gradients(norm: NormUnderTest) -> Iterator[str]:
    layer = norm.layer(3)
    some = norm.sample(features(9, 3, seed=2), torch.tensor(BATCH), 3)
    own = {name: value.detach() for name, value in layer.named_parameters()}
    floats = {
        name: value
        for name, value in some.more.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }

    def call(x: Tensor, *values: Tensor) -> Tensor:
        more = some.more | dict(zip(floats, values[len(own) :], strict=True))
        state = dict(zip(own, values[: len(own)], strict=True))
        y: Tensor = torch.func.functional_call(layer, state, (x, some.batch, some.size), more)
        return y

    inputs = [value.clone().requires_grad_() for value in (some.x, *own.values(), *floats.values())]
    for words, check in (
        ("the first", torch.autograd.gradcheck),
        ("the second", torch.autograd.gradgradcheck),
    ):
        if not check(call, inputs, raise_exception=False):
            yield f"{words} derivative is off from finite differences"


def _state(norm: NormUnderTest) -> Iterator[str]:
    some = norm.some()
    layer = norm.layer(6).eval()
    fresh = norm.layer(6).eval()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(layer.state_dict())
    for words, twin in (("a deepcopy", copy.deepcopy(layer)), ("its state_dict", fresh)):
        if _difference(some.run(twin), some.run(layer)):
            yield f"{words} gives another result"
    for reset in (layer, fresh):
        if not callable(getattr(reset, "reset_parameters", None)):
            yield "reset_parameters() is missing"
            return
        some.run(reset.train())
        torch.manual_seed(2)
        reset.reset_parameters()  # type: ignore[operator]
    new = norm.make(6).double()
    start = {name: value.detach().clone() for name, value in new.named_parameters()}
    torch.manual_seed(2)
    new.reset_parameters()  # type: ignore[operator]
    for (name, value), other in zip(
        layer.state_dict().items(), new.state_dict().values(), strict=True
    ):
        began = start.get(name, value)
        # What is drawn at random differs from layer to layer.
        constant = began.unique().numel() < 2
        if not torch.equal(value, other) or (constant and not torch.equal(value, began)):
            yield f"{name} after reset_parameters() differs from that of a new layer"


def _errors(norm: NormUnderTest) -> Iterator[str]:
    layer, some = norm.layer(6), norm.some()
    assert some.batch is not None
    one = replace(some, batch=torch.zeros_like(some.batch))
    wrong = [("features of 5 channels in place of 6", some.of(some.x[:, :5]))]
    # Otherwise the layer may ignore the batch.
    if _difference(some.run(norm.layer(6)), one.run(norm.layer(6))):
        wrong += [
            ("a batch of 8 ids for 9 nodes", replace(some, batch=some.batch[:8])),
            ("an id of 7 among 3 graphs", replace(some, batch=some.batch + 5)),
        ]
    for words, sample in wrong:
        try:
            sample.run(layer)
        except (ValueError, IndexError, RuntimeError):
            continue
        yield f"{words}: no error"


def _compile(norm: NormUnderTest) -> Iterator[str]:
    torch.compiler.reset()
    plain, some = norm.layer(6), norm.some()
    compiled: Any = torch.compile(copy.deepcopy(plain), fullgraph=True, backend="aot_eager")
    results = []
    for layer in (compiled, plain):
        x = some.x.clone().requires_grad_()
        y = some.of(x).run(layer)
        (grad,) = torch.autograd.grad(y, x, features(9, 6, seed=4))
        results.append([y, grad, *layer.buffers()])
    for got, wanted in zip(*results, strict=True):
        if not _difference(got, wanted) < 1e-9:
            yield f"the compiled layer is off by {_difference(got, wanted):.1e}"
            return


_CHECKS: dict[str, Callable[[NormUnderTest], Iterator[str]]] = {
    "call": _call,
    "batch": _batch,
    "order": _order,
    "graphs": _graphs,
    "nan": _nan,
    "mask": _mask,
    "awkward": _awkward,
    "half": _half,
    "autocast": _autocast,
    "gradients": _gradients,
    "state": _state,
    "errors": _errors,
    "compile": _compile,
}
