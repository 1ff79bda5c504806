"""Which items train, which choose the settings, and which test what was chosen."""

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
from graphnorms.data.text_format import count
from graphnorms.errors import DatasetError, is_number, unknown_name

MASKS: Final = ("train_mask", "val_mask", "test_mask")
SPLITS: Final = ("fold", "given", "random", "paper")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """One division of a set, as data: equal configs divide equal sets alike.

    | kind | test | validation | training |
    |---|---|---|---|
    | `"fold"` | fold number `fold` of `folds` | a share `holdout` of the rest | what is left |
    | `"given"` | as the set says; of `folds` splits, number `fold` | likewise | likewise |
    | `"random"` | a share `holdout` | as large | what is left |
    | `"paper"` | nothing | fold number `fold` of `folds` | what is left |

    Classes are about as frequent in every part as in the whole. Where nodes of several graphs
    are predicted, whole graphs are divided; nodes of one graph, and given splits, by the node.

    Args:
        kind: One of the above.
        folds, fold: How many folds, and which is held out; or how many given splits, if several.
        seed: Seeds the shuffling; the folds of one seed are one cross-validation.
        holdout: A share, between 0 and 1/2.
        group_twins: Isomorphic graphs, features included, are in one part; see `GraphSet.twins`.

    Raises:
        ValueError: A value is not possible.
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
        if not self.group_twins:  # as before there was the choice, for the trials made then
            del data["group_twins"]
        return data


@dataclass(frozen=True, eq=False)
class Split:
    """Ids of the items of each part, ascending int64 on the CPU; graphs or nodes."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split_items(graphs: GraphSet, config: SplitConfig) -> Split:
    """Divide the items of a set: its graphs, or its nodes if the task is about nodes.

    Items whose target is not known at all are in no part. The folds of classes, and of a single
    question of yes or no, are those of `stratified_folds`, so that `"paper"` holds out the folds
    of the GIN and GraphNorm codes; the folds of numbers, of several questions, and of whole
    graphs whose nodes are predicted are those of `shuffled_folds`. A holdout is drawn by
    scikit-learn's `StratifiedShuffleSplit` where the classes have members enough for it, and
    evenly where not, from the seed and, inside a fold, the fold's number. Where twins are kept
    together, and there are any, `graphnorms.data.folds.deal` does it all.

    Args:
        graphs: The set, on any device.
        config: How to divide it.

    Raises:
        DatasetError: There is no given split, or a part would be empty.
        ValueError: There are fewer items, or members of a class, than folds; or twins are to be
            kept together where the task is about nodes, or they are more than a fold holds.
    """
    items = graphs.known.nonzero()[:, 0].cpu()  # (known,)
    if config.kind == "given":
        return _given(graphs, items, config)
    nodes_of_many = graphs.task.level == "node" and len(graphs) > 1
    # What is divided: the items, or the graphs with all their items.
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
    """The part of each item by masks, `(items,)` or, where they are several splits, of each.

    Args:
        given: Of training, validation and test: which items each has, `(items,)` or
            `(items, splits)`, not 0 for yes.
        items: How many items there are.
        where: What they are of, for the message.

    Raises:
        DatasetError: They are not of these items or of as many splits, or an item is in two parts
            of one.
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
    """The places of the training, validation and test units among `number` of them."""
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
    """Equal for graphs that are twins, `(units,)`; None where none are."""
    if graphs.task.level == "node":
        raise ValueError("group_twins keeps isomorphic graphs together; the task is about nodes")
    groups = graphs.twins.same[units.numpy()]
    return groups if len(np.unique(groups)) < len(groups) else None


def _divide_groups(
    groups: Integers, strata: Integers | None, config: SplitConfig, names: Sequence[str]
) -> tuple[Integers, Integers, Integers]:
    """As `_divide`, with all units of a group in one part."""
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
    """Draw `size` of some units: what is left and what was drawn, both ascending."""
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    if size >= len(units):
        return units[:0], units
    labels = np.zeros(len(units)) if strata is None else strata[units]
    counts = np.unique(labels, return_counts=True)[1]
    # Either part needs a member of every class, as scikit-learn asks.
    enough = counts.min() >= 2 and len(counts) <= min(size, len(units) - size)
    splitter = (StratifiedShuffleSplit if enough else ShuffleSplit)(
        1, test_size=size, random_state=seed
    )
    left, drawn = next(splitter.split(labels, labels))
    if enough:
        left, drawn = _every_class(labels, left, drawn)
    return units[np.sort(left)], units[np.sort(drawn)]


def _every_class(
    labels: NDArray[Any], left: Integers, drawn: Integers
) -> tuple[Integers, Integers]:
    """Exchange units so that each class has one among those drawn, where its share is below one.

    Without a yes among the validation items there is no ROC-AUC of them.
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
    """A share of a number, rounded up, where 0.1 of 30 is 3 and not a hair more."""
    return math.ceil(number * share - 1e-9)


def _strata(graphs: GraphSet, items: Tensor) -> Integers | None:
    """What is to be about as frequent in every part, `(items,)`, if there is one such thing."""
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
