"""First and second gradients of every layer, as force training takes them, in every mode of torch.

A model's energy is differentiated with respect to positions, and the loss, which holds these
forces, with respect to the parameters. Every layer stands in a branch of its own between linear
maps, so that one compiled graph measures them all and a wrong gradient is seen in its own branch.
The truth is the same model in eager mode on the reference backend, whose gradients are autograd's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

import graphnorms as gn
from graphnorms.kernels.layout import Layout
from graphnorms.layers import CATALOG
from graphnorms.segments import Segments
from tests.norms import CONDITION, TYPES, build_norm

pytestmark = [
    # torch's own: Dynamo looks at `.grad` of what is no leaf, and makes an instance of a Function.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have a known batching rule:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*There is a performance drop because.*:UserWarning"),
]

CHANNELS, GRAPHS = 6, 4
RAGGED = Layout.of([0, 1, 1, 2, 2, 1], [0, -1, -1, 0, 0, -1], [1, 3, 3, 1, 1, 3])
SIZES = (20, 31)
TOLERANCE = 1e-9
"""Relative, in float64; what is wrong is off by a percent or more."""

Data = dict[str, Tensor]


def data(nodes: int) -> Data:
    generator = torch.Generator().manual_seed(nodes)
    batch = torch.arange(nodes) * GRAPHS // nodes
    step = torch.arange(nodes)
    edges = torch.cat([torch.stack([step, (step + k) % nodes]) for k in (1, 3)], 1)
    adjacency = gn.Adjacency.from_edge_index(edges, nodes)
    assert adjacency.order is not None
    return {
        "pos": torch.randn(nodes, 3, generator=generator, dtype=torch.float64),
        "force": torch.randn(nodes, 3, generator=generator, dtype=torch.float64),
        "batch": batch,
        "unsorted": batch[torch.randperm(nodes, generator=generator)],
        "types": step % TYPES,
        "ptr": adjacency.ptr,
        "index": adjacency.index,
        "order": adjacency.order,
        "transpose_ptr": adjacency.transpose_ptr,
        "transpose_index": adjacency.transpose_index,
        "transpose_order": adjacency.transpose_order,
        "noise": torch.randn(nodes, CHANNELS, generator=generator, dtype=torch.float64),
        "cells": RAGGED.table,
        "factors": torch.rand(nodes, generator=generator, dtype=torch.float64) + 0.5,
    }


def adjacency_of(given: Data) -> gn.Adjacency:
    return gn.Adjacency(
        given["ptr"],
        given["index"],
        given["transpose_ptr"],
        given["transpose_index"],
        order=given["order"],
        transpose_order=given["transpose_order"],
        validate=False,
    )


def pooled(x: Tensor, batch: Tensor) -> Tensor:
    """The sum over each graph, `(graphs, channels)`."""
    return x.new_zeros(GRAPHS, x.shape[1]).index_add(0, batch, torch.tanh(x))


class OfCatalog(nn.Module):
    """A layer of the catalogue with what it needs; a condition depends on the features."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.needs = CATALOG[name].needs
        self.layer = build_norm(name, CHANNELS)
        if name in REFUSING:
            self.layer.eval()

    def forward(self, x: Tensor, given: Data) -> Tensor:
        more: dict[str, Any] = {}
        if "adjacency" in self.needs:
            more["adjacency"] = adjacency_of(given)
        if "factors" in self.needs:
            more["factors"] = given["factors"]
        if "condition" in self.needs:
            more["condition"] = pooled(x, given["unsorted"])[:, :CONDITION]
        if isinstance(self.layer, gn.Granola):
            more["random_features"] = given["noise"]
        rest: tuple[Any, ...] = (given["unsorted"], GRAPHS)
        if "types" in self.needs:
            rest = (given["types"],)
        elif "message" in self.needs:
            x, rest = torch.cos(x), (x,)
        y: Tensor = self.layer(x, *rest, **more)
        return y


