"""What is exchanged, what it takes over, what is left and why, and the way back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import graphnorms as gn
from graphnorms.bench.pyg_layers import load
from graphnorms.dropin.known_norms import recognize
from tests.norms import randomize
from tests.unit.dropin.models import WIDTH, Given, Plain, Pooled, minibatch

NODES = minibatch()


def filled(norm: nn.Module) -> nn.Module:
    """A norm whose parameters and buffers are not those of a new one."""
    randomize(norm, torch.Generator().manual_seed(0))
    return norm


TORCHS: dict[str, Callable[[], nn.Module]] = {
    "batch": lambda: nn.BatchNorm1d(WIDTH, eps=1e-3, momentum=None),
    "batch ": lambda: nn.SyncBatchNorm(WIDTH),
    "batch  ": lambda: nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=False),
    "layer": lambda: nn.LayerNorm(WIDTH, eps=1e-3),
    "layer ": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "group": lambda: nn.GroupNorm(2, WIDTH),
    "rms": lambda: nn.RMSNorm(WIDTH, eps=1e-3),
    "rms ": lambda: nn.RMSNorm(WIDTH),
}
PYGS: dict[str, tuple[str, dict[str, Any]]] = {
    "batch": ("BatchNorm", {"in_channels": WIDTH, "eps": 1e-3, "allow_single_element": True}),
    "layer-graph": ("LayerNorm", {"in_channels": WIDTH}),
    "layer": ("LayerNorm", {"in_channels": WIDTH, "mode": "node", "affine": False}),
    "instance": (
        "InstanceNorm",
        {
            "in_channels": WIDTH,
            "affine": True,
            "track_running_stats": True,
            "momentum": 0.3,
        },
    ),
    "graph": ("GraphNorm", {"in_channels": WIDTH, "eps": 1e-2}),
    "graph-size": ("GraphSizeNorm", {}),
    "pair": ("PairNorm", {"scale": 2.0, "scale_individually": True}),
    "mean-subtraction": ("MeanSubtractionNorm", {}),
    "diff-group": ("DiffGroupNorm", {"in_channels": WIDTH, "groups": 3, "lamda": 0.5}),
}


def same_results(old: nn.Module, kind: str, *, training: bool) -> None:
    """The norm that `to="same"` puts in computes what the old one did, and is of our making."""
    expected = filled(old).train(training)
    result = gn.replace_norms(Given(expected), "same", inplace=False)
    new = result.model.norm
    (change,) = result.changes
    known = recognize(new)
    assert isinstance(new, nn.Module)
    assert known is not None
    assert (known.library, known.kind) == ("graphnorms", kind.strip())
    assert change.note.partition(";")[0] in ("everything", "nothing to keep")
    assert new.training == training
    for _ in range(2):  # running statistics move on
        y = result.model(NODES.x, NODES.batch, NODES.graphs)
        takes_batch = "batch" in expected.forward.__code__.co_varnames
        other = expected(NODES.x, NODES.batch) if takes_batch else expected(NODES.x)
        assert torch.allclose(y, other, atol=2e-5)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", TORCHS)
def test_ours_of_the_same_kind_for_torchs(name: str, training: bool) -> None:
    if name == "batch " and training:
        pytest.skip("SyncBatchNorm trains on GPUs alone")
    same_results(TORCHS[name](), name, training=training)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", PYGS)
def test_ours_of_the_same_kind_for_pygs(name: str, training: bool) -> None:
    kind, arguments = PYGS[name]
    same_results(getattr(load(), kind)(**arguments), name, training=training)


@pytest.mark.parametrize("name", ["batch", "layer", "layer-graph", "instance", "graph", "rms"])
def test_ours_for_ours(name: str) -> None:
    old = filled(gn.make_norm(name, WIDTH))
    result = gn.replace_norms(Given(old), "same")
    assert result.model.norm is not old
    before, after = old.state_dict(), result.model.norm.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_weight_and_bias_go_from_kind_to_kind() -> None:
    old = filled(nn.BatchNorm1d(WIDTH, dtype=torch.float64))
    old.weight.requires_grad_(False)
    result = gn.replace_norms(Plain(old), "graph:eps=0.1")
    new = result.model.norm
    assert isinstance(new, gn.GraphNorm)
    assert new.eps == 0.1
    assert torch.equal(new.weight, old.weight)
    assert torch.equal(new.bias, old.bias)
    assert new.weight is not old.weight
    assert new.weight.dtype == torch.float64
    assert not new.weight.requires_grad
    assert new.bias.requires_grad
    assert torch.equal(new.mean_scale, torch.ones(WIDTH, dtype=torch.float64))
    assert result.changes[0].note == "weight and bias; not running statistics"
    # And back, into another holder of parameters.
    again = gn.replace_norms(result.model, "batch").model.norm
    assert torch.equal(again.module.weight, old.weight)


@pytest.mark.parametrize(
    ("old", "to", "note"),
    [
        (nn.LayerNorm(WIDTH), "rms", "weight; not bias"),
        (nn.RMSNorm(WIDTH), "graph", "weight"),
        (gn.GraphNorm(WIDTH), "instance:affine=True", "weight and bias; not mean_scale"),
        (nn.LayerNorm(WIDTH, elementwise_affine=False), "graph", "nothing to keep"),
        (nn.BatchNorm1d(WIDTH), "pair", "nothing: its parameters mean something else"),
        (gn.PairNorm(), "mean-subtraction", "nothing to keep"),
        (
            gn.InstanceNorm(WIDTH, track_running_stats=True),
            "batch",
            "nothing to keep; not running statistics",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_kept_is_said(old: nn.Module, to: str, note: str) -> None:
    assert gn.replace_norms(Given(old), to).changes[0].note == note


def test_what_torch_does_otherwise_is_said() -> None:
    (change,) = gn.replace_norms(Given(nn.InstanceNorm1d(WIDTH, affine=True)), "same").changes
    assert change.note.startswith("everything; torch's treats (nodes, channels) as one sequence")
    (change,) = gn.replace_norms(Given(nn.SyncBatchNorm(WIDTH)), "batch").changes
    assert change.note == "everything; not its synchronization over ranks"


def test_parameters_can_be_new() -> None:
    result = gn.replace_norms(Plain(filled(nn.BatchNorm1d(WIDTH))), "graph", keep_parameters=False)
    assert torch.equal(result.model.norm.weight, torch.ones(WIDTH))
    assert "keep_parameters=False" in result.changes[0].note


def blocks() -> nn.Module:
    return nn.ModuleDict(
        {
            "convs": nn.ModuleList([Plain(), Plain(nn.LayerNorm(WIDTH))]),
            "head": nn.Sequential(
                nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.BatchNorm2d(2)
            ),
        }
    )


@pytest.mark.parametrize(
    "where",
    [
        "convs.*",
        lambda name, module: name.startswith("convs"),
    ],
)
def test_where(where: Any) -> None:
    result = gn.replace_norms(blocks(), "graph", where)
    assert [change.name for change in result.changed] == ["convs.0.norm", "convs.1.norm"]
    assert [(change.name, change.note) for change in result.left] == [
        ("head.1", "left by `where`"),
        ("head.2", "left by `where`"),
    ]


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(ValueError, match=r"'conv\.\*', which matches none of convs\.0\.norm, "):
        gn.replace_norms(blocks(), "graph", "conv.*")


def test_a_function_decides() -> None:
    asked = []

    def by_name(old: nn.Module, name: str) -> Any:
        asked.append(name)
        return {"convs.0.norm": "pair:scale=2", "convs.1.norm": None}.get(name, nn.Identity())

    result = gn.replace_norms(blocks(), by_name)
    assert asked == ["convs.0.norm", "convs.1.norm", "head.1"]
    first, second, third, images = result.changes
    assert isinstance(first.new, gn.PairNorm)
    assert first.new.scale == 2
    assert (second.new, second.note) == (None, "left by `to`")
    assert isinstance(third.new, nn.Identity)
    assert images.new is None
    of_one = gn.replace_norms(blocks(), lambda old: gn.GraphNorm(WIDTH))
    assert len(of_one.changed) == 3
    bad: Any = lambda old: 3  # noqa: E731
    with pytest.raises(ValueError, match="returned 3 for norm, expected a module"):
        gn.replace_norms(Plain(), bad)
    kind: Any = gn.GraphNorm
    with pytest.raises(ValueError, match="to is the class GraphNorm, expected the name"):
        gn.replace_norms(Plain(), kind)


def test_the_same_norm_is_only_given_the_batch() -> None:
    model = Given(gn.GraphNorm(WIDTH))
    norm = model.norm
    result = gn.replace_norms(model, lambda old: old)
    assert result.model.norm is norm
    y = model(NODES.x, NODES.batch)
    assert torch.equal(y, gn.GraphNorm(WIDTH)(NODES.x, NODES.batch))
    result.undo()
    assert torch.equal(model(NODES.x, NODES.batch), gn.GraphNorm(WIDTH)(NODES.x))


def test_modules_of_others_are_called_with_what_they_take() -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor, batch: Tensor) -> Tensor:
            return x * batch.unsqueeze(1)

    model = gn.replace_norms(Given(), lambda old: Own()).model
    assert torch.equal(model(NODES.x, NODES.batch), NODES.x * NODES.batch.unsqueeze(1))

    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = gn.GraphNorm(WIDTH)

        def forward(self, x: Tensor, batch: Tensor) -> Tensor:
            y: Tensor = self.norm(x, batch=batch, batch_size=3)
            return y

    model = gn.replace_norms(Caller(), lambda old: nn.LayerNorm(WIDTH)).model
    assert torch.equal(model(NODES.x, NODES.batch), nn.LayerNorm(WIDTH)(NODES.x))
    for name in ("mean-subtraction", "graph-size"):  # with other names for the number of graphs
        model = gn.replace_norms(Caller(), name).model
        expected = gn.make_norm(name, WIDTH)(NODES.x, NODES.batch)
        assert torch.equal(model(NODES.x, NODES.batch), expected)


def test_a_copy_leaves_the_model() -> None:
    model = Given()
    old = model.norm
    result = gn.replace_norms(model, "graph", inplace=False)
    assert result.model is not model
    assert model.norm is old
    assert "forward" not in vars(model)


def test_a_model_that_is_a_norm() -> None:
    result = gn.replace_norms(nn.BatchNorm1d(WIDTH), "instance")
    assert isinstance(result.model, gn.InstanceNorm)
    with gn.batch(NODES.batch):
        result.model(NODES.x)
    assert isinstance(result.undo(), nn.BatchNorm1d)


def test_undo() -> None:
    model = Given(filled(nn.BatchNorm1d(WIDTH)))
    old, state = model.norm, {k: v.clone() for k, v in model.state_dict().items()}
    result = gn.replace_norms(model, "graph")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    again = gn.replace_norms(model, "pair")
    with pytest.raises(ValueError, match="norm was replaced again"):
        result.undo()
    again.undo()
    assert isinstance(model.norm, gn.GraphNorm)
    assert result.undo() is model
    assert model.norm is old
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert "forward" not in vars(model)
    assert not old._forward_pre_hooks
    with pytest.raises(ValueError, match="undo was called before"):
        result.undo()


@pytest.mark.parametrize("unshare", [False, True])
def test_one_norm_in_several_places(unshare: bool) -> None:
    """PyG's MLP puts the very instance that it is given into every place."""
    mlp = load().MLP([WIDTH] * 4, norm=load().GraphNorm(WIDTH))
    assert mlp.norms[0] is mlp.norms[1]
    result = gn.replace_norms(mlp, "instance", unshare=unshare)
    assert (mlp.norms[0] is mlp.norms[1]) != unshare
    (change,) = result.changes
    assert change.names == ("norms.0", "norms.1")
    assert ("one each" if unshare else "still one") in change.note
    mlp(NODES.x, NODES.batch)
    with pytest.raises(ValueError, match=r"norms\.0 .* needs the graph"):
        mlp(NODES.x)
    result.undo()
    assert mlp.norms[0] is mlp.norms[1]
    assert not mlp.norms[0]._forward_pre_hooks


