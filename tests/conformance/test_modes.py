"""One table: every layer × every mode of PyTorch × train and eval, each cell run."""

from __future__ import annotations

import copy
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

import graphnorms as gn
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import FUNCTIONS
from graphnorms.layers import CATALOG
from graphnorms.segments import Segments
from tests.conformance.graphs import agree
from tests.conformance.modes import (
    BATCH,
    BATCHES,
    COMPOSED,
    KINDS,
    LAYERS,
    MODES,
    NOT_THERE,
    SAME_GRAPH,
    STATEFUL,
    STATES,
    TRACKED,
    UNSORTED,
    build,
    by_compile,
    by_dynamic_segments,
    by_dynamic_shapes,
    by_export,
    features,
    run,
)

pytestmark = [
    # torch's own: Dynamo makes an instance of a Function, and forward-mode AD compiles a script.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning"),
]
FULL = pytest.mark.full("compiled and exported layers")
PLAIN = [name for name in LAYERS if name in CATALOG]
"""The layers as they are in the catalogue; others are these with other arguments."""


def chosen(*values: Any, always: bool) -> Any:
    """Parameters that `make test` runs always, or never."""
    return pytest.param(*values, marks=() if always else FULL)


def turn(name: str, number: int) -> int:
    """Which of a number of things it is this layer's turn to meet."""
    return list(LAYERS).index(name) % number


@pytest.mark.parametrize(
    ("name", "mode", "training"),
    [
        chosen(name, mode, training, always=name in PLAIN or not mode.startswith("compile"))
        for name, training in STATES
        for mode in MODES
        # Compiling takes long: a variant of a layer is compiled in one state, or by turns.
        if not mode.startswith("compile") or name in PLAIN or turn(name, 2) == training
    ],
)
def test_mode(name: str, mode: str, training: bool) -> None:
    if mode in NOT_THERE.get(name, ()) and (training or name == "ada"):
        pytest.skip(NOT_THERE[name][mode])
    MODES[mode](name, training)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in STATEFUL])
def test_without_buffers_eval_is_train(name: str) -> None:
    """So what the modes say of one holds for the other."""
    got = run(build(name, False), features(), UNSORTED, 4)
    agree(got, run(build(name, True), features(), UNSORTED, 4), 0.0)


EVERY_KIND = ("batch", "graph", "layer-graph", "dyt")
"""One of each family of kernels, and of the statistics over the whole batch."""


def kinds_of(name: str) -> list[str]:
    """The kinds of batch that a layer meets: of those of one graph one, by turns."""
    if name in EVERY_KIND:
        return KINDS
    others = {kind for same in SAME_GRAPH for kind in same if kind != same[turn(name, len(same))]}
    met = [kind for kind in KINDS if kind not in others]
    # What a variant of a layer has of its own is after the segments, which are one code for all.
    return met if name in PLAIN else met[turn(name, 2) :: 2]


def kinds_in(name: str, training: bool) -> list[str]:
    """A third of its kinds in eval(), where averages stand for statistics of the batch."""
    kinds = kinds_of(name)
    return kinds if training else kinds[turn(name, len(kinds)) % 3 :: 3]


@pytest.mark.parametrize(
    ("name", "kind", "training"),
    [
        # Every layer with one kind of batch, and one layer with every kind.
        chosen(
            name,
            kind,
            training,
            always=(
                (name in PLAIN or name in TRACKED)
                and kind == kinds_of(name)[turn(name, len(kinds_of(name)))]
                and (training or name in TRACKED)
            )
            or (name == "graph" and training),
        )
        for name, training in STATES
        for kind in kinds_in(name, training)
    ],
)
def test_compile(name: str, kind: str, training: bool) -> None:
    if kind == "dynamic shapes":
        by_dynamic_shapes(name, training)
    elif kind == "dynamic Segments":
        by_dynamic_segments(name, training)
    else:
        by_compile(name, training, BATCHES[kind])


@pytest.mark.parametrize(
    ("name", "strict", "training"),
    [
        chosen(
            name,
            strict,
            training,
            always=name in PLAIN
            and (
                2 * strict + training == STATEFUL.index(name) % 4
                if name in STATEFUL
                else strict == turn(name, 2)
            ),
        )
        for name, training in STATES
        for strict in (False, True)
    ],
)
def test_export(name: str, strict: bool, training: bool) -> None:
    by_export(name, training, strict)


FEW = ("batch", "graph")
BY_GRAPH = [name for name in PLAIN if getattr(build(name, False), "per_graph", False)]
"""The layers that read the number of graphs; what others do with a batch is `test_compile`."""


@pytest.mark.parametrize(
    "name", [chosen(name, always=name in FEW) for name in ["batch", *BY_GRAPH]]
)
def test_compile_without_batch_size(name: str) -> None:
    """The number of graphs is read when the graph runs, as PyG's norms read it."""
    torch._dynamo.reset()
    layer = build(name, True)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for i, (rows, size) in enumerate([(20, 4), (33, 7), (50, 51)]):
        batch = torch.randint(0, size, (rows,), generator=torch.Generator().manual_seed(i))
        batch[0] = size - 1
        x = features(rows, i)
        agree(run(compiled, x, batch), run(twin, x, batch, size))


@pytest.mark.parametrize("strict", [chosen(True, always=False), False])
@pytest.mark.parametrize("name", ["graph", "layer-graph", "pair", "instance", "diff-group"])
def test_export_without_batch_size(name: str, strict: bool) -> None:
    layer = build(name, False)
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(
        layer, (features(), UNSORTED), strict=strict, dynamic_shapes=({0: rows}, {0: rows})
    ).module()
    for number in (20, 31):
        x, batch = features(number, 3), torch.arange(number) * 5 % 6
        torch.testing.assert_close(program(x, batch), layer(x, batch, 6))


