"""What data allow a comparison to find: ceilings, twins across folds, scores of simple models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data import GraphSet, Split
from graphnorms.data.onehot import OneHot
from graphnorms.data.quality import Groups, Quality, known_targets, quality_of
from graphnorms.errors import GraphnormsError, one_line
from graphnorms.lab.detectable import planned_detectable
from graphnorms.lab.trivial import reported_part, trivial_scores
from graphnorms.probes.ridge import Ridge
from graphnorms.training.objective import Objective
from graphnorms.training.scores import score

if TYPE_CHECKING:
    from graphnorms.lab.schedule import Schedule

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_TRAINED: Final = 5000
"""Items that a simple model is trained on; of more it gets a sample."""

MOST_COLUMNS: Final = 512
"""Columns of node features that a simple model sees: of more those that vary most."""

MOST_FITTED: Final = 10
"""Folds, or given splits, that the simple models are trained in."""

_ROWS: Final = 10_000  # of dense features, that are made double at a time

CHEAP_EDGES: Final = 200_000
CHEAP_ITEMS: Final = 5000
"""Directed edges, and items, up to which a comparison says the key facts of its data first."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a simple model scores by the planned splits.

    Args:
        name: `"constant"`, `"size"`, `"degree"` or `"features"`, see `facts_of`.
        score: The mean over the folds; NaN where none can be scored.
    """

    name: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a set holds, and what it allows a planned comparison to find.

    Args:
        quality: What it holds.
        metric: What is scored.
        folds: Folds or given splits that are planned.
        ceilings: The best score that is possible, on all items: by `"twins"` of any model, which
            must treat isomorphic graphs alike; by `"structure"` of one that does not see the
            features; by `"alike"` of message passing. Without an entry where the nodes have the
            targets, whom twins of graphs do not concern, and of atoms.
        tested: Graphs tested in all folds together.
        leaked: Of these, those with an isomorphic twin in the same fold's training part.
        baselines: Simple models.
        detectable: The smallest difference that the plan detects; NaN if it is not known.
        sampled: What was left out of the simple models, in words; empty if nothing was.
        grouped: Whether twins are kept in one fold.
        problem: Why the data cannot be divided as planned; then no simple model is trained.
    """

    quality: Quality
    metric: str
    folds: int
    ceilings: dict[str, float]
    tested: int
    leaked: int
    baselines: tuple[Baseline, ...]
    detectable: float
    sampled: tuple[str, ...] = ()
    grouped: bool = False
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON-able data; unknown values are None."""
        return {
            "data": self.quality.to_dict(),
            "metric": self.metric,
            "folds": self.folds,
            "ceilings": {name: _or_none(value) for name, value in self.ceilings.items()},
            "tested": self.tested,
            "with_twin_in_training": self.leaked,
            "baselines": {each.name: _or_none(each.score) for each in self.baselines},
            "detectable": _or_none(self.detectable),
            "sampled": list(self.sampled),
            "group_twins": self.grouped,
            "problem": self.problem,
        }


def facts_of(
    graphs: GraphSet, schedule: Schedule, baselines: tuple[str, ...] | None = None
) -> Facts:
    """Find what a set holds, and what it allows a comparison to find.

    | simple model | sees | learns by |
    |---|---|---|
    | `"constant"` | nothing | the most frequent class, the mean answer, the mean or median |
    | `"size"` | numbers of nodes and edges | a decision tree |
    | `"degree"` | of a graph how its degrees are spread; of a node its own | a decision tree |
    | `"features"` | the node features, of a graph their mean and sum: no edges | ridge regression |

    Each is trained on the training part of every fold and scored on the part that the comparison
    reports.

    Args:
        graphs: The set.
        schedule: What is planned.
        baselines: The simple models to train; None for all that the task has.
    """
    graphs = graphs.to("cpu")
    settings = schedule.settings
    groups = Groups.of(graphs)
    splits, problem = [], ""
    try:
        splits = schedule.splits(graphs)
    except (ValueError, GraphnormsError) as error:
        problem = one_line(error).partition(": ")[2]
    tested, leaked = _leaks(groups.twins, splits)
    tables = _tables(graphs, baselines) if splits else {}
    fitted = splits[:MOST_FITTED]
    sampled = []
    if len(fitted) < len(splits):
        sampled.append(f"the first {len(fitted)} of {len(splits)} folds")
    if max((len(split.train) for split in fitted), default=0) > MOST_TRAINED:
        sampled.append(f"{MOST_TRAINED} items to train on in each")
    if "features" in tables and graphs.num_features > MOST_COLUMNS:
        sampled.append(f"{MOST_COLUMNS} of {graphs.num_features} columns of features")
    return Facts(
        quality=quality_of(graphs, groups),
        metric=settings.metric,
        folds=settings.folds,
        ceilings={
            name: ceiling(graphs, group, settings.metric)
            for name in ("twins", "structure", "alike")
            if graphs.atoms is None and (group := getattr(groups, name)) is not None
        },
        tested=tested,
        leaked=leaked,
        baselines=_baselines(graphs, baselines, tables, fitted, settings.metric),
        detectable=planned_detectable(settings, graphs),
        sampled=tuple(sampled) if tables else (),
        grouped=settings.group_twins,
        problem=problem,
    )


def ceiling(graphs: GraphSet, group: Integers, metric: str) -> float:
    """Return the best score, on all items, of a model that answers alike within each group.

    Args:
        graphs: The set.
        group: Equal for items that are the same to the model, `(items,)`.
        metric: What is scored.
    """
    inverse = torch.from_numpy(np.unique(group, return_inverse=True)[1])
    targets = torch.from_numpy(answers_of(graphs))
    columns = [
        _middle(inverse, column) if metric.endswith("mae") else _mean(inverse, column)
        for column in targets.T
    ]
    items = torch.arange(graphs.num_items)
    return _scored(graphs, metric, torch.stack(columns, 1), items, items)


def _mean(group: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    known = ~values.isnan()
    zeros = values.new_zeros(int(group.max()) + 1)
    sums = zeros.index_add(0, group[known], values[known])
    return (sums / zeros.index_add(0, group[known], known[known].double()))[group]


def _middle(group: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The lower median of each group, `(items,)`: no number is nearer on average."""
    known = (~values.isnan()).nonzero()[:, 0]
    order = known[values[known].argsort(stable=True)]
    order = order[group[order].argsort(stable=True)]
    counts = torch.bincount(group[order], minlength=int(group.max()) + 1)
    middle = counts.cumsum(0) - counts + (counts - 1).clamp(min=0) // 2
    found = values[order][middle.clamp(max=max(0, len(order) - 1))]
    return torch.where(counts > 0, found, torch.nan)[group]