def test_a_part_that_is_used_twice_is_one_place() -> None:
    part = Plain()
    result = gn.replace_norms(nn.ModuleList([part, part]), "graph")
    assert [change.names for change in result.changes] == [("0.norm",)]


def test_an_example_shows_what_is_not_of_nodes() -> None:
    edges = torch.randint(12, (2, 20), generator=torch.Generator().manual_seed(0))
    example = (NODES.x, edges, NODES.batch, 3)
    model = Pooled().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = gn.replace_norms(model, "graph", example=example)
    notes = {change.name: change.note for change in result.left}
    assert notes == {
        "edges": "its input has 20 rows, but the batch has 12",
        "graphs": "it is applied after the pooling, where a graph is a single row",
        "unused": "the example does not reach it",
    }
    assert [change.name for change in result.changed] == ["nodes"]
    assert model.training
    assert model.graphs.training
    model(*example)
    result.undo()
    names = ("x", "edge_index", "batch", "batch_size")
    again = gn.replace_norms(model, "layer", example=dict(zip(names, example, strict=True)))
    assert [change.name for change in again.changed] == ["nodes", "edges", "graphs"]
    again.undo()
    model.load_state_dict(before)


def test_an_example_shows_dimensions_and_widths() -> None:
    left = gn.replace_norms(Plain(nn.BatchNorm1d(4)), "graph", example=torch.randn(2, 4, 5)).left
    assert left[0].note == "its input is (2, 4, 5), not (nodes, channels)"
    pair = load().PairNorm
    assert "pass an example" in gn.replace_norms(Plain(pair()), "graph").left[0].note
    changed = gn.replace_norms(Plain(pair()), "graph", example=NODES.x).changed
    assert isinstance(changed[0].new, gn.GraphNorm)
    assert changed[0].new.in_channels == WIDTH