class OfGraphs(nn.Module):
    """A layer that needs the graphs alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, given: Data) -> Tensor:
        y: Tensor = self.layer(x, given["unsorted"], GRAPHS)
        return y


class Primitive(nn.Module):
    """`segment_normalize` or `aggregate`; what it is given besides x depends on x."""

    def __init__(self, call: Callable[[Tensor, Data, str], Tensor]) -> None:
        super().__init__()
        self.call = call
        self.backend = "auto"

    def forward(self, x: Tensor, given: Data) -> Tensor:
        return self.call(x, given, self.backend)


def normalized(
    center: gn.Over | None,
    scale: gn.Over | None,
    *,
    own: bool = False,
    masked: bool = False,
    activation: str | None = None,
    shift: bool = False,
    dropout: float = 0.0,
    function: str | None = None,
    ragged: bool = False,
) -> Callable[[Tensor, Data, str], Tensor]:
    def call(x: Tensor, given: Data, backend: str) -> Tensor:
        segments = Segments.from_batch(given["unsorted"], GRAPHS)
        of_graphs = pooled(x, given["unsorted"])
        if masked:
            segments = segments.with_mask(x[:, 0] > 0)
        wide = of_graphs if own else of_graphs.sum(0)
        given_shift = torch.tanh(of_graphs[0, :2] if function else of_graphs[0])
        return gn.segment_normalize(
            x,
            segments,
            center=center,
            scale=scale,
            groups=1 if ragged else 2,
            layout=RAGGED._replace(table=given["cells"]) if ragged else None,
            weight=1 + torch.sin(wide),
            bias=torch.cos(wide),
            mean_scale=given_shift if shift else None,
            function=function,
            activation=activation,
            residual=x * x,
            dropout=dropout,
            seed=torch.full((), 5) if dropout else None,
            backend=backend,
        )

    return call


def summed(kind: str) -> Callable[[Tensor, Data, str], Tensor]:
    def call(x: Tensor, given: Data, backend: str) -> Tensor:
        adjacency = adjacency_of(given)
        source, target = adjacency.to_edge_index()
        more: dict[str, Tensor] = {}
        if kind == "edge features":
            more["edge_features"] = torch.sin(x[source] - x[target])
        if "edge weights" in kind:
            more["edge_weight"] = torch.sigmoid((x[source] * x[target]).sum(1))
        if "node scales" in kind:
            more["node_scale"] = 1 + torch.sigmoid(x[:, 0])
        return gn.aggregate(x, adjacency, self_weight=1.5, backend=backend, **more)

    return call


NODES, ROW, BOTH = gn.Over.NODES, gn.Over.CHANNELS, gn.Over.BOTH
PRIMITIVES = {
    "weights of every graph from x": normalized(NODES, NODES, own=True, activation="silu"),
    "all parameters from x": normalized(NODES, NODES, shift=True),
    "within rows": normalized(ROW, ROW, activation="gelu"),
    "over graphs and groups": normalized(BOTH, BOTH, own=True),
    "scale alone": normalized(None, BOTH),
    "centre alone": normalized(NODES, None, shift=True),
    "pair": normalized(NODES, BOTH, shift=True),
    "ragged cells over nodes": normalized(NODES, BOTH, shift=True, activation="silu", ragged=True),
    "mask from x": normalized(NODES, NODES, masked=True, activation="silu"),
    "mask from x, within rows": normalized(ROW, ROW, masked=True, activation="gelu"),
    "mask from x, centre alone": normalized(NODES, None, masked=True, own=True, dropout=0.3),
    "dropout": normalized(BOTH, BOTH, activation="gelu", dropout=0.3),
    "tanh": normalized(None, None, function="tanh", shift=True, own=True, activation="gelu"),
    "erf of some rows": normalized(
        None, None, function="erf", shift=True, masked=True, activation="silu", dropout=0.3
    ),
    "aggregate": summed(""),
    "aggregate by edge weights from x": summed("edge weights"),
    "aggregate by node scales from x": summed("node scales"),
    "aggregate by edge weights and node scales from x": summed("edge weights, node scales"),
    "aggregate edge features from x": summed("edge features"),
}
ROTATING: dict[str, Callable[[], nn.Module]] = {
    "irreps batch": lambda: gn.IrrepsBatchNorm("1x1o + 3x0e"),
    "irreps graph": lambda: gn.IrrepsGraphNorm("3x0e + 1x1o", shift="all"),
}
"""Equivariant norms, which are not in the catalogue."""
REFUSING = {"power": "in training its backward is no derivative: here it is in eval()"}
BRANCHES: dict[str, Callable[[], nn.Module]] = {
    **{name: (lambda name=name: OfCatalog(name)) for name in CATALOG},
    **{name: (lambda make=make: OfGraphs(make())) for name, make in ROTATING.items()},
    **{name: (lambda call=call: Primitive(call)) for name, call in PRIMITIVES.items()},
}


class Net(nn.Module):
    """Energy from positions, a branch for each layer."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.into = nn.ModuleList(nn.Linear(3, CHANNELS) for _ in names)
        self.branch = nn.ModuleList(BRANCHES[name]() for name in names)
        self.out = nn.ModuleList(nn.Linear(CHANNELS, 1) for _ in names)
        self.double()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for value in (*self.parameters(), *self.buffers()):
                if value.is_floating_point():
                    value.add_(torch.rand(value.shape, generator=generator) - 0.4).abs_().add_(0.1)

    def on(self, backend: str) -> Net:
        twin = copy.deepcopy(self)
        for module in twin.modules():
            if hasattr(module, "backend"):
                module.backend = backend
        return twin

    def forward(self, given: Data) -> Tensor:
        energies = [
            torch.tanh(out(branch(torch.tanh(into(given["pos"])), given))).square().sum()
            for into, branch, out in zip(self.into, self.branch, self.out, strict=True)
        ]
        return torch.stack(energies)  # (branches,)

    def by_branch(self, values: list[Tensor]) -> dict[str, list[Tensor]]:
        """The values that belong to the parameters, sorted by branch."""
        sorted_: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for (key, _), value in zip(self.named_parameters(), values, strict=True):
            sorted_[self.names[int(key.split(".")[1])]].append(value)
        return sorted_