def test_vmap_over_batches_asks_for_their_size() -> None:
    layer, x = build("graph", True), features()
    batches = torch.stack([BATCH, UNSORTED])
    with pytest.raises(ValueError, match="batch_size is not given; under vmap"):
        torch.func.vmap(lambda batch: layer(x, batch))(batches)


@pytest.mark.parametrize("center", [*gn.Over, "tanh", "erf", "ragged"])
def test_opcheck(center: gn.Over | str) -> None:
    """The operators themselves, with their formulas."""
    segments = Segments.from_batch(UNSORTED, 4)
    function = FUNCTIONS.index(center) if center in FUNCTIONS else 0
    over, groups, table, cells = int(gn.Over.CHANNELS), 1, None, (1, 1)
    if center == "ragged":
        table, *cells = Layout.of([0, 0, 0, 1, 1, 1], [0, 0, -1, -1, 1, 1])
    else:
        over, groups = (0 if function else int(center)), 2
    numbers = (False, over, over, groups, *cells, 1e-5, 1, 0.25, function)
    given = torch.tensor([0.7, 0.2]) if function else None
    operators = torch.ops.graphnorms
    x, residual, seed = features().requires_grad_(), features(seed=2), torch.tensor(5)
    of_every_graph = (torch.rand(4, 6), torch.rand(4, 6))
    # The shapes of the parameters' gradients do not depend on the domain; the others' do.
    others = [(torch.rand(6), None)] if center == gn.Over.NODES else []
    for weight, bias in (*others, of_every_graph):
        rest = (given, weight, bias)
        call = (segments.ptr, segments.order, seed, table, *numbers)
        arguments = (x, residual, *rest, *call, True)
        torch.library.opcheck(operators.normalize_forward.default, arguments)
        statistics = operators.normalize_forward(*arguments)[1].detach()
        for needs in ([True, function > 0, True, False], [False, False, True, True]):
            torch.library.opcheck(
                operators.normalize_backward.default,
                (features(seed=1).requires_grad_(), x, *rest, statistics, *call, needs),
            )
        of_x, of_weight = features(seed=3).requires_grad_(), torch.rand(weight.shape)
        cotangents = (of_x, given, of_weight, None)
        torch.library.opcheck(
            operators.normalize_double_backward.default,
            (*cotangents, features(seed=1), x, *rest, statistics, *call, [True] * 5),
        )


@pytest.mark.parametrize("name", LAYERS)
def test_named_backend_refuses_what_needs_plain_torch(name: str) -> None:
    if name == "none" or name in COMPOSED:
        pytest.skip("has no backend of its own")
    layer = build(name, True, backend="cpu")
    if name in TRACKED:
        return  # torch forbids the update of their buffers first
    with pytest.raises(gn.BackendRefusedError, match="which needs plain torch"):
        torch.func.vmap(lambda x: layer(x, BATCH, 4))(torch.stack([features()] * 2))
    with pytest.raises(gn.BackendRefusedError, match="forward-mode"), forward_ad.dual_level():
        layer(forward_ad.make_dual(features(), features()), BATCH, 4)
    assert layer(features(), BATCH, 4).shape == (20, 6)


def test_after_spawn() -> None:
    layer = build("graph", True).requires_grad_(False)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        got = pool.submit(layer, features(), BATCH, 4).result(120)
    torch.testing.assert_close(got, layer(features(), BATCH, 4), rtol=0, atol=0)


@pytest.mark.parametrize("name", [chosen(name, always=name in FEW) for name in PLAIN])
def test_onnx(name: str) -> None:
    """Through the reference's operations, with any number of rows, run by onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer = build(name, False)
    rows = torch.export.Dim("rows", min=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            layer,
            (features(), UNSORTED, 4),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: rows}, {0: rows}, None),
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    for number in (20, 31):
        x, batch = features(number, 3), torch.arange(number) * 5 % 4
        (got,) = session.run(None, dict(zip(names, (x.numpy(), batch.numpy()), strict=True)))
        torch.testing.assert_close(
            torch.from_numpy(got), layer(x, batch, 4).detach(), rtol=1e-5, atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "training"), STATES)
def test_inductor(name: str, training: bool) -> None:
    torch._dynamo.reset()
    layer = build(name, training)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True)
    agree(run(compiled, features(), UNSORTED, 4), run(twin, features(), UNSORTED, 4))


@pytest.mark.parametrize("make", [gn.HeteroBatchNorm, gn.HeteroLayerNorm])
@pytest.mark.parametrize("training", [True, chosen(False, always=False)])
@pytest.mark.parametrize(
    "given",
    [
        {"type_ptr": [0, 5, 5, 12, 20]},
        {"type_ptr": torch.tensor([0, 5, 5, 12, 20])},
        {"type_vec": Segments.from_ptr(torch.tensor([0, 5, 5, 12, 20]))},
    ],
)
def test_compiled_types(make: Any, training: bool, given: dict[str, Any]) -> None:
    torch._dynamo.reset()
    layer = make(6, 4).train(training)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = features()
    torch.testing.assert_close(compiled(x, **given), twin(x, **given))
    torch.testing.assert_close(list(layer.buffers()), list(twin.buffers()))


@pytest.mark.parametrize("make", [gn.PairNorm, gn.MeanSubtractionNorm, gn.GraphSizeNorm])
def test_compiled_positions(make: Any) -> None:
    torch._dynamo.reset()
    layer = make()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (20, 31):
        x = features(3 * rows).view(rows, 3, 6)
        batch = torch.arange(rows) % 4
        torch.testing.assert_close(compiled(x, batch, 4), layer(x, batch, 4))