class OwnNorm(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


LEFT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "several dimensions": (lambda: nn.LayerNorm((3, WIDTH)), "last 2 dimensions, (3, 6)"),
    "own forward": (lambda: OwnNorm(WIDTH), "OwnNorm has a forward of its own"),
    "lazy": (lambda: nn.LazyBatchNorm1d(), "its number of channels is not known yet"),
    "types": (lambda: gn.HeteroBatchNorm(WIDTH, 2), "it needs types besides"),
    "message": (lambda: load().MessageNorm(), "it needs message besides"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_exchanged_is_left_with_the_reason(name: str) -> None:
    make, reason = LEFT[name]
    (change,) = gn.replace_norms(Plain(make()), "graph").changes
    assert change.new is None
    assert reason in change.note


def test_norms_of_torchs_transformer_are_left() -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True)
    model = nn.TransformerEncoder(layer, 1, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
    changes = gn.replace_norms(model, "graph").changes
    assert len(changes) == 3
    assert all("takes sequences" in change.note for change in changes)


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("grahp", "unknown norm 'grahp'; did you mean graph"),
        ("adja", "needs adjacency besides features and graphs"),
        ("hetero-batch", "needs types besides"),
    ],
)
def test_wrong_names(to: str, message: str) -> None:
    model = Plain()
    with pytest.raises(ValueError, match=message):
        gn.replace_norms(model, to)
    assert isinstance(model.norm, nn.BatchNorm1d)


