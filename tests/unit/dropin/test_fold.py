"""`fold`: BatchNorm in `eval()` goes into the linear layer in front of it, where it is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import graphnorms
from graphnorms.layers import BatchNorm, GraphNorm, HeteroBatchNorm


def settled(module: nn.Module) -> nn.Module:
    """Give the norms parameters and running statistics away from their defaults, in float64."""
    draw = torch.Generator().manual_seed(0)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=draw, dtype=torch.float64) + 0.5
    return module.eval()


X = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm1d(5),
        lambda: nn.BatchNorm1d(5, affine=False),
        lambda: BatchNorm(5),
        lambda: BatchNorm(5, bias=False),
        lambda: BatchNorm(5, affine=False, activation="relu"),
        lambda: BatchNorm(5, activation="gelu", dropout=0.5),
        lambda: pytest.importorskip("torch_geometric.nn").BatchNorm(5),
    ],
)
def test_outputs_are_the_same(norm, bias):
    model = settled(nn.Sequential(nn.Linear(4, 5, bias=bias), norm(), nn.Linear(5, 2)))
    wanted, old = model(X), model[1]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    result = graphnorms.fold(model)
    assert [change.name for change in result.folded] == ["1"]
    assert not result.left
    assert old not in set(model.modules())
    assert torch.allclose(model(X), wanted, rtol=1e-12, atol=1e-12)

    result.undo()
    assert model[1] is old
    assert (model[0].bias is None) == (not bias)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    with pytest.raises(ValueError, match="before"):
        result.undo()


class Branches(nn.Module):
    """Norms that get the result of a linear layer, some of them not alone."""

    def __init__(self) -> None:
        super().__init__()
        self.alone, self.alone_norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.added, self.added_norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.twice, self.twice_norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.kept, self.kept_norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.after, self.after_norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.hooked, self.hooked_norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.tied, self.tied_norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.other = nn.Linear(4, 4)
        self.other.weight = self.tied.weight
        self.graph, self.graph_norm = nn.Linear(4, 4), GraphNorm(4)
        self.batch, self.batch_norm = nn.Linear(4, 4), BatchNorm(4, track_running_stats=False)
        self.hetero, self.hetero_norm = nn.Linear(4, 4), HeteroBatchNorm(4, 2)
        self.unreached = nn.BatchNorm1d(4)
        self.hooked.register_forward_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of all."""
        assert self.alone(x).shape == x.shape  # a second call
        y = self.added(x)
        x = x + y.sum() + self.added_norm(y)
        x = x + self.twice_norm(self.twice(x)) + self.twice(x)
        self.last = self.kept(x)
        x = x + self.kept_norm(self.last)
        x = x + self.after_norm(self.after(x).relu())
        x = x + self.hooked_norm(self.hooked(x)) + self.tied_norm(self.tied(x))
        x = x + self.graph_norm(self.graph(x)) + self.batch_norm(self.batch(x))
        return x + self.hetero_norm(self.hetero(x), torch.zeros(len(x), dtype=torch.long))


LEFT = {
    "added_norm": "used elsewhere",
    "twice_norm": "called elsewhere",
    "kept_norm": "used elsewhere",
    "after_norm": "no result of a module",
    "hooked_norm": "hooks",
    "tied_norm": "shares its parameters",
    "graph_norm": "statistics of its input",
    "batch_norm": "no running statistics",
    "hetero_norm": "types of the nodes",
    "unreached": "the example does not reach it",
    "alone_norm": "the example does not reach it",
}


def test_what_is_not_exact_is_left_with_the_reason():
    model = settled(Branches())
    wanted, before = model(X), list(model.state_dict())
    result = graphnorms.fold(model, X)
    assert not result.folded
    notes = {change.name: change.note for change in result.left}
    assert notes.keys() == LEFT.keys()
    for name, part in LEFT.items():
        assert part in notes[name], (name, notes[name])
    assert torch.equal(model(X), wanted)
    assert list(model.state_dict()) == before
    assert str(result).endswith("0 of 11 norms folded.")


class Net(nn.Module):
    """A linear layer and its norm apart from each other, as in PyG's MLP."""

    def __init__(self, draws: bool = False) -> None:
        super().__init__()
        self.lins = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4, bias=False)])
        self.norms = nn.ModuleList([BatchNorm(4, activation="relu"), nn.BatchNorm1d(4)])
        self.draws = draws

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        """Apply both pairs."""
        x = self.norms[0](self.lins[0](x), batch)
        h = self.lins[1](x)
        assert h.dim() == 2
        assert h.size(1) == 4
        return self.norms[1](h) + (torch.rand(()) if self.draws else 0)


def test_an_example_shows_what_is_in_front():
    model = settled(Net())
    wanted = model(X)
    assert [change.note[:15] for change in graphnorms.fold(model).left] == ["pass an example"] * 2
    result = graphnorms.fold(model, {"x": X, "batch": None}, inplace=False)
    assert [change.note for change in result.folded] == ["lins.0", "lins.1, which has a bias now"]
    assert result.model is not model
    assert torch.allclose(result.model(X), wanted, rtol=1e-12, atol=1e-12)
    assert torch.equal(model(X), wanted)
    assert torch.compile(result.model, backend="eager", fullgraph=True)(X).shape == wanted.shape


def test_refusals_leave_the_model_as_it_is():
    model = settled(Net(draws=True))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="other outputs"):
        graphnorms.fold(model, X)
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        graphnorms.fold(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    with pytest.raises(ValueError, match="has no norm"):
        graphnorms.fold(nn.Sequential(nn.Linear(4, 4)).eval())
    assert {*model.state_dict()} == {*state}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_positions_are_left():
    """torch's BatchNorm1d has its channels in the second dimension, a linear layer in the last."""
    model = settled(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(3)))
    result = graphnorms.fold(model, torch.ones(2, 3, 4, dtype=torch.float64))
    assert "not (nodes, channels)" in result.left[0].note


def test_a_model_of_pyg():
    pyg = pytest.importorskip("torch_geometric.nn")
    model = settled(pyg.GIN(4, 8, num_layers=2, norm="batch_norm"))
    edges = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    wanted = model(X, edges)
    result = graphnorms.fold(model, (X, edges))
    notes = [(change.name, change.new is not None) for change in result.changes]
    assert notes == [
        ("convs.0.nn.norms.0", True),
        ("convs.1.nn.norms.0", True),
        ("norms.0", True),
    ]
    assert torch.allclose(model(X, edges), wanted, rtol=1e-12, atol=1e-12)


def test_a_model_of_ours():
    graphs = graphnorms.data.load_dataset("MUTAG")
    batch = graphs.batch(torch.arange(4))
    config = graphnorms.models.ModelConfig(name="gin", layers=2, hidden=8)
    model = graphnorms.models.GNN(config, "batch", graphs.num_features, 2, seed=0)
    settled(model)
    given = (batch.x.double(), batch.adjacency, batch.segments)
    wanted = model(*given)
    result = graphnorms.fold(model, given)
    assert [change.note.rpartition(".")[2] for change in result.folded] == ["linear", "linear2"] * 2
    assert torch.allclose(model(*given), wanted, rtol=1e-12, atol=1e-12)
