"""What a score is, from its name and its values: which way is better, and in which unit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from graphnorms.training.metrics import METRICS, Metric

_FRACTIONS: Final = {
    "accuracy": "acc|accuracy|accuracies",
    "roc_auc": "auc|auroc|rocauc|roc_auc|auc_roc",
    "average_precision": "ap|aupr|auprc|prauc|pr_auc|average_precision|aupr_c",
    "macro_f1": "f1_macro|macro_f1",
    "f1": "f1|f1_score|micro_f1|f1_micro|fscore",
    "balanced_accuracy": "balanced_accuracy|bacc|bal_acc|balanced_acc",
    "precision": "precision",
    "recall": "recall|sensitivity|specificity",
    "hits": r"hits?|hits?_?@?_?\d+|mrr|ndcg|ndcg_?@?_?\d+|map|iou|miou|dice|jaccard|top_?\d+",
}
_NUMBERS_UP: Final = {
    "r2": "r2|r_2|rsquared|r_squared|r2_score",
    "mcc": "mcc|matthews|kappa|pearson|spearman|pearsonr|spearmanr|correlation|corr|cosine",
    "score": "bleu|reward|return|psnr|ssim|throughput",
}
_NUMBERS_DOWN: Final = {
    "mae": "mae|mean_absolute_error",
    "rmse": "rmse|root_mean_squared_error",
    "error": "mse|mean_squared_error|mape|smape|rmsle|msle|crps|loss|log_loss|nll|bce|"
    "cross_entropy|ppl|perplexity|brier|ece|fid|wer|cer|regret|deviance",
    "share": "err|error|error_rate",
    "time": "time|seconds|runtime|latency|duration|memory|flops|steps|epochs_to_target",
}
_PARTS: Final = (
    "test",
    "val",
    "valid",
    "validation",
    "best",
    "final",
    "mean",
    "avg",
    "eval",
    "dev",
)
_PERCENT: Final = ("percent", "pct", "%")
_UNITS: Final = (
    *("ev", "mev", "kcal", "kj", "mol", "kcalmol", "hartree", "ha", "mha", "k", "a", "angstrom"),
    *("debye", "atom", "cm", "nm", "gpa", "usd", "eur"),
)
"""Units that stand behind the name of an error, without brackets."""

_ASSUMED: Final = "assumed; else --lower-is-better"

GENERIC: Final = ("score", "value", "result", "performance", "metric_value", "test_score", "mean")
"""Names that say that a column is the score, and not which."""


@dataclass(frozen=True, kw_only=True)
class ScoreMetric:
    """What a score is taken to be.

    Args:
        metric: Its name, direction and unit.
        percent: Whether it is given in percent; `metric` counts in fractions.
        said: How that was found, in words.
    """

    metric: Metric
    percent: bool
    said: str


def plain(name: str) -> str:
    """Return a name in lower case, with `_` between its words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9@%]+", "_", spaced.lower()).strip("_")


def last_part(name: str) -> str:
    """Return the last part of a path: `acc` of `test/acc`, `test_acc` of `summary.test_acc`."""
    return re.split(r"[./](?!\d)(?![^(\[]*[)\]])", name)[-1] or name  # not within brackets


def bare(name: str) -> str:
    """Return a name without the part of the data, its unit and the path before it."""
    named = re.sub(r"\([^)]*\)|\[[^]]*\]", " ", name)
    words = [word for word in plain(named).split("_") if word not in (*_PERCENT, "in")]
    while len(words) > 1 and words[-1] in _UNITS:
        words = words[:-1]
    while len(words) > 1 and words[0] in _PARTS:
        words = words[1:]
    while len(words) > 1 and words[-1] in _PARTS:
        words = words[:-1]
    return "_".join(words).replace("%", "").strip("_")


def kind_of(name: str) -> tuple[str, str] | None:
    """Return the metric that a name says and its group, or None."""
    word = bare(name)
    for group, known in (("fraction", _FRACTIONS), ("up", _NUMBERS_UP), ("down", _NUMBERS_DOWN)):
        for metric, pattern in known.items():
            if re.fullmatch(pattern, word):
                return metric, group
    return None


def higher_is_better(name: str) -> bool:
    """Whether a higher score is better, as far as its name says; True where it does not."""
    found = kind_of(name)
    return found is None or found[1] != "down"


def metric_of(name: str, values: Iterable[float], higher: bool | None = None) -> ScoreMetric:
    """Say what a score is.

    Args:
        name: Of the column, or of the metric.
        values: Every score.
        higher: Which way is better, if that was said.

    Raises:
        ValueError: A score that is to be a fraction, or a percentage, is none.
    """
    name = last_part(name)
    known, numbers = kind_of(name), list(values)
    least, most = min(numbers, default=0.0), max(numbers, default=0.0)
    if (ours := METRICS.get(plain(name))) is not None:
        way_of = "up" if ours.higher_is_better else "down"
        known = ours.name, "fraction" if ours.fraction else way_of
    word, group = known if known is not None else (bare(name), "")
    percent_named = any(mark in plain(name).split("_") for mark in _PERCENT) or "%" in name
    share = group == "fraction" or word == "share" or (not group and least >= 0 and most <= 1)
    share = share and least >= 0 and most <= 100
    percent = share and most > 1
    if percent_named and least >= 0 and most <= 100:
        share = percent = True
    up = higher if higher is not None else group != "down"
    title = name if known is None or word in ("hits", "score", "error", "time", "share") else word
    metric = METRICS.get(word)
    if metric is None or metric.fraction != share or metric.higher_is_better != up:
        metric = Metric(
            name=word or "score",
            title=_title(title),
            higher_is_better=up,
            fraction=share,
            kinds=(),
            most=1.0 if share else math.inf,
        )
    way = f"{'higher' if up else 'lower'} is better"
    how = "as said" if higher is not None else "from its name" if known else _ASSUMED
    unit = ", in percent" if percent else ", as fractions" if share else ""
    return ScoreMetric(metric=metric, percent=percent, said=f"{way} ({how}){unit}")


def _title(name: str) -> str:
    """Write the name of a metric as text: `f1` as `F1`, `balanced_accuracy` with a space."""
    word = bare(name)
    short = {"r2": "R²", "mcc": "MCC", "f1": "F1", "macro_f1": "macro-F1", "roc_auc": "ROC-AUC"}
    return short.get(word, word.replace("_", " ") if kind_of(name) else name)