def test_a_model_without_norms() -> None:
    with pytest.raises(ValueError, match="Linear has no norm"):
        gn.replace_norms(nn.Linear(2, 2))


def test_the_table() -> None:
    text = str(gn.replace_norms(blocks(), "graph", "convs.*"))
    lines = text.splitlines()
    assert re.split(r"  +", lines[0]) == ["norm", "was", "is", "transferred, or why it was kept"]
    assert re.split(r"  +", lines[1]) == [
        "convs.0.norm",
        "torch: BatchNorm1d(6)",
        "graphnorms: GraphNorm(6)",
        "weight and bias; not running statistics",
    ]
    assert re.split(r"  +", lines[3]) == [
        "head.1",
        "torch: BatchNorm1d(6)",
        "kept",
        "left by `where`",
    ]
    assert lines[5] == "2 of 4 norms replaced."


def test_resolve_norm() -> None:
    pair = gn.resolve_norm("pair", 16)
    assert isinstance(pair, gn.PairNorm)
    assert pair.scale == 1  # PyG's own models make it 16
    scaled = gn.resolve_norm("pair:scale=2", 16, scale_individually=True)
    assert isinstance(scaled, gn.PairNorm)
    assert (scaled.scale, scaled.scale_individually) == (2, True)
    for name in ("graph-size", "mean-subtraction", "message"):
        assert gn.resolve_norm(name, 16) is not None
    for name in ("BatchNorm", "batch_norm", "LayerNorm", "InstanceNorm", "PairNorm", "GraphNorm"):
        ours = gn.resolve_norm(name, 16)
        theirs = load("nn.resolver").normalization_resolver(name, 16)
        assert repr(ours) == repr(theirs)
    assert gn.resolve_norm("layer", 16).mode == "node"  # type: ignore[union-attr]
    assert gn.resolve_norm("LayerNorm", 16).mode == "graph"  # type: ignore[union-attr]
    norm = nn.Identity()
    assert gn.resolve_norm(norm, 16) is norm
    assert gn.resolve_norm(None, 16) is None
    with pytest.raises(ValueError, match="unknown norm 'pear'; did you mean pair"):
        gn.resolve_norm("pear", 16)


