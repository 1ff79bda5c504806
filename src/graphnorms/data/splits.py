"""Splits of a set into training, validation and test items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.folds import deal, grouped_folds, shuffled_folds, stratified_folds
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers
from graphnorms.data.sklearn_draws import shuffle_split, stratified_shuffle_split
from graphnorms.data.text_format import count
from graphnorms.errors import DatasetError, is_number, unknown_name

MASKS: Final = ("train_mask", "val_mask", "test_mask")
SPLITS: Final = ("fold", "given", "random", "paper")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """The configuration of a split: equal configs split equal sets alike.

    | kind | test | validation | training |
    |---|---|---|---|
    | `"fold"` | fold number `fold` of `folds` | a share `holdout` of the rest | the rest |
    | `"given"` | as given by the set; of `folds` splits, number `fold` | likewise | likewise |
    | `"random"` | a share `holdout` | equally large | the rest |
    | `"paper"` | nothing | fold number `fold` of `folds` | the rest |

    Splits are stratified by class. In node-level tasks on several graphs, whole graphs are split;
    nodes of a single graph, and given splits, are per node.

    Args:
        kind: One of the above.
        folds, fold: Number of folds, and the one held out; or number and index of given splits.
        seed: Seed of the shuffling; the folds of one seed form a cross-validation.
        holdout: A share, between 0 and 1/2.
        group_twins: Whether to keep isomorphic graphs (with equal features) in one part; see
            `GraphSet.twins`.

    Raises:
        ValueError: A value is invalid.
    """

    kind: str
    folds: int = 0
    fold: int = 0
    seed: int = 0
    holdout: float = 0.1
    group_twins: bool = False

    def __post_init__(self) -> None:
        if self.kind not in SPLITS:
            raise unknown_name("split", self.kind, SPLITS)
        for name in ("folds", "fold", "seed"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected an integer")
        if self.kind in ("fold", "paper") and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"fold {self.fold} of {self.folds}: expected two folds or more, counted from 0"
            )
        if self.kind == "given" and not 0 <= self.fold < max(1, self.folds):
            raise ValueError(f"split {self.fold} of {self.folds}: splits count from 0")
        if not is_number(self.holdout) or not 0 < self.holdout < 0.5:
            raise ValueError(f"holdout is {self.holdout}, expected a share between 0 and 1/2")
        if self.group_twins and self.kind == "given":
            raise ValueError("a given split says where twins are; group_twins goes with the others")

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data; `SplitConfig(**data)` reads it back."""
        data = asdict(self)
        if not self.group_twins:  # so that hashes of older trials stay valid
            del data["group_twins"]
        return data


