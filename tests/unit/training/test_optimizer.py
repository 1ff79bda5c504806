"""Optimizers, learning rates and early stops, against torch and against steps made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphnorms.data import SplitConfig, split_items
from graphnorms.models import GNN, ModelConfig
from graphnorms.training import run_trial
from graphnorms.training.objective import Objective
from graphnorms.training.optimizer import make_optimizer, optimizer_text, rate_at

from .conftest import config_of, set_of

GRADIENTS = ((1.0, -2.0), (0.5, 3.0))


def steps(text: str, decay: float) -> torch.Tensor:
    """The weights (1, -1) after two steps at 0.1 with known gradients."""
    weights = torch.nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))
    optimizer = make_optimizer(text, [weights], 0.1, decay)
    for gradient in GRADIENTS:
        weights.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return weights.detach()


def by_hand(text: str, decay: float) -> torch.Tensor:
    weights = torch.tensor([1.0, -1.0], dtype=torch.float64)
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    for t, values in enumerate(GRADIENTS, 1):
        gradient = torch.tensor(values, dtype=torch.float64)
        if text == "adamw":
            weights = weights * (1 - 0.1 * decay)
        else:
            gradient = gradient + decay * weights
        if text.startswith("sgd"):
            first = (0.5 if "0.5" in text else 0.9) * first + gradient
            weights = weights - 0.1 * first
            continue
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        mean, spread = first / (1 - 0.9**t), second / (1 - 0.999**t)
        weights = weights - 0.1 * mean / (spread.sqrt() + 1e-8)
    return weights


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("text", ["adam", "adamw", "sgd", "sgd:momentum=0.5"])
def test_steps_are_those_of_the_formula(text: str, decay: float) -> None:
    torch.testing.assert_close(steps(text, decay), by_hand(text, decay), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lbfgs", "unknown optimizer 'lbfgs'"),
        ("adam:lr=1", "lr, which is the option learning_rate"),
        ("adam:momentum=0.9", "cannot be made: .*momentum"),
        ("sgd:nesterov=true,momentum=0", "cannot be made: Nesterov"),
        ("adam:eps=small", "cannot be made"),
    ],
)
def test_what_no_optimizer_can_be_made_of_is_told_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        optimizer_text(text)
    assert "\n" not in str(caught.value)


def test_the_text_of_an_optimizer_has_one_order() -> None:
    text = "sgd:momentum=0.95,nesterov=true"
    assert optimizer_text("sgd:nesterov=True, momentum=0.95") == optimizer_text(text) == text


def test_decays_are_those_of_torch() -> None:
    config = config_of(set_of("classes"), epochs=7, learning_rate=0.3)
    made = {
        "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=7),
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 7),
        "constant": lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0),
    }
    for schedule, scheduler_of in made.items():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        scheduler = scheduler_of(optimizer)
        for epoch in range(7):
            rate = rate_at(replace(config, schedule=schedule), epoch, 2, 4)
            assert rate == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
            optimizer.step()
            scheduler.step()


def test_the_rate_rises_step_by_step_from_nothing_and_then_decays() -> None:
    config = config_of(set_of("classes"), epochs=4, learning_rate=0.8, warmup=2, schedule="linear")
    rates = [rate_at(config, epoch, step, 4) for epoch in range(4) for step in range(4)]
    assert rates == pytest.approx([0.1 * step for step in range(8)] + [0.8] * 4 + [0.4] * 4)


def test_a_trial_is_a_loop_of_torch() -> None:
    """AdamW, warm-up, cosine and clipping on a single graph, whose epoch is one step."""
    graphs = set_of("node-one")
    model = ModelConfig(name="gin", layers=2, hidden=8, head="node", dropout=0.0)
    config = config_of(
        graphs, model=model.to_dict(), optimizer="adamw", weight_decay=0.2, warmup=3,
        schedule="cosine", clip=0.05, epochs=9, learning_rate=0.05,
    )  # fmt: skip
    record = run_trial(config, graphs)

    gnn = GNN(model, "graph", graphs.num_features, graphs.num_outputs, seed=config.seed)
    optimizer = torch.optim.AdamW(gnn.parameters(), lr=0.05, weight_decay=0.2)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 3),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6),
        ],
        milestones=[3],
    )
    batch = graphs.batch(torch.zeros(1, dtype=torch.int64))
    train = split_items(graphs, SplitConfig(**config.split)).train
    objective = Objective.of(graphs.task, graphs.y[train])
    losses, norms = [], []
    for _ in range(9):
        output = gnn(batch.x, batch.adjacency, batch.segments, None)[train]
        loss = objective.loss(output, graphs.y[train])
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(gnn.parameters(), 0.05).item())
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    assert min(norms) > 0.05  # it clips
    assert record.history["train_loss"] == pytest.approx(losses, rel=1e-5)
    assert record.history["train_loss"][0] == record.history["train_loss"][1]  # the first rate is 0


def test_a_trial_ends_when_its_patience_does() -> None:
    graphs = set_of("classes")
    still = config_of(graphs, learning_rate=1e-30, epochs=9, patience=2)
    assert [len(values) for values in run_trial(still, graphs).history.values()] == [3] * 5
    moving = config_of(graphs, epochs=9)
    patient = replace(moving, patience=8)
    assert run_trial(patient, graphs).history == run_trial(moving, graphs).history


def test_trials_without_the_later_fields_keep_their_keys() -> None:
    config = config_of(set_of("classes"))
    later = {"optimizer": "adamw", "warmup": 1, "clip": 1.0, "patience": 3}
    assert config.to_dict().keys().isdisjoint(later)
    others = [replace(config, **{name: value}) for name, value in later.items()]
    assert len({config.key, *(other.key for other in others)}) == 5
    for other in others:
        assert type(config)(**other.to_dict()) == other