@pytest.mark.parametrize("name", gn.CATALOG)
def test_layers_say_whether_graphs_count(name: str) -> None:
    row = gn.CATALOG[name]
    if row.needs:
        pytest.skip("not put into models")
    divided = {"group": {"num_groups": 2}, "qk": {"heads": 2}}
    norm = gn.make_norm(name, WIDTH, **divided.get(name.split("-")[0], {})).eval()
    differs = not torch.allclose(norm(NODES.x, NODES.batch, 3), norm(NODES.x))
    assert norm.per_graph == differs


@pytest.mark.parametrize("center", ["none", "node", "graph", "batch"])
def test_custom_norms_say_whether_graphs_count(center: str) -> None:
    norm = gn.CustomNorm(WIDTH, center=center, scale="node")
    assert norm.per_graph == (center == "graph")


WRONG: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "a typo": (lambda: exchange("grahp"), ("'grahp'", "did you mean graph")),
    "the name of a class": (lambda: exchange("GraphNorm"), ("'GraphNorm'", "did you mean graph")),
    "no name": (lambda: exchange(""), ("''", "known: none, batch")),
    "an argument's typo": (lambda: exchange("pair:scal=2"), ("'scal'", "did you mean scale")),
    "an argument without name": (lambda: exchange("pair:2"), ("'2'", "pair:scale=2")),
    "an argument that is not positive": (lambda: exchange("graph:eps=-1"), ("norm", "eps is -1")),
    "a divisor": (lambda: exchange("group:num_groups=4"), ("norm", "num_groups is 4", "6 chann")),
    "edges": (lambda: exchange("united"), ("'united'", "adjacency", "choose another")),
    "to is None": (lambda: exchange(None), ("to has type NoneType", "'same'")),
    "to is a module": (lambda: exchange(gn.GraphNorm(6)), ("to has type GraphNorm", "lambda old")),
    "to is a class": (lambda: exchange(gn.GraphNorm), ("to is the class GraphNorm", "lambda old")),
    "to takes three": (lambda: exchange(lambda a, b, c: "graph"), ("of 3 arguments", "old norm")),
    "to returns a number": (lambda: exchange(lambda old: 3), ("returned 3 for norm", "a module")),
    "to returns a class": (lambda: exchange(lambda old: gn.GraphNorm), ("the class GraphNorm",)),
    "to returns a typo": (lambda: exchange(lambda old: "grap"), ("'grap'", "did you mean graph")),
    "to returns what takes edges": (lambda: exchange(lambda old: "adja"), ("'adja'", "adjacency")),
    "to returns another width": (
        lambda: exchange(lambda old: gn.GraphNorm(3)),
        ("GraphNorm of 3", "norm, which has 6"),
    ),
    "where matches none": (lambda: exchange("graph", "conv*"), ("'conv*'", "none of norm")),
    "where is a list": (lambda: exchange("graph", ["norm"]), ("type list", "a pattern")),
    "where takes one": (lambda: exchange("graph", lambda name: True), ("1 argum", "name and norm")),
    "a class for the model": (lambda: gn.replace_norms(wrong(Plain)), ("the class Plain",)),
    "no model": (lambda: gn.replace_norms(wrong(None)), ("NoneType", "expected a module")),
    "arguments swapped": (lambda: gn.replace_norms(wrong("graph"), wrong(Plain())), ("type str",)),
    "a state": (lambda: gn.replace_norms(wrong(Plain().state_dict())), ("type OrderedDict",)),
    "no norm": (lambda: gn.replace_norms(nn.Linear(2, 2)), ("Linear has no norm",)),
    "no norm, fused": (
        lambda: gn.replace_norms(nn.Linear(2, 2), "fused"),
        ("Linear has no norm", "e3nn", "fairchem"),
    ),
    "a wrapped model": (
        lambda: gn.replace_norms(nn.DataParallel(Plain())),
        ("DataParallel", "wrap the result"),
    ),
    "a word for a switch": (
        lambda: exchange("graph", single_graph="yes"),
        ("single_graph is 'yes'", "True or False"),
    ),
    "a name to keep": (
        lambda: exchange("graph", keep_parameters="weight"),
        ("'weight'", "True or False"),
    ),
    "an example that does not fit": (
        lambda: exchange("graph", example=(NODES.x, 2, 3)),
        ("Plain.forward(x", "too many"),
    ),
    "an example by other names": (
        lambda: exchange("graph", example={"y": NODES.x}),
        ("Plain.forward(x", "'x'"),
    ),
    "a loader for an example": (
        lambda: exchange("graph", example=DataLoader([1])),
        ("DataLoader", "next(iter(loader))"),
    ),
    "a batch of numbers": (
        lambda: gn.batch(NODES.batch.float()),
        ("(12,)", "float32", "vector of integers"),
    ),
    "a batch of two dimensions": (lambda: gn.batch(NODES.batch.view(3, 4)), ("(3, 4)", "int64")),
    "a batch of lists by type": (lambda: gn.batch({"a": [0, 1]}), ("a list", "node types")),
    "convert_sync without model": (lambda: gn.convert_sync(wrong(None)), ("NoneType",)),
}


def wrong(value: Any) -> Any:
    return value


def exchange(to: Any, where: Any = None, **arguments: Any) -> Any:
    """Exchange the norm of a model, which stays as it was if that is refused."""
    model = Plain()
    before = model.norm
    try:
        return gn.replace_norms(model, to, where, **arguments)
    finally:
        assert model.norm is before
        assert not before._forward_pre_hooks
        assert "forward" not in vars(model)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_in_one_line(name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        call()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


def test_a_refusal_leaves_the_whole_model_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(8), nn.BatchNorm1d(6))
    norms = list(model)
    with pytest.raises(ValueError, match=r"'group' does not fit 1: num_groups is 8"):
        gn.replace_norms(model, "group")
    assert list(model) == norms
    assert not any(norm._forward_pre_hooks for norm in norms)