@dataclass(frozen=True, eq=False)
class Split:
    """Ids of the items of each part, ascending int64 on the CPU; graphs or nodes."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split_items(graphs: GraphSet, config: SplitConfig) -> Split:
    """Split the items of a set: its graphs, or its nodes in node-level tasks.

    Items without any target are in no part. For classes and a single binary question, the folds are
    those of `stratified_folds`, so `"paper"` uses the folds of the GIN and GraphNorm code. For
    regression, several questions, and whole graphs in node-level tasks, they are those of
    `shuffled_folds`. A holdout is drawn by scikit-learn's `StratifiedShuffleSplit` if the classes
    have enough members, else uniformly, seeded by the seed and, inside a fold, the number of the
    fold. If twins must be kept together and there are any, `graphnorms.data.folds.deal` makes all
    parts.

    Args:
        graphs: The set, on any device.
        config: The configuration.

    Raises:
        DatasetError: There is no given split, or a part would be empty.
        ValueError: There are fewer items, or members of a class, than folds; or `group_twins` is
            set in a node-level task, or there are more twins than a fold holds.
    """
    items = graphs.known.nonzero()[:, 0].cpu()  # (known,)
    if config.kind == "given":
        return _given(graphs, items, config)
    nodes_of_many = graphs.task.level == "node" and len(graphs) > 1
    # The units of the split: the items, or graphs with all their items.
    unit_of_item = _graph_of_node(graphs)[items] if nodes_of_many else items
    units = torch.unique(unit_of_item) if nodes_of_many else items
    strata = None if nodes_of_many else _strata(graphs, items)
    noun = "graphs" if nodes_of_many else f"{graphs.task.level}s"
    names = graphs.class_names or ("no", "yes")
    groups = _twins(graphs, units) if config.group_twins else None
    if groups is None:
        places = _divide(len(units), strata, config, noun, names)
    else:
        places = _divide_groups(groups, strata, config, names)
    chosen = [units[torch.from_numpy(place)] for place in places]
    if nodes_of_many:
        chosen = [items[torch.isin(unit_of_item, part)] for part in chosen]
    return _checked(graphs, config.kind, *chosen)


def split_of_masks(given: Sequence[NDArray[Any]], items: int, *, where: str) -> NDArray[np.int8]:
    """Convert masks to the part of each item, `(items,)` or `(items, splits)`.

    Args:
        given: The masks of training, validation and test, `(items,)` or `(items, splits)`; nonzero
            means that the part contains the item.
        items: Number of items.
        where: The origin of the masks, for messages.

    Raises:
        DatasetError: The masks have wrong or different shapes, or an item is in two parts.
    """
    for name, each in zip(MASKS, given, strict=True):
        if each.ndim not in (1, 2) or len(each) != items:
            raise DatasetError(
                f"{where}: {name} has shape {each.shape}, expected ({items},) or ({items}, splits)"
            )
    masks = [(each[:, None] if each.ndim == 1 else each) != 0 for each in given]
    widths = [mask.shape[1] for mask in masks]
    if len({*widths} - {1}) > 1 or 0 in widths:
        raise DatasetError(
            f"{where}: masks of {', '.join(map(str, widths))} splits for training, validation and "
            "test, expected as many each, or one for all"
        )
    masks = [np.broadcast_to(mask, (items, max(widths))) for mask in masks]
    twice = np.argwhere(sum(mask.astype(np.int8) for mask in masks) > 1)
    if len(twice):
        raise DatasetError(
            f"{where}: item {twice[0][0]} is in two of the masks for training, validation and test"
        )
    split = np.full(masks[0].shape, -1, dtype=np.int8)
    for part, mask in enumerate(masks):
        split[mask] = part
    return split[:, 0] if split.shape[1] == 1 else split


def _given(graphs: GraphSet, items: Tensor, config: SplitConfig) -> Split:
    if graphs.split is None:
        others = ", ".join(kind for kind in SPLITS if kind != "given")
        raise DatasetError(f"{graphs.name} has no given split; ask for one of {others}")
    if graphs.num_splits != max(1, config.folds):
        raise DatasetError(
            f"{graphs.name} has {count(graphs.num_splits, 'given split')}: ask for folds "
            f"{graphs.num_splits} and the fold, counted from 0"
        )
    splits = graphs.split.cpu().view(len(graphs.split), -1)  # (items, splits)
    part = splits[items, config.fold]
    return _checked(graphs, "given", *(items[part == number] for number in range(3)))


def _divide(
    number: int, strata: Integers | None, config: SplitConfig, noun: str, names: Sequence[str]
) -> tuple[Integers, Integers, Integers]:
    """Return the positions of the training, validation and test units."""
    everyone = np.arange(number)
    if config.kind == "random":
        held_out = _share(number, config.holdout)
        first, second = np.random.SeedSequence(config.seed).generate_state(2)
        rest, test = _holdout(everyone, strata, held_out, int(first))
        train, validation = _holdout(rest, strata, held_out, int(second))
        return train, validation, test
    if strata is None:
        folds = shuffled_folds(number, config.folds, config.seed, noun=noun)
    else:
        folds = stratified_folds(torch.from_numpy(strata), config.folds, config.seed, names=names)
    rest, held_out_fold = (part.numpy() for part in folds[config.fold])
    if config.kind == "paper":
        return rest, held_out_fold, everyone[:0]
    size = _share(len(rest), config.holdout)
    train, validation = _holdout(rest, strata, size, _seed_of_fold(config))
    return train, validation, held_out_fold


def _twins(graphs: GraphSet, units: Tensor) -> Integers | None:
    """Return equal numbers for twins, `(units,)`; None if there are none."""
    if graphs.task.level == "node":
        raise ValueError("group_twins keeps isomorphic graphs together; the task is about nodes")
    groups = graphs.twins.same[units.numpy()]
    return groups if len(np.unique(groups)) < len(groups) else None


def _divide_groups(
    groups: Integers, strata: Integers | None, config: SplitConfig, names: Sequence[str]
) -> tuple[Integers, Integers, Integers]:
    """Like `_divide`, with all units of a group in one part."""
    share = config.holdout
    if config.kind == "random":
        rest, held_out, seed = np.arange(len(groups)), np.arange(0), config.seed
        shares = [1 - 2 * share, share, share]
    else:
        fold = grouped_folds(groups, strata, config.folds, config.seed, names=names)
        rest, held_out = np.flatnonzero(fold != config.fold), np.flatnonzero(fold == config.fold)
        if config.kind == "paper":
            return rest, held_out, held_out[:0]
        seed, shares = _seed_of_fold(config), [1 - share, share]
    labels = None if strata is None else strata[rest]
    part = deal(groups[rest], labels, np.array(shares), seed)
    if len(np.unique(part)) < len(shares):
        raise ValueError(
            f"twins kept together leave a part of the {config.kind} split empty: of {len(rest)} "
            f"graphs {len(np.unique(groups[rest]))} are different; leave twins apart (without "
            "--group-twins)"
        )
    held_out = rest[part == 2] if config.kind == "random" else held_out
    return rest[part == 0], rest[part == 1], held_out


def _seed_of_fold(config: SplitConfig) -> int:
    return int(np.random.SeedSequence((config.seed, config.fold)).generate_state(1)[0])


def _holdout(
    units: Integers, strata: Integers | None, size: int, seed: int
) -> tuple[Integers, Integers]:
    """Draw `size` units; return the remaining and the drawn ones, both ascending."""
    if size >= len(units):
        return units[:0], units
    labels = np.zeros(len(units)) if strata is None else strata[units]
    counts = np.unique(labels, return_counts=True)[1]
    # A share of every class needs a member of it in both parts.
    if counts.min() >= 2 and len(counts) <= min(size, len(units) - size):
        left, drawn = _every_class(labels, *stratified_shuffle_split(labels, size, seed))
    else:
        left, drawn = shuffle_split(len(units), size, seed)
    return units[np.sort(left)], units[np.sort(drawn)]


def _every_class(
    labels: NDArray[Any], left: Integers, drawn: Integers
) -> tuple[Integers, Integers]:
    """Swap units so that every class is among the drawn ones.

    Without a positive validation item, for example, the ROC-AUC is undefined.
    """
    left, drawn = left.copy(), drawn.copy()
    for label in np.unique(labels):
        if (labels[drawn] == label).any():
            continue
        kinds, counts = np.unique(labels[drawn], return_counts=True)
        gives = np.flatnonzero(labels[drawn] == kinds[counts.argmax()])[0]
        takes = np.flatnonzero(labels[left] == label)[0]
        drawn[gives], left[takes] = left[takes], drawn[gives]
    return left, drawn


def _share(number: int, share: float) -> int:
    """Return a share of a number, rounded up, robust to rounding errors (0.1 of 30 is 3)."""
    return math.ceil(number * share - 1e-9)


def _strata(graphs: GraphSet, items: Tensor) -> Integers | None:
    """Return the classes to stratify by, `(items,)`, if any."""
    y = graphs.y.cpu()[items]
    if graphs.task.kind == "classification":
        return y.numpy()
    if graphs.task.kind == "binary" and graphs.task.outputs == 1:
        return y[:, 0].long().numpy()
    return None


def _graph_of_node(graphs: GraphSet) -> Tensor:
    counts = graphs.ptr.cpu().diff()
    return torch.repeat_interleave(counts)  # (nodes,)


def _checked(graphs: GraphSet, kind: str, train: Tensor, validation: Tensor, test: Tensor) -> Split:
    parts = {"training": train, "validation": validation, "test": test}
    if kind == "paper":
        del parts["test"]
    empty = [name for name, part in parts.items() if not part.shape[0]]
    if empty:
        raise DatasetError(
            f"the {kind} split of {graphs.name} leaves nothing for {' and '.join(empty)}: "
            f"{int(graphs.known.sum())} of {graphs.num_items} {graphs.task.level}s have a target"
        )
    return Split(train, validation, test)
