"""Planted blow-ups, each with a known layer and a known how; and that watching changes nothing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.models import GNN, ModelConfig
from graphnorms.probes.blow_up import BlowUp, StepRecord, diagnose
from graphnorms.probes.loss_rule import LossRule
from graphnorms.probes.norm_gain import Scaling
from graphnorms.probes.step_numbers import Measured
from graphnorms.probes.watch import BlowUpError, BlowUpWarning, OnDevice, Watch

pytestmark = pytest.mark.filterwarnings("ignore::graphnorms.probes.watch.BlowUpWarning")


def small(
    norm: str = "batch", layers: int = 3, **options: object
) -> tuple[GNN, Callable[[], Tensor]]:
    graphs = gn.load_dataset("MUTAG")
    batch = graphs.batch(torch.arange(24))
    config = ModelConfig(name="gin", hidden=16, layers=layers, **options)
    model = GNN(config, norm, graphs.num_features, graphs.num_outputs, seed=0)

    def loss() -> Tensor:
        logits = model(batch.x, batch.adjacency, batch.segments)
        return nn.functional.cross_entropy(logits, batch.y)

    return model, loss


def train(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    steps: int,
    *,
    watch: Watch | None = None,
    before: Callable[[int], None] = lambda step: None,
) -> BlowUp | None:
    found = None
    for step in range(steps):
        before(step)
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        found = watch.step(value) if watch is not None else None
        if found is not None:
            break
    return found


@pytest.mark.parametrize("start", [5, 40], ids=["early", "later"])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_layer_with_too_large_a_learning_rate_is_named(kind: type, start: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)), nn.Linear(8, 1))
    x, y = torch.randn(20, 8), torch.randn(20, 1)
    others = [p for name, p in model.named_parameters() if not name.startswith("2.")]
    optimizer = kind([{"params": others}, {"params": model[2].parameters()}], lr=1e-3)

    def before(step: int) -> None:
        optimizer.param_groups[1]["lr"] = 1e3 if step >= start else 1e-3

    def loss() -> Tensor:
        return (model(x) - y).square().mean()

    found = train(model, loss, optimizer, start + 40, watch=Watch(model), before=before)
    assert found is not None
    assert (found.layer, found.how) == ("2", "update")
    assert start <= found.first <= start + 2


def test_a_norm_near_eps_that_enlarges_gradients_is_named() -> None:
    # Weights near 0 in front of a norm, and of the residual sum past it: the first gradient is
    # about 1e5 times too large for the sum.
    torch.manual_seed(0)
    model = Summed()
    x, y = torch.randn(30, 4), torch.randn(30, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found = train(model, lambda: (model(x) - y).square().mean(), optimizer, 60, watch=Watch(model))
    assert found is not None
    assert (found.layer, found.how, found.first) == ("norm", "near-eps", 1)


class Summed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.norm = nn.Linear(4, 8), gn.InstanceNorm(8, eps=1e-12, affine=True)
        self.inner, self.head = nn.Linear(8, 8), nn.Linear(8, 1)
        nn.init.normal_(self.encoder.weight, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(x)
        return self.head(h + self.inner(self.norm(h)))


class Block(nn.Module):
    gain = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * self.linear(x)


class Stream(nn.Module):
    """A residual stream that grows with depth."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(8))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.mark.parametrize("at", [20, 32], ids=["sudden", "at a full step"])
def test_the_block_where_float16_overflows_is_named(at: int) -> None:
    torch.manual_seed(0)
    model, x = Stream().half(), torch.randn(16, 8).half()
    same = copy.deepcopy(model)

    def before(step: int) -> None:
        for block in model.blocks:
            block.gain = 20.0 if step >= at else 0.5

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    found = train(
        model,
        lambda: model(x).float().square().mean(),
        optimizer,
        at + 9,
        watch=Watch(model),
        before=before,
    )
    assert found is not None
    outputs = {}
    with torch.no_grad():
        h = x
        for number, block in enumerate(same.blocks):
            block.gain = 20.0
            outputs[f"blocks.{number}.linear"] = block.linear(h)
            h = outputs[f"blocks.{number}"] = block(h)
    first = next(name for name, y in outputs.items() if not y.isfinite().all())
    # Of a step that was not expected only the blocks are seen.
    expected = first if at == 32 else first.removesuffix(".linear")
    assert (found.layer, found.how, found.step, found.first) == (expected, "overflow", at, at)
    assert int(expected.split(".")[1]) > 2