def energy_and_loss(net: Any, given: Data) -> tuple[Tensor, Tensor]:
    """The force, and a loss that holds it; linear in it, so that branches stay apart."""
    energies = net(given)
    (slope,) = torch.autograd.grad(energies.sum(), given["pos"], create_graph=True)
    return slope, energies.square().sum() + (slope * given["force"]).sum()


def asking(given: Data) -> Data:
    return {**given, "pos": given["pos"].detach().clone().requires_grad_()}


Result = tuple[Tensor, dict[str, list[Tensor]]]
"""The force and the gradients of each branch's parameters."""


def step_of(net: Net, loss_of: Callable[[Data], tuple[Tensor, Tensor]], given: Data) -> Result:
    slope, loss = loss_of(asking(given))
    grads = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    kept = [torch.zeros(()) if grad is None else grad for grad in grads]
    return slope.detach(), net.by_branch(kept)


def violations(got: Result, expected: Result) -> dict[str, float]:
    """Which branches are off, and by how much of the largest entry."""
    found = {}
    if (error := relative(got[0], expected[0])) > TOLERANCE:
        found["force"] = error
    for name, grads in expected[1].items():
        worst = max(relative(a, b) for a, b in zip(got[1][name], grads, strict=True))
        if not worst <= TOLERANCE:
            found[name] = worst
    return found


def relative(a: Tensor, b: Tensor) -> float:
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / (b.abs().max() + 1e-6))


MODES = (
    "test_force_inside_a_compiled_region",
    "test_whole_step_inside_a_compiled_region",
    "test_make_fx_then_compile",
    "test_aot_function",
    "test_torch_func",
    "test_export_of_energy_and_force",
)
BY_COMPILED_AUTOGRAD = (
    "test_compiled_autograd_of_both_backwards",
    "test_compiled_autograd_of_the_loss",
)


@pytest.fixture(
    params=[
        pytest.param("few", marks=pytest.mark.brief),  # some of the next
        pytest.param("share", marks=pytest.mark.full("derivatives of more layers at once")),
        pytest.param("all", marks=pytest.mark.slow),
    ]
)
def net(request: pytest.FixtureRequest) -> Net:
    """A share of the branches, another one for every mode: compiling all takes minutes.

    Every branch is in the share of one of `MODES`; compiled autograd, which takes five times as
    long for a branch, has a few. With `-m slow` all meet all.
    """
    names, name = list(BRANCHES), request.node.originalname
    if name in BY_COMPILED_AUTOGRAD and request.param != "all":
        names = names[BY_COMPILED_AUTOGRAD.index(name) :: 18]
    elif request.param != "all":
        names = names[MODES.index(name) :: len(MODES)]
    if request.param == "few":
        names = names[::2]
    return Net(names)


@pytest.fixture(scope="module")
def whole_net() -> Net:
    return Net(list(BRANCHES))


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def expected_of(net: Net, given: Data) -> Result:
    plain = net.on("reference")
    return step_of(plain, lambda given: energy_and_loss(plain, given), given)


