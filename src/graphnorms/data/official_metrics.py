"""The metrics by which public data sets are scored in their leaderboards and papers."""

from __future__ import annotations

from typing import Any, Final

from graphnorms.data.tasks import TaskKind

_OGB: Final = {
    "ogbg-molbace": "roc_auc",
    "ogbg-molbbbp": "roc_auc",
    "ogbg-molclintox": "roc_auc",
    "ogbg-molhiv": "roc_auc",
    "ogbg-molsider": "roc_auc",
    "ogbg-moltox21": "roc_auc",
    "ogbg-moltoxcast": "roc_auc",
    "ogbg-molmuv": "average_precision",
    "ogbg-molpcba": "average_precision",
    "ogbg-molesol": "rmse",
    "ogbg-molfreesolv": "rmse",
    "ogbg-mollipo": "rmse",
    "ogbg-ppa": "accuracy",
    "ogbn-arxiv": "accuracy",
    "ogbn-products": "accuracy",
    "ogbn-papers100m": "accuracy",
    "ogbn-proteins": "roc_auc",
}
_PYG: Final = {
    "lrgbdataset/peptides-func": "average_precision",
    "lrgbdataset/peptides-struct": "mae",
    "lrgbdataset/pascalvoc-sp": "macro_f1",
    "lrgbdataset/coco-sp": "macro_f1",
    "heterophilousgraphdataset/roman-empire": "accuracy",
    "heterophilousgraphdataset/amazon-ratings": "accuracy",
    "heterophilousgraphdataset/minesweeper": "roc_auc",
    "heterophilousgraphdataset/tolokers": "roc_auc",
    "heterophilousgraphdataset/questions": "roc_auc",
    "zinc": "mae",
    "aqsol": "mae",
    "planetoid": "accuracy",
    "gnnbenchmarkdataset": "accuracy",
    "malnettiny": "accuracy",
    "graphlanddataset/hm-categories": "accuracy",
    "graphlanddataset/pokec-regions": "accuracy",
    "graphlanddataset/web-topics": "accuracy",
    "graphlanddataset/tolokers-2": "average_precision",
    "graphlanddataset/city-reviews": "average_precision",
    "graphlanddataset/artnet-exp": "average_precision",
    "graphlanddataset/web-fraud": "average_precision",
    "graphlanddataset/hm-prices": "r2",
    "graphlanddataset/avazu-ctr": "r2",
    "graphlanddataset/city-roads-m": "r2",
    "graphlanddataset/city-roads-l": "r2",
    "graphlanddataset/twitch-views": "r2",
    "graphlanddataset/artnet-views": "r2",
    "graphlanddataset/web-traffic": "r2",
    "moleculenet/esol": "rmse",
    "moleculenet/freesolv": "rmse",
    "moleculenet/lipo": "rmse",
    "moleculenet/pcba": "average_precision",
    "moleculenet/muv": "average_precision",
    "moleculenet/hiv": "roc_auc",
    "moleculenet/bace": "roc_auc",
    "moleculenet/bbbp": "roc_auc",
    "moleculenet/tox21": "roc_auc",
    "moleculenet/toxcast": "roc_auc",
    "moleculenet/sider": "roc_auc",
    "moleculenet/clintox": "roc_auc",
}
_EVALUATORS: Final = {
    "rocauc": "roc_auc",
    "ap": "average_precision",
    "prcauc": "average_precision",
    "rmse": "rmse",
    "mae": "mae",
    "acc": "accuracy",
    "accuracy": "accuracy",
    "r2": "r2",
}


_IMPLIED: Final[dict[str, TaskKind]] = {
    "roc_auc": "binary",
    "average_precision": "binary",
    "accuracy": "classification",
    "macro_f1": "classification",
    "mae": "regression",
    "rmse": "regression",
    "r2": "regression",
}


def official_metric(name: str) -> str:
    """Return the official metric of a set, or nothing.

    Args:
        name: A name of the Open Graph Benchmark, also with underscores; or `Class/name` of PyG.

    Source: `master.csv` of https://github.com/snap-stanford/ogb; for LRGB, Dwivedi et al. 2022,
    https://arxiv.org/abs/2206.08164; for heterophilous graphs, Platonov et al. 2023,
    https://arxiv.org/abs/2302.11640; for GraphLand, Bazhenov et al. 2024,
    https://arxiv.org/abs/2409.14500; for ZINC, AQSOL, GNNBenchmarkDataset, Dwivedi et al. 2020,
    https://arxiv.org/abs/2003.00982; for MoleculeNet, Wu et al. 2018,
    https://arxiv.org/abs/1703.00564.
    """
    name = name.lower().replace("_", "-")
    return _OGB.get(name) or _PYG.get(name) or _PYG.get(name.partition("/")[0], "")


def metric_of(dataset: Any) -> str:
    """Return the official metric of a data set object, by its `eval_metric` or its name."""
    word = getattr(dataset, "eval_metric", None)
    if isinstance(word, str) and word.lower() in _EVALUATORS:
        return _EVALUATORS[word.lower()]
    name = getattr(dataset, "name", "")
    return official_metric(name) if isinstance(name, str) else ""


def task_for(metric: str, task: TaskKind) -> TaskKind:
    """Return the kind of a task that its metric implies, unless it is requested."""
    if task != "auto":
        return task
    return _IMPLIED.get(metric, "auto")


def metric_note(metric: str) -> tuple[str, ...]:
    """Return a note for the user, if there is an official metric."""
    return (f"the official metric is {metric}",) * bool(metric)