def test_a_batch_that_is_not_finite_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(6, 4)

    def before(step: int) -> None:
        if step == 5:
            x[2, 1] = math.nan

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    found = train(model, lambda: model(x).mean(), optimizer, 9, watch=Watch(model), before=before)
    assert found is not None
    assert (found.how, found.step, found.first) == ("input", 5, 5)


@pytest.mark.parametrize("norm", ["batch", "graph", "pair"])
def test_watching_changes_no_bit(norm: str) -> None:
    states = []
    for watched in (False, True):
        torch.manual_seed(3)
        model, loss = small(norm, dropout=0.5)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        watch = Watch(model, every=3) if watched else None
        train(model, loss, optimizer, 12, watch=watch)
        if watch is not None:
            watch.close()
            assert sum(record.full for record in watch.records) >= 7
        gradients = {name: p.grad for name, p in model.named_parameters()}
        states.append({**model.state_dict(), **gradients, "random": torch.get_rng_state()})
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_memory_is_bounded() -> None:
    model, loss = small()
    watch = Watch(model, steps=8, every=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train(model, loss, optimizer, 30, watch=watch)
    assert [record.step for record in watch.records] == list(range(22, 30))
    assert [record.full for record in watch.records] == [True, False] * 4
    outputs = watch._outputs
    assert not any((outputs._held, outputs._given, outputs.measured))
    assert watch._weights is not None
    assert len(watch._weights._before) == 2
    # A forward pass whose loss nobody asks for leaves its outputs to the next one at most.
    value = loss()
    assert outputs._held
    value.backward()
    assert not outputs._held


def test_the_numbers_of_a_record() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), gn.BatchNorm(4), nn.Linear(4, 1)).double()
    x = torch.randn(7, 3, dtype=torch.float64)
    watch, optimizer = Watch(model, every=1), torch.optim.SGD(model.parameters(), lr=0.1)
    start = copy.deepcopy(model)
    for _ in range(2):
        before = copy.deepcopy(model)
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        watch.step(loss)
    record = watch.records[-1]
    assert record.loss == pytest.approx(float(loss.detach()))
    for each in (before, start):
        each.requires_grad_(False)
    h = before[0](x)
    assert record.activations["0"] == pytest.approx(float(h.square().mean().sqrt()), rel=1e-6)
    assert list(record.activations) == ["input", "0", "1", "2", ""]
    gain = (h.var(0, correction=0) + 1e-5).rsqrt()
    assert record.gains["1"] == pytest.approx(float(gain.square().mean().sqrt()), rel=1e-5)
    assert record.near == {"1": 0.0}
    pairs = list(zip(before[0].parameters(), start[0].parameters(), strict=True))
    moved = math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs))
    size = math.sqrt(sum(float(b.square().sum()) for _, b in pairs))
    assert record.relative_update("0") == pytest.approx(moved / size, rel=1e-5)
    slope = math.sqrt(sum(float(p.grad.square().sum()) for p in model[0].parameters()))
    assert record.gradients["0"] == pytest.approx(slope, rel=1e-5)


def test_the_gain_counts_only_graphs_of_several_nodes() -> None:
    norm = gn.InstanceNorm(2, eps=0.01)
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 5.0]])
    found = Scaling.of(norm).gain(norm, x, torch.tensor([0, 0, 1]))
    gain, near = map(float, found)
    assert gain == pytest.approx(math.sqrt((1 / 1.01 + 1 / 0.01) / 2))
    assert near == 0.5
    assert Scaling.of(nn.Linear(2, 2)) is None


def test_accumulated_passes_count_by_their_largest() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    nn.init.eye_(model[0].weight)
    watch = Watch(model)
    for scale in (1.0, 5.0, 2.0):
        loss = model(torch.full((3, 2), scale)).mean()
        loss.backward()
    watch.step(loss)
    assert watch.records[0].activations["0"] == 5.0


