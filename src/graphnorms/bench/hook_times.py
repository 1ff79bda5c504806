"""The cost of finding the batch: a step of PyG's GIN after `replace_norms`."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import nn

from graphnorms.bench import pyg_layers
from graphnorms.bench.gin import as_pyg_data
from graphnorms.bench.number_checks import Check, relative_error
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances
from graphnorms.bench.timing import in_turn
from graphnorms.data.synthetic import random_graphs
from graphnorms.dropin import replace_norms

BY_HAND: Final = "the batch bound beforehand"
FOUND: Final = "the batch found"
_NORM: Final = "graph"


def measure(session: Session) -> Iterator[Case]:
    """Time a step, forward, backward and optimizer, of PyG's GIN with four layers of 64.

    All its norms are replaced, also those inside the convolutions, which get the features alone.
    They find the batch, or it is bound to them beforehand, which costs nothing.

    Raises:
        GraphnormsError: PyG is not installed.
        WrongNumbersError: They do not compute the same.
    """
    settings = session.settings
    pyg_layers.load()
    layers, hidden, graphs = (2, 8, 8) if settings.quick else (4, 64, 128)
    data = pyg_layers.load("data").Batch.from_data_list(as_pyg_data(random_graphs(graphs, 30.0)))
    data = data.to(settings.device)
    by_hand, found = _models(data, hidden, layers)
    session.checks.append(_check(by_hand, found, data))
    for threads, dtype in settings.circumstances():
        if dtype != torch.float32:
            session.note("the step is measured in float32 alone")
            continue
        steps = {
            BY_HAND: _step(by_hand, data),
            FOUND: _step(found, data),
        }
        values = in_turn(steps, settings.rounds, settings.device)
        title = (
            f"PyG's GIN, {layers} layers × {hidden}, GraphNorm; {graphs} graphs, "
            f"{data.num_nodes} nodes; {circumstances(dtype, threads)}; one step"
        )
        session.say(f"{title}: done")
        yield Case(title, {"dtype": "float32", "threads": threads}, "seconds", values, (BY_HAND,))


def _models(data: Any, hidden: int, layers: int) -> tuple[nn.Module, nn.Module]:
    """Build PyG's GIN with the same norms twice: all know the batch beforehand, or none does."""
    gin = pyg_layers.load().GIN
    torch.manual_seed(0)
    model = gin(data.num_features, hidden, layers, hidden, norm="BatchNorm", jk="last")
    found = replace_norms(model, _NORM, inplace=False).model
    result = replace_norms(model, _NORM)
    norms = [change.new for change in result.changed]
    result.undo()
    # The new norms once more, without what replace_norms has put around them.
    for change, norm in zip(result.changed, norms, strict=True):
        assert norm is not None
        norm.forward = functools.partial(norm.forward, batch=data.batch, batch_size=data.num_graphs)
        for name in change.names:
            model.set_submodule(name, norm)
    return model.to(data.x.device), found.to(data.x.device)


def _check(by_hand: nn.Module, found: nn.Module, data: Any) -> Check:
    results = []
    for model in (by_hand, found):
        twin = copy.deepcopy(model).double()
        y = _forward(twin, data, data.x.double())
        y.square().mean().backward()
        gradients = [p.grad for p in twin.parameters() if p.grad is not None]
        results.append([y.detach(), *gradients])
    pairs = zip(*results, strict=True)
    error = max(relative_error(mine, exact) for exact, mine in pairs)
    return Check(FOUND, BY_HAND, "float64", error, 1e-12).require()


def _forward(model: nn.Module, data: Any, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = model(x, data.edge_index, batch=data.batch, batch_size=data.num_graphs)
    return y


def _step(model: nn.Module, data: Any) -> Callable[[], object]:
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    target = torch.zeros_like(data.batch)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(_forward(model, data, data.x), target).backward()
        optimizer.step()

    return step
