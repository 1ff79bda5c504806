"""The modes of PyTorch, each a function of a layer's name and of train or eval."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import graphnorms as gn
from graphnorms.kernels.point import Point
from graphnorms.layers import CATALOG
from graphnorms.segments import Segments
from tests.conformance.graphs import Graphs, agree, ops
from tests.norms import OfMessages, OfTypes, Wrapped, build_norm


class MaskedBlock(Wrapped):
    """A layer with masked rows, an activation and a residual."""

    def forward(self, x: Tensor, batch: Any = None, batch_size: int | None = None) -> Tensor:
        mask = torch.arange(x.shape[0], device=x.device) % 4 != 1
        y: Tensor = self.layer(x, batch, batch_size, residual=x * 0.5, mask=mask)
        return y


Make = Callable[..., nn.Module]
LAYERS: dict[str, Make] = {
    **{
        name: (lambda name=name, **k: build_norm(name, 6, **k))
        for name, row in CATALOG.items()
        if not row.needs
    },
    "batch cumulative": lambda **k: gn.BatchNorm(6, momentum=None, **k),
    "instance tracked": lambda **k: gn.InstanceNorm(
        6, affine=True, track_running_stats=True, activation="relu", **k
    ),
    "graph masked": lambda **k: MaskedBlock(gn.GraphNorm(6, activation="gelu", **k)),
    "layer masked": lambda **k: MaskedBlock(gn.LayerNorm(6, mode="node", activation="silu", **k)),
    "derf masked": lambda **k: MaskedBlock(gn.Derf(6, activation="silu", **k)),
    "batch masked": lambda **k: MaskedBlock(gn.BatchNorm(6, activation="silu", **k)),
    "pair doubled": lambda **k: gn.PairNorm(2.0, activation="silu", **k),
    "pair individually": lambda **k: gn.PairNorm(scale_individually=True, **k),
    "pair simultaneously": lambda **k: gn.PairNorm(simultaneously=True, activation="gelu", **k),
    "pair masked": lambda **k: MaskedBlock(gn.PairNorm(scale_individually=True, **k)),
    "mean subtraction activated": lambda **k: gn.MeanSubtractionNorm(activation="silu", **k),
    "graph size alone": lambda **k: gn.GraphSizeNorm(**k),
    "graph size masked": lambda **k: MaskedBlock(gn.GraphSizeNorm(activation="relu", **k)),
    "hetero batch": lambda **k: OfTypes(gn.HeteroBatchNorm(6, 4, **k)),
    "hetero batch cumulative": lambda **k: OfTypes(gn.HeteroBatchNorm(6, 4, momentum=None, **k)),
    "hetero layer": lambda **k: OfTypes(gn.HeteroLayerNorm(6, 4, **k)),
    "message": lambda **k: OfMessages(gn.MessageNorm(True, **k)),
    "irreps batch": lambda **k: gn.IrrepsBatchNorm("3x0e + 1x1o", **k),
    "irreps graph": lambda **k: gn.IrrepsGraphNorm("1x1o + 3x0e", shift="all", **k),
    "irreps layer": lambda **k: gn.IrrepsLayerNorm("3x0e + 1x1o", **k),
    "diff group strongly": lambda **k: gn.DiffGroupNorm(6, 3, lamda=0.3, **k),
    "diff group masked": lambda **k: MaskedBlock(gn.DiffGroupNorm(6, 3, lamda=0.3, **k)),
}
COMPOSED = [
    *("message", "diff group strongly", "diff group masked"),
    *(
        name
        for name, row in CATALOG.items()
        if row.point == Point(None, None) and name not in ("none", "graph-size")
    ),
]
"""Made of other operations than the kernels alone, by whatever number of calls."""

NOT_THERE = {
    "ada": {"double backward": "its gain is a constant for the gradient"},
    "power": dict.fromkeys(
        (
            "double backward",
            "batched gradients",
            "compile of torch.func.grad",
            "torch.func.grad",
            "torch.func.grad of parameters",
            "vmap",
            "vmap over batch",
            "jvp",
            "jacrev",
            "dual numbers",
        ),
        "in training its backward is no derivative, and moves a buffer",
    ),
}
"""Cells of the table that a layer cannot have in training, and why."""

# Their statistics in train() belong to the batch, and every call moves a buffer.
TRACKED = (
    "batch",
    "batch cumulative",
    "instance tracked",
    "batch masked",
    "hetero batch",
    "hetero batch cumulative",
    "irreps batch",
    "diff group strongly",
    "diff group masked",
)


def features(rows: int = 20, seed: int = 0) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)) + 0.5


def build(name: str, training: bool, **arguments: Any) -> nn.Module:
    layer = LAYERS[name](**arguments)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in itertools.chain(layer.parameters(), layer.buffers()):
            if value.is_floating_point():
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return layer.train(training)


def run(layer: Any, x: Tensor, *rest: Any) -> list[Tensor]:
    """The result, the gradients at a random cotangent, and the buffers after the call."""
    module = getattr(layer, "_orig_mod", layer)
    x = x.detach().requires_grad_()
    y = layer(x, *rest)
    grad_y = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    grads = torch.autograd.grad(y, [x, *module.parameters()], grad_y)
    return [y.detach(), *grads, *(buffer.clone() for buffer in module.buffers())]


BATCH = torch.arange(20) // 5
UNSORTED = (torch.arange(20) * 7) % 4
BATCHES: dict[str, tuple[Any, ...]] = {
    "sorted": (BATCH, 4),
    "unsorted": (UNSORTED, 4),
    "empty graphs": (BATCH * 2, 9),
    "none": (),
    "one graph": (torch.zeros(20, dtype=torch.long), 1),
    "segments": (Segments.from_batch(BATCH, 4),),
    "unsorted segments": (Segments.from_batch(UNSORTED, 4),),
    "segments of offsets": (Segments.from_ptr(torch.tensor([0, 5, 5, 20])),),
}


def by_compile(name: str, training: bool, rest: tuple[Any, ...]) -> None:
    torch._dynamo.reset()
    layer = build(name, training)
    twin = copy.deepcopy(layer)
    graphs = Graphs()
    compiled = torch.compile(layer, fullgraph=True, backend=graphs.compile)
    agree(run(compiled, features(), *rest), run(twin, features(), *rest))
    if name in COMPOSED:
        return
    by_kernel = name != "none" and not (name in TRACKED and not training)
    forward = ["graphnorms.normalize_forward.default"] if by_kernel else []
    backward = ["graphnorms.normalize_backward.default"] if by_kernel else []
    assert ops(graphs.forward) == forward
    assert ops(graphs.backward) == backward


def by_dynamic_shapes(name: str, training: bool) -> None:
    torch._dynamo.reset()
    layer = build(name, training)
    twin = copy.deepcopy(layer)
    graphs = Graphs()
    compiled = torch.compile(layer, fullgraph=True, backend=graphs.compile)
    counts = []
    for i, (rows, size) in enumerate([(20, 4), (33, 7), (12, 5), (20, 4), (50, 3), (51, 51)]):
        batch = torch.randint(0, size, (rows,), generator=torch.Generator().manual_seed(i))
        x = features(rows, i)
        agree(run(compiled, x, batch, size), run(twin, x, batch, size))
        counts.append(len(graphs.forward))
    assert counts[2] <= 3
    assert counts[2:] == [counts[2]] * 4, f"compiled {counts} times"


def by_dynamic_segments(name: str, training: bool) -> None:
    torch._dynamo.reset()
    layer = build(name, training)
    twin = copy.deepcopy(layer)
    graphs = Graphs()
    compiled = torch.compile(layer, fullgraph=True, backend=graphs.compile)
    counts = []
    for i, (rows, size) in enumerate([(20, 4), (33, 7), (12, 5), (20, 4), (50, 3)]):
        batch = torch.randint(0, size, (rows,), generator=torch.Generator().manual_seed(i))
        segments = Segments.from_batch(batch.sort().values, size)
        x = features(rows, i)
        agree(run(compiled, x, segments), run(twin, x, segments))
        counts.append(len(graphs.forward))
    assert counts[2] <= 3
    assert counts[2:] == [counts[2]] * 3, f"compiled {counts} times"


def by_export(name: str, training: bool, strict: bool) -> None:
    layer = build(name, training)
    twin = copy.deepcopy(layer)
    rows = torch.export.Dim("rows", min=2)
    with torch.no_grad():
        program = torch.export.export(
            layer,
            (features(), UNSORTED, 4),
            strict=strict,
            dynamic_shapes=({0: rows}, {0: rows}, None),
        ).module()
    for number in (20, 31):
        x, batch = features(number, 3), torch.arange(number) * 5 % 4
        torch.testing.assert_close(program(x, batch, 4), twin(x, batch, 4))


def by_autocast(name: str, training: bool) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        layer = build(name, training)
        twin = copy.deepcopy(layer)
        x = features().to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = run(layer, x, BATCH, 4)
        assert got[0].dtype == dtype
        assert all(p.dtype == torch.float32 for p in layer.parameters())
        # torch rounds the gradients of ContraNorm's own products in a backward inside autocast.
        exact = dtype == torch.float32 and name != "contra"
        agree(got, run(twin, x, BATCH, 4), 1e-5 if exact else 2e-2)


def functional(layer: nn.Module, batch: Any = BATCH, size: int = 4) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        buffers = {
            # Written to under the transform, so they must belong to it.
            key: value.clone() + 0 * x.detach().sum().to(value.dtype)
            for key, value in layer.named_buffers()
        }
        y: Tensor = torch.func.functional_call(layer, buffers, (x, batch, size))
        return y

    return call


def by_func_grad(name: str, training: bool) -> None:
    layer = build(name, training)
    call = functional(layer)
    grad_y = features(seed=5)
    x = features().requires_grad_()
    (expected,) = torch.autograd.grad((layer(x, BATCH, 4) * grad_y).sum(), x)
    got = torch.func.grad(lambda z: (call(z) * grad_y).sum())(x.detach())
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    # What a transform derived is not remembered after it.
    torch.testing.assert_close(layer.eval()(x, BATCH, 4), layer(x, BATCH.clone(), 4))


def by_func_grad_of_parameters(name: str, training: bool) -> None:
    layer = build(name, training)
    parameters = {key: value.detach() for key, value in layer.named_parameters()}
    expected = run(layer, features(), BATCH, 4)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        buffers = {key: value + 0 * x.sum().to(value.dtype) for key, value in layer.named_buffers()}
        y = torch.func.functional_call(layer, parameters | buffers, (x, BATCH, 4))
        return (y * grad_y).sum()

    grad_y = torch.randn(20, 6, generator=torch.Generator().manual_seed(2))
    got = torch.func.grad(loss)(parameters, features())
    agree(list(got.values()), expected[2 : 2 + len(parameters)])
    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(
        parameters, torch.stack([features(), features(seed=7)])
    )
    agree([value[0] for value in per_sample.values()], list(got.values()))


def by_vmap(name: str, training: bool) -> None:
    layer = build(name, training)
    call = functional(layer)
    x = torch.stack([features(seed=i) for i in range(3)])
    expected = torch.stack([layer(one, BATCH, 4) for one in x])
    torch.testing.assert_close(torch.func.vmap(call)(x), expected, rtol=1e-5, atol=1e-5)


def by_vmap_over_batch(name: str, training: bool) -> None:
    layer = build(name, training)
    x = torch.stack([features(seed=i) for i in range(3)])
    batches = torch.stack([BATCH, UNSORTED, BATCH.clamp(max=2)])
    expected = torch.stack([layer(one, batch, 4) for one, batch in zip(x, batches, strict=True)])
    got = torch.func.vmap(lambda z, b: functional(layer, b)(z))(x, batches)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def by_jvp(name: str, training: bool) -> None:
    layer = build(name, training)
    call = functional(layer)
    x, tangent = features(), features(seed=5)
    _, got = torch.func.jvp(call, (x,), (tangent,))
    _, expected = torch.autograd.functional.jvp(
        lambda z: layer(z, BATCH, 4), x, tangent, strict=False
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def by_jacrev(name: str, training: bool) -> None:
    layer = build(name, training)
    expected = torch.autograd.functional.jacobian(lambda z: layer(z, BATCH, 4), features())
    got = torch.func.jacrev(functional(layer))(features())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def by_batched_gradients(name: str, training: bool) -> None:
    """`is_grads_batched` maps over the backward of a forward that ran outside of vmap."""
    layer = build(name, training)
    expected = torch.autograd.functional.jacobian(lambda z: layer(z, BATCH, 4), features())
    got = torch.autograd.functional.jacobian(
        lambda z: layer(z, BATCH, 4), features(), vectorize=True
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    parameters = list(layer.parameters())
    if parameters:
        y = layer(features(), BATCH, 4)
        cotangents = torch.stack([features(seed=seed) for seed in (3, 4)])

        def grads(cotangent: Tensor, **how: bool) -> tuple[Tensor, ...]:
            return torch.autograd.grad(y, parameters, cotangent, retain_graph=True, **how)

        # The first is a transform to the backward, the second is none.
        for batched in (
            torch.func.vmap(grads)(cotangents),
            grads(cotangents, is_grads_batched=True),
        ):
            for number, cotangent in enumerate(cotangents):
                agree([grad[number] for grad in batched], list(grads(cotangent)), 1e-4)


def by_dual_numbers(name: str, training: bool) -> None:
    layer = build(name, training)
    x, tangent = features(), features(seed=5)
    _, expected = torch.autograd.functional.jvp(lambda z: layer(z, BATCH, 4), x, tangent)
    with forward_ad.dual_level():
        y = layer(forward_ad.make_dual(x, tangent), BATCH, 4)
        got = forward_ad.unpack_dual(y).tangent
    assert got is not None
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def by_compiled_func_grad(name: str, training: bool) -> None:
    torch._dynamo.reset()
    call = functional(build(name, training))
    grad_y = features(seed=5)
    grad = torch.func.grad(lambda z: (call(z) * grad_y).sum())
    compiled = torch.compile(grad, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features()), grad(features()), rtol=1e-5, atol=1e-5)


def by_double_backward(name: str, training: bool) -> None:
    layer = build(name, training, dtype=torch.float64) if name != "none" else build(name, training)
    x = features().double().requires_grad_()
    # In random directions; `check_norm` goes through every entry.
    assert torch.autograd.gradgradcheck(lambda z: layer(z, BATCH, 4), (x,), fast_mode=True)


def by_threads(name: str, training: bool) -> None:
    layers = [build(name, training) for _ in range(8)]
    shared = torch.arange(20) // 5
    expected = run(copy.deepcopy(layers[0]), features(), shared, 4)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda layer: run(layer, features(), shared, 4), layers))
    for result in results:
        agree(result, expected, 0.0)


def without_gradients(name: str, training: bool) -> None:
    layer = build(name, training)
    twin = copy.deepcopy(layer)
    batch = BATCH.clone()  # first met in inference mode, then in training
    with torch.inference_mode():
        inferred = layer(features(), batch, 4)
    with torch.no_grad():
        quiet = layer(features(), batch, 4)
    expected = twin(features(), batch, 4)
    for got in (inferred, quiet):
        assert not got.requires_grad
        torch.testing.assert_close(got.clone(), expected, rtol=0, atol=0)
    twin(features(), batch, 4)
    agree(run(layer, features(), batch, 4), run(twin, features(), batch, 4), 0.0)


def by_copying(name: str, training: bool) -> None:
    layer = build(name, training)
    expected = run(copy.deepcopy(layer), features(), BATCH, 4)
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    for twin in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(stream, weights_only=False),
    ):
        agree(run(twin, features(), BATCH, 4), expected, 0.0)
    fresh = LAYERS[name]().train(training)
    fresh.load_state_dict(layer.state_dict())
    agree(run(fresh, features(), BATCH, 4), expected, 0.0)
    segments = pickle.loads(pickle.dumps(Segments.from_batch(UNSORTED, 4)))
    agree(
        run(copy.deepcopy(layer), features(), copy.deepcopy(segments)),
        run(copy.deepcopy(layer), features(), UNSORTED, 4),
        0.0,
    )


def by_meta_device(name: str, training: bool) -> None:
    with torch.device("meta"):
        layer = LAYERS[name]().train(training)
        assert layer(torch.empty(20, 6), torch.zeros(20, dtype=torch.long), 4).shape == (20, 6)
    assert layer(torch.empty(20, 6, device="meta")).is_meta
    values = build(name, training)
    twin = copy.deepcopy(values)
    layer.load_state_dict(values.state_dict(), assign=True)
    agree(run(layer, features(), BATCH, 4), run(twin, features(), BATCH, 4), 0.0)
    layer = LAYERS[name](device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    assert torch.isfinite(layer(features(), BATCH, 4)).all()


MODES: dict[str, Callable[[str, bool], None]] = {
    "compile of torch.func.grad": by_compiled_func_grad,
    "autocast": by_autocast,
    "torch.func.grad": by_func_grad,
    "torch.func.grad of parameters": by_func_grad_of_parameters,
    "vmap": by_vmap,
    "vmap over batch": by_vmap_over_batch,
    "jvp": by_jvp,
    "jacrev": by_jacrev,
    "batched gradients": by_batched_gradients,
    "dual numbers": by_dual_numbers,
    "double backward": by_double_backward,
    "threads": by_threads,
    "no_grad and inference_mode": without_gradients,
    "copies": by_copying,
    "meta device": by_meta_device,
}
KINDS = [*BATCHES, "dynamic shapes", "dynamic Segments"]