def test_a_skipped_step_of_the_scaler_is_no_blow_up() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    watch, x = Watch(model), torch.randn(5, 4) * 1e5
    weights = copy.deepcopy(model.state_dict())
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert watch.step(loss) is None
    assert torch.equal(weights["0.weight"], model[0].weight)
    assert not math.isfinite(watch.records[0].gradients["0"])


@pytest.mark.slow
def test_a_compiled_model_is_watched_from_outside() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    compiled = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x = torch.randn(6, 4)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 1e4 if step == 10 else 0.05

    watch = Watch(compiled)
    found = train(
        compiled, lambda: compiled(x).square().mean(), optimizer, 20, watch=watch, before=before
    )
    assert found is not None
    assert found.how == "update"
    assert "compiled" in watch.report()


def test_it_warns_once_or_raises() -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    watch = Watch(model)
    with pytest.warns(BlowUpWarning):
        assert watch.step(math.nan) is not None
    assert watch.step(1.0) is watch.blow_up
    with pytest.raises(BlowUpError):
        Watch(model, stop=True).step(math.inf)
    with pytest.raises(ValueError, match="one number"):
        Watch(model).step(torch.ones(3))
    with pytest.raises(ValueError, match="every"):
        Watch(model, every=0)
    with pytest.raises(ValueError, match="requires_grad"):
        Watch(nn.Linear(2, 1).requires_grad_(False))


@pytest.mark.parametrize(
    ("losses", "at"),
    [
        ([1.0] * 20 + [50.0] * 2 + [1.0] * 20, None),  # two bad batches
        ([1.0] * 20 + [50.0] * 3, 22),
        ([1.0] * 20 + [1.9] * 10, None),  # below ten times a tenth of the median
        ([0.5, 0.4, 0.3, math.inf], 3),
        ([0.7] * 10 + [1e-4] * 40 + [0.05] * 3, None),  # far below where it began
        ([0.7] * 10 + [1e-4] * 40 + [0.6] * 3, 52),
        ([1.0, 90.0, 90.0, 90.0], None),  # nothing is usual yet
    ],
)
def test_the_rule_of_the_loss(losses: list[float], at: int | None) -> None:
    rule = LossRule()
    found = [step for step, loss in enumerate(losses) if rule.see(loss) == "blown-up"]
    assert (found[0] if found else None) == at


def test_within_a_step_what_came_first_is_named() -> None:
    calm = {"weights": {"a": 1.0, "b": 1.0}, "activations": {"a": 1.0, "b": 1.0}}
    records = [
        StepRecord(step=0, loss=1.0, gradients={"a": 1.0, "b": 1.0}, **calm),
        StepRecord(
            step=1,
            loss=1e9,
            weights=calm["weights"],
            updates={"a": 0.001, "b": 0.001},
            activations={"a": 1.0, "b": 1e6},
            gradients={"a": 1e9, "b": 1e9},
        ),
    ]
    found = diagnose(records, usual=1.0, onset=1)
    assert (found.layer, found.how, found.first) == ("b", "activation", 1)
    still = diagnose(records[:1], usual=1.0, onset=0)
    assert (still.layer, still.how) == ("", "unclear")


class Arriving:
    """An event of a device that has not come so far."""

    done = False

    def query(self) -> bool:
        return self.done

    def synchronize(self) -> None:
        self.done = True


def test_numbers_of_a_device_are_read_when_they_have_arrived() -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    watch = Watch(model)
    events = [Arriving(), Arriving()]
    for step, (event, loss) in enumerate(zip(events, (0.5, math.nan), strict=True)):
        model(torch.ones(3, 2)).sum().backward()
        found = Measured.of(watch._weights, watch._outputs, gains=False)
        numbers = torch.cat((torch.tensor([loss]), found.values))
        watch._pending.append(OnDevice(step, found, numbers, event))
        watch._outputs.clear()
    watch._read()
    assert not watch.records
    events[0].done = True
    watch._read()
    assert [record.loss for record in watch.records] == [0.5]
    assert watch.records[0].activations["0"] > 0
    assert watch.finish().step == 1
