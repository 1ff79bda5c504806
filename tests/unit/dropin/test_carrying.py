"""What hangs on an old norm is carried over, or the norm is left, or the table names it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import graphnorms as gn
from graphnorms.bench.pyg_layers import load
from tests.norms import randomize
from tests.unit.dropin.models import WIDTH, Given, Plain, by_graph, minibatch

NODES = minibatch()


def filled(norm: nn.Module) -> Any:
    randomize(norm, torch.Generator().manual_seed(0))
    return norm


def note_of(old: nn.Module, to: Any, **arguments: Any) -> str:
    (change,) = gn.replace_norms(Given(old), to, **arguments).changes
    return change.note


Exchange = Callable[[nn.Module], Any]
EXCHANGES: dict[str, Exchange] = {
    "replace_norms": lambda model: gn.replace_norms(model, "same"),
    "convert_sync": gn.convert_sync,
}
both = pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)


# Norms without bias.

WITHOUT_BIAS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(WIDTH, bias=False),
    "LayerNorm": lambda: nn.LayerNorm(WIDTH, bias=False),
    "GroupNorm": lambda: nn.GroupNorm(2, WIDTH, bias=False),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", WITHOUT_BIAS)
def test_the_same_norm_without_bias(name: str, training: bool) -> None:
    old = filled(WITHOUT_BIAS[name]()).train(training)
    result = gn.replace_norms(Given(copy.deepcopy(old)), "same")
    assert result.changes[0].note == "everything"
    model = result.model
    assert [key.rpartition(".")[2] for key, _ in model.named_parameters()] == ["weight"]
    for _ in range(2):  # running statistics move on
        y, expected = model(NODES.x, NODES.batch), old(NODES.x)
        assert torch.allclose(y, expected, atol=1e-5)
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    before = {key: value for key, value in old.state_dict().items() if "running" in key}
    after = {key.rpartition(".")[2]: value for key, value in model.state_dict().items()}
    assert all(torch.allclose(after[key], value, atol=1e-6) for key, value in before.items())


def test_torchs_instance_norm_without_bias() -> None:
    old = filled(nn.InstanceNorm1d(WIDTH, affine=True, bias=False, track_running_stats=True))
    result = gn.replace_norms(Given(copy.deepcopy(old)), "same")
    y = result.model(NODES.x, NODES.batch)
    assert torch.allclose(y, by_graph(NODES.x, NODES.batch) * old.weight, atol=1e-4)
    # In eval() by running statistics: torch's takes (graphs, channels, nodes).
    again = gn.replace_norms(Given(copy.deepcopy(old)), "same").model.eval()
    expected = old.eval()(NODES.x.T.unsqueeze(0))[0].T
    assert torch.allclose(again(NODES.x, NODES.batch), expected, atol=1e-5)


@both
def test_a_batch_norm_without_bias_keeps_its_running_statistics(exchange: Exchange) -> None:
    """The case that was off by several units: running statistics far from those of a new norm."""
    old = nn.BatchNorm1d(WIDTH, bias=False).eval()
    assert old.running_mean is not None
    assert old.running_var is not None
    old.running_mean.fill_(5)
    old.running_var.fill_(0.25)
    model = exchange(nn.Sequential(old)).model
    expected = (NODES.x - 5) / (0.25 + 1e-5) ** 0.5
    assert torch.allclose(model(NODES.x), expected, atol=1e-4)
    assert [key for key, _ in model.named_parameters()] == ["0.module.weight"]


def test_a_norm_of_another_kind_has_a_bias_of_its_own() -> None:
    old = nn.LayerNorm(WIDTH, bias=False)
    assert note_of(old, "graph") == "weight; its bias is new"
    assert note_of(nn.RMSNorm(WIDTH), "graph") == "weight"


# Hooks.


@both
@pytest.mark.parametrize("when", ["before", "after"])
def test_forward_hooks_go_along(exchange: Exchange, when: str) -> None:
    norm = nn.BatchNorm1d(WIDTH)
    seen: list[tuple[str, Any]] = []
    handles = [
        norm.register_forward_pre_hook(lambda norm, args: seen.append(("pre", args))),
        norm.register_forward_hook(lambda norm, args, y: seen.append(("forward", args))),
        norm.register_forward_pre_hook(
            lambda norm, args, kwargs: seen.append(("pre kwargs", args)), with_kwargs=True
        ),
        norm.register_forward_hook(
            lambda norm, args, kwargs, y: seen.append(("forward kwargs", args)), with_kwargs=True
        ),
        norm.register_full_backward_pre_hook(lambda norm, g: seen.append(("backward pre", g))),
        norm.register_full_backward_hook(lambda norm, g, h: seen.append(("backward", g))),
    ]
    model = exchange(nn.Sequential(norm)).model.eval()
    if when == "after":  # what a handle removes is removed from the new norm
        for handle in handles:
            handle.remove()
    model(NODES.x.clone().requires_grad_()).sum().backward()
    names = {"pre", "forward", "pre kwargs", "forward kwargs", "backward pre", "backward"}
    assert {name for name, _ in seen} == (names if when == "before" else set())
    assert all(len(tensors) == 1 for _, tensors in seen)  # as with the old norm: features alone


def test_hooks_see_what_the_model_gives_and_what_comes_of_it() -> None:
    norm = nn.BatchNorm1d(WIDTH)
    seen: list[Any] = []
    norm.register_forward_hook(lambda norm, args, y: seen.append((args, y)))
    norm.register_forward_hook(lambda norm, args, y: y + 1)
    result = gn.replace_norms(Given(norm), "instance")
    assert result.changes[0].note == "weight and bias; also hooks; not running statistics"
    y = result.model(NODES.x, NODES.batch)
    expected = by_graph(NODES.x, NODES.batch)
    assert torch.allclose(y, expected + 1, atol=1e-5)
    ((args, before),) = seen
    assert len(args) == 1
    assert torch.allclose(before, expected, atol=1e-5)
    # Exchanged once more, the hooks are there once, and the batch comes by one way.
    again = gn.replace_norms(result.model, "layer-graph")
    again.model(NODES.x, NODES.batch)
    assert len(seen) == 2
    again.undo()
    assert torch.allclose(result.model(NODES.x, NODES.batch), expected + 1, atol=1e-5)
    result.undo()
    assert len(norm._forward_pre_hooks) == 0
    assert len(norm._forward_hooks) == 2


def test_hooks_that_do_not_go_along_are_named() -> None:
    inner = load().BatchNorm(WIDTH)
    inner.module.register_forward_hook(lambda *_: None)
    assert note_of(inner, "same") == "everything; not the hooks of its inner module"
    of_state = nn.LayerNorm(WIDTH)
    of_state.register_state_dict_post_hook(lambda *_: None)
    assert note_of(of_state, "same") == "everything; not the hooks of its state_dict"
    of_weight = nn.LayerNorm(WIDTH)
    of_weight.weight.register_hook(lambda grad: grad)
    assert note_of(of_weight, "rms") == "weight; not bias and the hooks of weight"


def test_a_module_around_the_old_norm_has_all_of_it() -> None:
    norm = nn.BatchNorm1d(WIDTH)
    calls: list[Any] = []
    norm.register_forward_hook(lambda *args: calls.append(args))
    result = gn.replace_norms(Given(norm), lambda old: nn.Sequential(old, nn.ReLU()))
    assert result.changes[0].note == "everything: it holds the old norm"
    result.model(NODES.x, NODES.batch)
    assert len(calls) == 1
    # So it does all that the old one does, its synchronization included.
    synchronized = nn.Sequential(nn.SyncBatchNorm(WIDTH))
    (change,) = gn.replace_norms(synchronized, lambda old: nn.Sequential(old, nn.ReLU())).changes
    assert change.note == "everything: it holds the old norm"


# Parameters.


@both
def test_what_is_set_on_parameters_and_norms_goes_along(exchange: Exchange) -> None:
    norm: Any = filled(nn.BatchNorm1d(WIDTH))
    norm.weight.no_weight_decay = True
    norm.bias.requires_grad_(False)
    norm.tag = "first"
    result = exchange(nn.Sequential(norm))
    (new,) = result.model
    assert result.changes[0].note == "everything"
    assert new.module.weight.no_weight_decay
    assert new.module.weight is not norm.weight
    assert not hasattr(new.module.bias, "no_weight_decay")
    assert new.module.weight.requires_grad
    assert not new.module.bias.requires_grad
    assert new.tag == "first"


def test_attributes_of_a_norm_of_another_kind_are_named() -> None:
    norm: Any = nn.BatchNorm1d(WIDTH)
    norm.weight.lr_scale = 0.1
    norm.tag = "first"
    result = gn.replace_norms(Plain(norm), "graph")
    assert result.changes[0].note == ("weight and bias; also attribute tag; not running statistics")
    assert result.model.norm.weight.lr_scale == 0.1
    assert result.model.norm.tag == "first"


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm1d(WIDTH),
        lambda: nn.LayerNorm(WIDTH),
        lambda: nn.GroupNorm(2, WIDTH),
        lambda: nn.InstanceNorm1d(WIDTH),
        lambda: nn.RMSNorm(WIDTH),
        lambda: nn.SyncBatchNorm(WIDTH),
        *(
            lambda name=name: getattr(load(), name)(WIDTH)
            for name in ("BatchNorm", "LayerNorm", "InstanceNorm", "GraphNorm")
        ),
        lambda: load().PairNorm(),
        lambda: load().DiffGroupNorm(WIDTH, 2),
        *(
            lambda name=name: gn.make_norm(name, WIDTH)
            for name in ("batch", "layer", "instance", "graph", "rms", "power", "custom", "pair")
        ),
    ],
)
def test_a_norm_as_it_is_made_has_no_attributes_to_carry(make: Callable[[], nn.Module]) -> None:
    for to in ("same", lambda old: gn.GraphNorm(WIDTH)):
        assert "attribute" not in note_of(make(), to)


def tied() -> nn.Sequential:
    model = nn.Sequential(filled(nn.BatchNorm1d(WIDTH)), nn.BatchNorm1d(WIDTH), nn.LayerNorm(WIDTH))
    first, second, third = model
    second.weight = first.weight  # type: ignore[union-attr, assignment]
    third.bias = first.bias  # type: ignore[union-attr, assignment]
    return model


@both
def test_a_tied_parameter_stays_tied(exchange: Exchange) -> None:
    model = tied()
    weight = model[0].weight
    before = sum(parameter.numel() for parameter in model.parameters())
    result = exchange(model)
    first, second, third = result.model
    assert first.module.weight is weight
    assert second.module.weight is weight
    assert third.bias is first.module.bias
    assert sum(parameter.numel() for parameter in model.parameters()) == before
    assert "weight tied to 1.weight; bias tied to 2.bias" in result.changes[0].note
    assert "weight tied to 0.weight" in result.changes[1].note
    assert result.undo()[0].weight is weight


def test_a_tie_that_ends_is_named() -> None:
    notes = [change.note for change in gn.replace_norms(tied(), "pair").changes]
    assert notes[0].endswith("not weight tied to 1.weight and bias tied to 2.bias")
    notes = [c.note for c in gn.replace_norms(tied(), "same", keep_parameters=False).changes]
    assert notes[2] == "nothing: keep_parameters=False; not bias tied to 0.bias"


def test_a_tied_parameter_in_places_of_one_each() -> None:
    norm, lin = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
    norm.bias = lin.bias
    model = nn.Sequential(norm, norm, lin)
    first, second, _ = gn.replace_norms(model, "graph", unshare=True).model
    assert first is not second
    assert first.weight is not second.weight
    assert first.bias is second.bias is lin.bias


def softplus(norm: nn.Module) -> None:
    parametrize.register_parametrization(norm, "weight", nn.Softplus())


def weight_norm(norm: nn.Module) -> None:
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(norm, "weight")


@both
@pytest.mark.parametrize(
    "how",
    [
        softplus,
        lambda norm: prune.l1_unstructured(norm, "weight", 2),
        weight_norm,
    ],
    ids=["parametrization", "pruning", "weight_norm"],
)
def test_a_weight_that_is_computed_leaves_the_norm(how: Any, exchange: Exchange) -> None:
    norm = filled(nn.BatchNorm1d(WIDTH))
    how(norm)
    model = nn.Sequential(norm)
    (change,) = exchange(model).changes
    assert model[0] is norm
    assert change.new is None
    assert "its weight is computed" in change.note


# The rest of the table.


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    "name",
    [
        f"{lazy}{kind}Norm{n}d"
        for lazy in ("", "Lazy")
        for kind in ("Batch", "Instance")
        for n in (2, 3)
    ],
)
def test_norms_of_images_are_in_the_table(name: str) -> None:
    for exchange in EXCHANGES.values():
        norm = getattr(nn, name)(*(() if "Lazy" in name else (3,)))
        images, of_nodes = exchange(nn.Sequential(norm, nn.BatchNorm1d(WIDTH))).changes
        assert (images.old, images.new) == (norm, None)
        assert "images" in images.note
        assert of_nodes.new is not None


def test_norms_that_nobody_knows_are_named() -> None:
    class OwnNorm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class HoldsANorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDTH)

    model = nn.ModuleDict({"a": OwnNorm(), "b": HoldsANorm()})
    text = str(gn.replace_norms(model, lambda old: OwnNorm()))
    assert "Kept, because they are unknown: a (OwnNorm)." in text
    with pytest.raises(ValueError, match=r"has no norm .* yourself: 0 \(OwnNorm\)"):
        gn.replace_norms(nn.Sequential(OwnNorm()), "graph")


@pytest.mark.parametrize("name", ["GraphNorm", "LayerNorm", "BatchNorm", "InstanceNorm"])
def test_a_dtype_that_changes_under_autocast_is_said(name: str) -> None:
    """PyG multiplies bfloat16 by float32 parameters, which gives float32."""
    old = getattr(load(), name)(WIDTH)
    new = gn.replace_norms(Plain(copy.deepcopy(old)), "same")
    x = NODES.x.bfloat16()  # as a linear layer gives it under autocast
    with torch.autocast("cpu", dtype=torch.bfloat16), gn.batch(NODES.batch):
        theirs, ours = old(x), new.model(x)
    assert ours.dtype == torch.bfloat16
    differs = theirs.dtype == torch.float32
    assert differs == (name in ("GraphNorm", "LayerNorm"))
    assert ("autocast" in new.changes[0].note) == differs


def test_convert_sync_says_it_too() -> None:
    (change,) = gn.convert_sync(load().GraphNorm(WIDTH), split_graphs=True).changes
    assert "autocast" in change.note
    (change,) = gn.convert_sync(nn.SyncBatchNorm(WIDTH)).changes
    assert change.note == "everything"  # it is synchronized still


def test_a_norm_that_is_synchronized_is_still_given_the_batch() -> None:
    model = Given(load().InstanceNorm(WIDTH, track_running_stats=True))
    gn.replace_norms(model, lambda old: old)
    result = gn.convert_sync(model)
    assert isinstance(model.norm, gn.InstanceNorm)
    model.norm.process_group = None  # there are no others here
    y = model(NODES.x, NODES.batch)
    assert torch.allclose(y, by_graph(NODES.x, NODES.batch), atol=1e-5)
    result.undo()
    assert torch.allclose(model(NODES.x, NODES.batch), y, atol=1e-5)