def _leaks(twins: Integers | None, splits: list[Split]) -> tuple[int, int]:
    """Items tested, and those of them with a twin in the training part."""
    tested = leaked = 0
    for split in splits if twins is not None else ():
        assert twins is not None
        held_out = twins[reported_part(split).numpy()]
        tested += len(held_out)
        leaked += int(np.isin(held_out, twins[split.train.numpy()]).sum())
    return tested, leaked


def answers_of(graphs: GraphSet) -> Floats:
    """What a model is to give, `(items, outputs)`: 1 for the class that is right, else 0."""
    targets = known_targets(graphs)
    if graphs.task.kind != "classification":
        return targets
    ones: Floats = (targets == np.arange(graphs.num_outputs)).astype(np.float64)
    ones[np.isnan(targets[:, 0])] = np.nan
    return ones


def _scored(
    graphs: GraphSet, metric: str, outputs: torch.Tensor, items: torch.Tensor, train: torch.Tensor
) -> float:
    """Score what a model gives for some items; `train` are those that it has learned from."""
    if graphs.task.kind == "binary":
        outputs = outputs - 0.5  # above 0 is yes
    std = Objective.of(graphs.task, graphs.y[train]).deviations
    return score(metric, graphs.task.kind, outputs, graphs.y[items], std)


def _baselines(
    graphs: GraphSet,
    names: tuple[str, ...] | None,
    tables: dict[str, Floats],
    splits: list[Split],
    metric: str,
) -> tuple[Baseline, ...]:
    """Score the simple models by the planned splits."""
    if not splits:
        return ()
    found = []
    if names is None or "constant" in names:
        trivial = trivial_scores(graphs, metric, splits).held_out
        found.append(Baseline(name="constant", score=_mean_of_known(trivial)))
    for name, table in tables.items():
        scores = _scores(graphs, name, table, splits, metric)
        found.append(Baseline(name=name, score=_mean_of_known(scores)))
    return tuple(found)


def _mean_of_known(scores: Iterable[float | None]) -> float:
    known = [value for value in scores if value is not None and not math.isnan(value)]
    return fmean(known) if known else math.nan


def _scores(
    graphs: GraphSet, name: str, table: Floats, splits: list[Split], metric: str
) -> list[float]:
    answers = answers_of(graphs)
    draw = np.random.default_rng(0)
    scores = []
    for split in splits:
        train, held_out = split.train.numpy(), reported_part(split)
        if len(train) > MOST_TRAINED:
            train = np.sort(draw.choice(train, MOST_TRAINED, replace=False))
        outputs = np.zeros((len(held_out), answers.shape[1]))
        # Columns that are known of the same items are learned together.
        known = ~np.isnan(answers[train])
        for here in np.unique(known, axis=1).T:
            columns = np.flatnonzero((known == here[:, None]).all(0))
            if here.any():
                outputs[:, columns] = _predict(
                    name,
                    (table[train][here], answers[train][here][:, columns]),
                    table[held_out.numpy()],
                )
        scores.append(_scored(graphs, metric, torch.from_numpy(outputs), held_out, split.train))
    return scores


