"""Interventions: trials with one thing changed, which test the reason for a difference.

Split, seed and learning rate are those of the reported trial that an intervention trial pairs with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import GraphBatch, GraphSet
from graphnorms.errors import unknown_name
from graphnorms.layers.base import Norm
from graphnorms.layers.traits import has_running_statistics, traits_of
from graphnorms.models import FORCE_MODELS
from graphnorms.models.initialize import initialize
from graphnorms.models.readout import readout
from graphnorms.probes.state import Snapshot
from graphnorms.training.minibatches import Items
from graphnorms.training.trial_config import TrialConfig, is_trial

LARGER: Final = 4
"""What `larger-batch` multiplies the graphs of a minibatch by."""
SHALLOW: Final = 4
"""Convolutions of `shallow`."""
MOST_DEGREES: Final = 64
"""Columns of `degree-features`; larger degrees share the last one."""
_HIDDEN: Final = 64

Settings = Callable[[TrialConfig, float], Mapping[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """One thing to change in a trial.

    Args:
        name: The `intervention` of a `TrialConfig`.
        given: The trials with it, in words that follow a comma; may name the norms of the
            difference as `{leader}` and `{trailer}`.
        acts_on: Whether it changes trials with a norm, given as text. Of others the reported trial
            itself is what the intervention would give.
        settings: Given a trial and a factor, the fields of its config that change; None where the
            trial cannot be changed so.
        data: Given the set and the ids of the training graphs, the set to train on.
        model: Changes the model that is to be trained.
        means: Whether the outputs get the means of each graph, see `MeansToOutputs`.
        whole_set: Whether a training step passes all training graphs through the model.
        own_statistics: Whether an evaluation uses the statistics of what is evaluated.
        of_trailer: Whether only the trials of the norm with the lower score are changed.
    """

    name: str
    given: str
    acts_on: Callable[[str], bool] = lambda norm: True
    settings: Settings = lambda config, factor: {}
    data: Callable[[GraphSet, Tensor], GraphSet] | None = None
    model: Callable[[nn.Module], None] | None = None
    means: bool = False
    whole_set: bool = False
    own_statistics: bool = False
    of_trailer: bool = False

    def applied(self, config: TrialConfig, factor: float = 1.0) -> TrialConfig | None:
        """Return a reported trial with this intervention; None where it cannot be.

        Args:
            config: The reported trial.
            factor: What `equal-effective-rate` multiplies the learning rate by.
        """
        if is_trial(config.model):  # the user's code trains, and nothing inside can be changed
            return None
        changed = self.settings(config, factor)
        return None if changed is None else replace(config, intervention=self.name, **changed)


class MeansToOutputs(nn.Module):
    """Adds to the outputs of a model a function of what is equal for all nodes of a graph.

    It sees the mean of the input features, the mean of their sum over neighbours, the logarithm of
    the number of nodes and the mean degree, each standardized over the training graphs: what a norm
    that centers each graph removes from the first layers. Two Linears with a ReLU between; the
    second begins at 0, so that the outputs begin as those of the model.

    Args:
        training: The training graphs.
        outputs: Outputs per graph.
        seed: Seed of the initial weights.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, training: Items, outputs: int, *, seed: int) -> None:
        super().__init__()
        columns = torch.cat([summaries(each.batch) for each in training.minibatches()]).double()
        self.register_buffer("center", columns.mean(0).float())
        self.register_buffer("spread", _spread(columns))
        self.first = nn.Linear(columns.shape[1], _HIDDEN)
        self.last = nn.Linear(_HIDDEN, outputs)
        initialize(self, seed)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Return what is added, `(graphs, outputs)`."""
        columns = (summaries(batch).to(self.center) - self.center) / self.spread
        added: Tensor = self.last(self.first(columns).relu())
        return added


def summaries(batch: GraphBatch) -> Tensor:
    """Return what `MeansToOutputs` sees of each graph, not standardized, `(graphs, columns)`."""
    sizes = batch.segments.counts.to(batch.x.dtype).unsqueeze(1)
    degrees = batch.adjacency.transpose_ptr.diff().to(batch.x.dtype).unsqueeze(1)
    # The sum over neighbours, summed over nodes, counts each node once per edge that leaves it.
    columns = torch.cat((batch.x, degrees * batch.x, degrees), 1)
    return torch.cat((readout(columns, batch.segments, "mean"), sizes.clamp(min=1).log()), 1)


def _spread(columns: Tensor) -> Tensor:
    """Return the standard deviations of columns; 1 for one that is constant."""
    spread = columns.std(0, correction=0)
    varies = spread > 1e-6 * columns.square().mean(0).sqrt()
    return torch.where(varies, spread, 1.0).float()


def standardized(graphs: GraphSet, train: Tensor) -> GraphSet:
    """Return the set with input columns of mean 0 and variance 1 over the training graphs.

    A column that is constant there stays as it is.
    """
    x = graphs.x
    known = x[graphs.node_ids(train)].double()
    spread = known.std(0, correction=0)
    varies = spread > 1e-6 * known.square().mean(0).sqrt()
    center = torch.where(varies, known.mean(0), 0.0)
    x = ((x - center) / torch.where(varies, spread, 1.0)).float()
    return graphs.with_features(x, f"{graphs.features}, standardized")


def with_degrees(graphs: GraphSet, train: Tensor) -> GraphSet:
    """Return the set with the in-degree of each node, one-hot, beside its features."""
    degrees = graphs.edge_ptr.diff().clamp(max=MOST_DEGREES - 1)
    x = torch.cat((graphs.x, F.one_hot(degrees, MOST_DEGREES).float()), 1)
    return graphs.with_features(x, f"{graphs.features} and degree")


def _hold_shift(model: nn.Module) -> None:
    """Set every learned share of the mean to 1, and keep it there."""
    for module in model.modules():
        share = module._parameters.get("mean_scale")
        if share is not None:
            nn.init.ones_(share)
            share.requires_grad_(False)


def _leak(model: nn.Module) -> None:
    """Let every ReLU that a norm applies pass a part of what is below 0."""
    for module in model.modules():
        if isinstance(module, Norm) and module.activation == "relu":
            module.activation = "leaky_relu"


@contextmanager
def by_own_statistics(model: nn.Module) -> Iterator[None]:
    """Let norms normalize by what they see, in place of running statistics, inside the block.

    The running statistics stay as they are.
    """
    kept = Snapshot.take(model)
    tracking = [each for each in model.modules() if has_running_statistics(each)]
    modes = [module.training for module in tracking]
    for module in tracking:
        module.training = True
    try:
        yield
    finally:
        for module, mode in zip(tracking, modes, strict=True):
            module.training = mode
        kept.restore()


def _with_fused_relu(config: TrialConfig, factor: float) -> Mapping[str, Any] | None:
    own_or_block = "source" in config.model or config.model.get("norm_place") != "before-activation"
    return None if own_or_block else {}


def _of_features(config: TrialConfig, factor: float) -> Mapping[str, Any] | None:
    """Refuse models of atoms, which have no features to change."""
    return None if config.model.get("name") in FORCE_MODELS else {}


def _fewer_layers(config: TrialConfig, factor: float) -> Mapping[str, Any] | None:
    layers = config.model.get("layers") or 0
    return {"model": {**config.model, "layers": SHALLOW}} if layers > SHALLOW else None


_ROWS: Final = (
    Intervention(
        name="whole-set-statistics",
        given="with the statistics of the whole training set in every step",
        acts_on=lambda norm: traits_of(norm).batch_statistics,
        whole_set=True,
    ),
    Intervention(
        name="larger-batch",
        given=f"with {LARGER} times as many graphs in a minibatch",
        settings=lambda config, factor: {"batch_size": LARGER * config.batch_size},
    ),
    Intervention(
        name="mean-as-feature",
        given="with the means, the size and the degree of each graph given to the readout",
        settings=lambda config, factor: (
            _of_features(config, factor) if config.model.get("head") == "graph" else None
        ),
        means=True,
    ),
    Intervention(
        name="fixed-shift",
        given="with α held at 1",
        acts_on=lambda norm: traits_of(norm).learned_shift,
        model=_hold_shift,
    ),
    Intervention(
        name="standardized-features",
        given="with input columns standardized by the training items",
        settings=_of_features,
        data=standardized,
    ),
    Intervention(
        name="shallow",
        given=f"with {SHALLOW} convolutions",
        settings=_fewer_layers,
    ),
    Intervention(
        name="leaky-activation",
        given="with leaky ReLUs behind the norms",
        settings=_with_fused_relu,
        model=_leak,
    ),
    Intervention(
        name="degree-features",
        given="with the degree of each node as a feature",
        settings=_of_features,
        data=with_degrees,
    ),
    Intervention(
        name="evaluated-statistics",
        given="with the statistics of the evaluated items in place of the running ones",
        acts_on=lambda norm: traits_of(norm).running_statistics,
        own_statistics=True,
    ),
    Intervention(
        name="equal-effective-rate",
        given="with the learning rate of {trailer} scaled to the effective rate of {leader}",
        of_trailer=True,
        settings=lambda config, factor: {"learning_rate": factor * config.learning_rate},
    ),
)

INTERVENTIONS: Final[Mapping[str, Intervention]] = MappingProxyType(
    {row.name: row for row in _ROWS}
)

NO_INTERVENTION: Final = Intervention(name="", given="")


def intervention_of(config: TrialConfig) -> Intervention:
    """Return the intervention of a trial.

    Raises:
        ValueError: It is unknown.
    """
    if config.intervention is None:
        return NO_INTERVENTION
    if config.intervention not in INTERVENTIONS:
        raise unknown_name("intervention", config.intervention, INTERVENTIONS)
    return INTERVENTIONS[config.intervention]