def check(net: Net, loss_of: Callable[[Data], tuple[Tensor, Tensor]]) -> None:
    for nodes in SIZES:
        given = data(nodes)
        assert violations(step_of(net, loss_of, given), expected_of(net, given)) == {}


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    made: Callable[..., Any] = torch.compile(
        function, fullgraph=True, backend="aot_eager", dynamic=True, **options
    )
    return made


def functional(net: Net) -> tuple[Callable[..., tuple[Tensor, Tensor]], list[Tensor]]:
    """The loss as a function of data and state, for a call may write to buffers."""
    names = [key for key, _ in net.named_parameters()]
    buffers = dict(net.named_buffers())

    def loss_of(given: Data, *state: Tensor) -> tuple[Tensor, Tensor]:
        values = dict(
            zip(
                [*names, *buffers],
                (*state[: len(names)], *(b.clone() for b in state[len(names) :])),
                strict=True,
            )
        )
        return energy_and_loss(
            lambda given: torch.func.functional_call(net, values, (given,)), given
        )

    return loss_of, [*net.parameters(), *buffers.values()]


def test_eager(whole_net: Net) -> None:
    own = whole_net.on("auto")
    check(own, lambda given: energy_and_loss(own, given))


@pytest.mark.parametrize("create_graph", [False, True])
def test_first_gradient(whole_net: Net, create_graph: bool) -> None:
    """Right on the way of the kernels and on that of the second derivative."""
    for nodes in SIZES:
        results = []
        for backend in ("auto", "reference"):
            own, given = whole_net.on(backend), asking(data(nodes))
            energy = own(given).sum()
            slope, *grads = torch.autograd.grad(
                energy,
                [given["pos"], *own.parameters()],
                create_graph=create_graph,
                allow_unused=True,
            )
            kept = [torch.zeros(()) if grad is None else grad.detach() for grad in grads]
            results.append((slope.detach(), own.by_branch(kept)))
        assert violations(*results) == {}


@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_force_inside_a_compiled_region(net: Net) -> None:
    own = net.on("auto")
    check(own, compiled(lambda given: energy_and_loss(own, given)))


@torch._dynamo.config.patch(trace_autograd_ops=True)
def test_whole_step_inside_a_compiled_region(net: Net) -> None:
    own = net.on("auto")
    parameters = list(own.parameters())

    def step(given: Data) -> tuple[Tensor, ...]:
        slope, loss = energy_and_loss(own, given)
        return slope.detach(), *torch.autograd.grad(
            loss, parameters, allow_unused=True, materialize_grads=True
        )

    whole = compiled(step)
    for nodes in SIZES:
        given = data(nodes)
        slope, *grads = whole(asking(given))
        assert violations((slope, own.by_branch(grads)), expected_of(net, given)) == {}


def test_make_fx_then_compile(net: Net) -> None:
    """Traced to a graph of core operations, then compiled, as NequIP does."""
    own = net.on("auto")
    loss_of, parameters = functional(own)
    example = data(SIZES[0])

    def flat(values: list[Tensor], *parameters: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(example, values, strict=True))
        given["pos"] = given["pos"].detach().requires_grad_()
        return loss_of(given, *parameters)

    copies = [p.detach().clone().requires_grad_(p.requires_grad) for p in parameters]
    trace = make_fx(
        flat,
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
        decomposition_table=dict(core_aten_decompositions()),
    )
    graph = trace(list(example.values()), *copies)
    run = torch.compile(graph, dynamic=True, backend="aot_eager")
    check(own, lambda given: run(list(given.values()), *parameters))


def test_aot_function(net: Net) -> None:
    from functorch.compile import aot_function, nop

    own = net.on("auto")
    loss_of, parameters = functional(own)

    def run(given: Data) -> tuple[Tensor, Tensor]:
        def flat(*values: Tensor) -> tuple[Tensor, Tensor]:
            of_data = dict(zip(given, values, strict=False))
            return loss_of(of_data, *values[len(given) :])

        found: tuple[Tensor, Tensor] = aot_function(flat, nop, nop)(*given.values(), *parameters)
        return found

    check(own, run)


def test_compiled_autograd_of_both_backwards(net: Net) -> None:
    own = net.on("auto")
    for nodes in SIZES:
        given = data(nodes)
        with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")):
            got = step_of(own, lambda given: energy_and_loss(own, given), given)
        assert violations(got, expected_of(net, given)) == {}