def _predict(name: str, train: tuple[Floats, Floats], table: Floats) -> Floats:
    """What a simple model gives for the rows of a table, `(rows, outputs)`."""
    inputs, answers = train
    if name == "features":
        return Ridge.fit(inputs, answers).predict(table)
    from sklearn.tree import DecisionTreeRegressor

    # On ones and zeros the squared error is Gini's impurity.
    leaf = max(5, len(inputs) // 100)
    model = DecisionTreeRegressor(min_samples_leaf=leaf, random_state=0).fit(inputs, answers)
    found: Floats = model.predict(table).reshape(len(table), -1)
    return found


def _tables(graphs: GraphSet, names: tuple[str, ...] | None) -> dict[str, Floats]:
    """What each simple model sees of each item, `(items, columns)`."""
    if graphs.atoms is not None:  # a table has no forces
        return {}
    of_nodes = graphs.task.level == "node"
    makers: dict[str, Callable[[GraphSet], Floats]] = {
        **({} if of_nodes else {"size": _sizes}),
        "degree": _degrees_of_nodes if of_nodes else _degrees_of_graphs,
        "features": _features_of_nodes if of_nodes else _features_of_graphs,
    }
    return {name: make(graphs) for name, make in makers.items() if names is None or name in names}


def _sizes(graphs: GraphSet) -> Floats:
    edges = graphs.edge_ptr[graphs.ptr].diff()
    return torch.stack((graphs.ptr.diff(), edges), 1).double().numpy()


def _degrees_of_nodes(graphs: GraphSet) -> Floats:
    return torch.stack((graphs.edge_ptr.diff(), graphs.transpose_ptr.diff()), 1).double().numpy()


def _degrees_of_graphs(graphs: GraphSet) -> Floats:
    """Mean, standard deviation, largest, and the shares of the degrees 0 to 4."""
    degree = graphs.edge_ptr.diff().double()
    mean = _pooled(graphs, degree[:, None])
    square = _pooled(graphs, degree[:, None] ** 2)
    graph = torch.repeat_interleave(graphs.ptr.diff())
    largest = torch.zeros(len(graphs)).double().scatter_reduce(0, graph, degree, "amax")
    shares = _pooled(graphs, (degree[:, None] == torch.arange(5)).double())
    spread = (square - mean**2).clamp(min=0).sqrt()
    return torch.cat((mean, spread, largest[:, None], shares), 1).numpy()


def _features_of_nodes(graphs: GraphSet) -> Floats:
    return torch.cat(list(_chosen_columns(graphs))).numpy()


def _features_of_graphs(graphs: GraphSet) -> Floats:
    graph, begin, sums = torch.repeat_interleave(graphs.ptr.diff()), 0, None
    for part in _chosen_columns(graphs):
        sums = part.new_zeros(len(graphs), part.shape[1]) if sums is None else sums
        sums.index_add_(0, graph[begin : begin + len(part)], part)
        begin += len(part)
    assert sums is not None
    return torch.cat((sums / graphs.ptr.diff().clamp(min=1)[:, None], sums), 1).numpy()


def _chosen_columns(graphs: GraphSet) -> Iterator[torch.Tensor]:
    """Node features, of many columns those that vary most, so many rows at a time."""
    x = graphs.kept_x
    chosen = slice(None) if x.shape[1] <= MOST_COLUMNS else _most_varied(x)
    parts = x.chunks() if isinstance(x, OneHot) else x.split(_ROWS)
    for part in parts:
        yield part[:, chosen].double()


def _most_varied(x: torch.Tensor | OneHot) -> torch.Tensor:
    if isinstance(x, OneHot):
        share = torch.bincount(x.columns.flatten().long(), minlength=x.width) / max(1, x.shape[0])
        return (share * (1 - share)).topk(MOST_COLUMNS).indices
    return x.var(0).topk(MOST_COLUMNS).indices


def _pooled(graphs: GraphSet, x: torch.Tensor) -> torch.Tensor:
    """The mean over the nodes of each graph."""
    graph = torch.repeat_interleave(graphs.ptr.diff())
    sums = x.new_zeros(len(graphs), x.shape[1]).index_add(0, graph, x)
    return sums / graphs.ptr.diff().clamp(min=1)[:, None]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