def test_compiled_autograd_of_the_loss(net: Net) -> None:
    """For one number of nodes: that of both backwards is compiled for another one as well."""
    own = net.on("auto")
    given = asking(data(SIZES[0]))
    slope, loss = energy_and_loss(own, given)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")):
        grads = torch.autograd.grad(
            loss, list(own.parameters()), allow_unused=True, materialize_grads=True
        )
    got = (slope.detach(), own.by_branch(list(grads)))
    assert violations(got, expected_of(net, given)) == {}


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_torch_func(net: Net, how: str) -> None:
    own = net.on("auto")
    names = [key for key, _ in own.named_parameters()]
    parameters = list(own.parameters())
    buffers = {key: value.clone() for key, value in own.named_buffers()}

    def loss_of(given: Data, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        def energies(pos: Tensor) -> tuple[Tensor, Tensor]:
            state = {
                **dict(zip(names, parameters, strict=True)),
                **{
                    key: value + 0 * pos.detach().sum().to(value.dtype)
                    for key, value in buffers.items()
                },
            }
            found = torch.func.functional_call(own, state, ({**given, "pos": pos},))
            return found.sum(), found

        slope, found = torch.func.grad(energies, has_aux=True)(given["pos"])
        return slope, found.square().sum() + (slope * given["force"]).sum()

    run = compiled(loss_of) if how == "compiled" else loss_of
    check(own, lambda given: run(given, *parameters))


def test_export_of_energy_and_force(net: Net) -> None:
    own = net.on("auto").eval()
    example = data(SIZES[0])

    def flat(*values: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(example, values, strict=True))
        given["pos"] = given["pos"].detach().requires_grad_()
        energies = own(given)
        return energies, torch.autograd.grad(energies.sum(), given["pos"])[0]

    graph = make_fx(flat, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example.values())
    first = {0: torch.export.Dim.DYNAMIC}
    shapes = tuple(first for _ in example)
    program = torch.export.export(graph, tuple(example.values()), dynamic_shapes=shapes).module()
    plain = net.on("reference").eval()
    for nodes in SIZES:
        given = data(nodes)
        energies, force = program(*given.values())
        wanted = asking(given)
        truth = plain(wanted)
        (slope,) = torch.autograd.grad(truth.sum(), wanted["pos"])
        assert relative(force, slope) < TOLERANCE
        assert relative(energies, truth.detach()) < TOLERANCE


def test_hessian_by_vmap(whole_net: Net) -> None:
    """As fairchem takes it: vmap over `autograd.grad`."""
    found = []
    for backend in ("auto", "reference"):
        own, given = whole_net.on(backend), asking(data(SIZES[0]))
        (slope,) = torch.autograd.grad(own(given).sum(), given["pos"], create_graph=True)
        flat = slope.flatten()
        rows = torch.func.vmap(
            lambda v, flat=flat, pos=given["pos"]: torch.autograd.grad(
                flat, pos, v, retain_graph=True
            )[0]
        )(torch.eye(flat.shape[0], dtype=flat.dtype))
        found.append(rows)
    assert relative(*found) < TOLERANCE


def test_third_and_fourth_order(whole_net: Net) -> None:
    found = []
    for backend in ("auto", "reference"):
        own, given = whole_net.on(backend), asking(data(SIZES[0]))
        orders = []
        total = own(given).sum()
        for _ in range(4):
            (slope,) = torch.autograd.grad(total, given["pos"], create_graph=True)
            orders.append(slope.detach())
            total = (slope * given["force"]).sum()
        found.append(orders)
    assert [relative(a, b) < TOLERANCE for a, b in zip(*found, strict=True)] == [True] * 4


@pytest.mark.parametrize("options", [{}, {"fullgraph": True}])
@pytest.mark.parametrize("inside", [False, True])
def test_what_torch_itself_refuses(inside: bool, options: dict[str, Any]) -> None:
    """A force outside of the compiled model, or inside without `trace_autograd_ops`."""
    own = Net(["graph", "layer"])

    def loss_of(given: Data) -> tuple[Tensor, Tensor]:
        model = own if inside else torch.compile(own, backend="aot_eager", **options)
        return energy_and_loss(model, given)

    run = torch.compile(loss_of, backend="aot_eager", **options) if inside else loss_of
    with pytest.raises(Exception, match=r"double backward|trace_autograd_ops"):
        step_of(own, run, data(SIZES[0]))
