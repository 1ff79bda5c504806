"""Known causes of a difference between two normalizations: their signs, and what tests them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphnorms.lab.phrases import percent, points
from graphnorms.layers.traits import Traits

Measures = Mapping[str, Mapping[str, Any]]
"""The `measures` of a record."""


@dataclass(frozen=True, kw_only=True)
class Signs:
    """What is known of two trials of one fold or seed, that of the norm that leads and the other's.

    Args:
        leader, trailer: Their measures.
        leads, trails: What their norms do.
        facts: Facts of the data, by name.
    """

    leader: Measures
    trailer: Measures
    leads: Traits
    trails: Traits
    facts: Mapping[str, float]


Number = Callable[[Signs], float | None]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A number that speaks for a cause.

    Args:
        number: Measures it in two trials; None where it is not known.
        threshold: The smallest mean over folds or seeds that counts.
        said: The number in words, with `{leader}`, `{trailer}` and `{value}`.
        written: Writes the value.
    """

    number: Number
    threshold: float
    said: str
    written: Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why one norm may lead another.

    Args:
        name: Its name.
        concerns: Whether it can act between norms that do this, the leader's first.
        evidence: Numbers of which one beyond its threshold is enough.
        because: The cause in words that follow "because", with `{leader}` and `{trailer}`.
        source: Who described it.
        interventions: Names of interventions that take the cause away, the best first; the first
            that a run can afford tests it.
    """

    name: str
    concerns: Callable[[Traits, Traits], bool]
    evidence: tuple[Evidence, ...]
    because: str
    source: str
    interventions: tuple[str, ...] = ()


def values_of(measures: Measures, name: str, when: str = "final") -> list[float]:
    """Return what was measured, a value per layer; at the other end where that is all there is."""
    found = measures.get(when) or measures.get("initial") or measures.get("final") or {}
    values = found.get(name)
    values = values if isinstance(values, list) else [values]
    return [value for value in values if value is not None and math.isfinite(value)]


def _largest(measures: Measures, name: str, when: str = "final") -> float | None:
    return max(map(abs, values_of(measures, name, when)), default=None)


def _mean(measures: Measures, name: str) -> float | None:
    values = values_of(measures, name)
    return sum(values) / len(values) if values else None


def _more(name: str) -> Number:
    """Return the number by which the trailer has more of something, a mean over layers."""

    def number(signs: Signs) -> float | None:
        own, other = _mean(signs.trailer, name), _mean(signs.leader, name)
        return None if own is None or other is None else own - other

    return number


def _of_trailer(name: str) -> Number:
    return lambda signs: _largest(signs.trailer, name)


def _removed(signs: Signs) -> float | None:
    before, after = (
        (signs.trailer.get("final") or signs.trailer.get("initial") or {}).get(name) or []
        for name in ("mean_label", "mean_label_after")
    )
    removed = [
        front - (behind or 0.0)
        for front, behind in zip(before, after or [None] * len(before), strict=False)
        if front is not None
    ]
    return max(removed, default=None)


def _decades(measures: Measures) -> float | None:
    """Return over how many powers of ten gradients spread from convolution to convolution."""
    norms = [norm for norm in values_of(measures, "gradient", "initial") if norm > 0]
    return math.log10(max(norms) / min(norms)) if len(norms) > _SHALLOW else None


def _steeper(signs: Signs) -> float | None:
    own, other = _decades(signs.trailer), _decades(signs.leader)
    return None if own is None or other is None else own - other


def _smoothed(signs: Signs) -> float | None:
    """Return how many times less the trailer's last convolution distinguishes neighbours."""
    own, other = (values_of(each, "dirichlet") for each in (signs.trailer, signs.leader))
    if min(len(own), len(other)) <= _SHALLOW:
        return None
    return other[-1] / max(own[-1], _TINY)


def _scale(signs: Signs) -> float | None:
    size = _largest(signs.trailer, "input_rms", "initial")
    return max(size, 1 / size) if size and not signs.trails.rescales else None


def _keeps_more(leads: Traits, trails: Traits) -> bool:
    """Whether the leader keeps more of the mean of a graph: all of it, or a learned share."""
    learned = trails.learned_shift and not leads.learned_shift
    return (trails.removes_mean or learned) and not leads.removes_mean


def _only_structure(signs: Signs) -> bool:
    """Whether the features are the same for all nodes, and the degree would tell them apart."""
    facts = signs.facts
    return facts.get("constant_columns", 0.0) == 1 and facts.get("regular", 0.0) < _MOSTLY


def _lost(signs: Signs) -> float | None:
    return None if _only_structure(signs) else _removed(signs)


def _left_of_constants(signs: Signs) -> float | None:
    return _removed(signs) if _only_structure(signs) else None


def _conditioned(signs: Signs) -> float | None:
    q, qn = signs.facts.get("condition_q"), signs.facts.get("condition_qn")
    return q / qn if q and qn else None


def _rate_ratio(signs: Signs) -> float | None:
    factor = rate_factor(signs.leader, signs.trailer)
    return None if factor is None else max(factor, 1 / factor)


def rate_factor(leader: Measures, trailer: Measures) -> float | None:
    """Return the effective learning rate of the leader over the trailer's.

    Geometric means over the layers, with the weights of the last epoch.
    """
    logs = [
        [math.log(rate) for rate in values_of(each, "effective_rate") if rate > 0]
        for each in (leader, trailer)
    ]
    if not all(logs):
        return None
    own, other = (sum(each) / len(each) for each in logs)
    return math.exp(own - other)


_SHALLOW: Final = 4
"""Convolutions up to which depth is no cause."""
_MOSTLY: Final = 0.5
_TINY: Final = 1e-12


def _share(value: float) -> str:
    return percent(value, 0)


def _times(value: float) -> str:
    return f"{value:.3g}"


CAUSES: Final = (
    Cause(
        name="lost-mean",
        concerns=_keeps_more,
        evidence=(
            Evidence(
                number=_lost,
                threshold=0.1,
                said="the means of graphs that {trailer} removes explain {value} of the variance "
                "of the label",
                written=_share,
            ),
        ),
        because="it keeps the mean of each graph",
        source="Cai et al. 2021, section 4.1, arXiv:2009.03294",
        interventions=("mean-as-feature",),
    ),
    Cause(
        name="learned-shift",
        concerns=lambda leads, trails: (
            leads.learned_shift and not (trails.learned_shift or trails.removes_mean)
        ),
        evidence=(
            Evidence(
                number=lambda signs: _mean(signs.leader, "alpha_moved"),
                threshold=0.1,
                said="α of {leader} has moved by {value}",
                written=_times,
            ),
        ),
        because="it learns how much of the mean of each graph to remove",
        source="Cai et al. 2021, section 4, arXiv:2009.03294",
        interventions=("fixed-shift",),
    ),
    Cause(
        name="batch-noise",
        concerns=lambda leads, trails: trails.batch_statistics and not leads.batch_statistics,
        evidence=(
            Evidence(
                number=_of_trailer("batch_noise"),
                threshold=0.05,
                said="the mean of a minibatch in front of {trailer} varies by {value} of the "
                "variance of its entries",
                written=_share,
            ),
        ),
        because="the statistics of minibatches, which {trailer} uses, are noisy here",
        source="Cai et al. 2021, section 3.3, arXiv:2009.03294",
        interventions=("whole-set-statistics", "larger-batch"),
    ),
    Cause(
        name="shift",
        concerns=lambda leads, trails: trails.running_statistics and not leads.running_statistics,
        evidence=(
            Evidence(
                number=_of_trailer("shift"),
                threshold=0.5,
                said="the running mean of {trailer} is {value} standard deviations from the mean "
                "of what is evaluated",
                written=_times,
            ),
            Evidence(
                number=_of_trailer("running_gap"),
                threshold=0.5,
                said="the running mean of {trailer} is {value} standard deviations from the mean "
                "of the training data",
                written=_times,
            ),
        ),
        because="the running statistics of {trailer} do not fit what is evaluated",
        source="Nado et al. 2020, arXiv:2006.10963",
        interventions=("evaluated-statistics",),
    ),
    Cause(
        name="depth",
        concerns=lambda leads, trails: True,
        evidence=(
            Evidence(
                number=_steeper,
                threshold=2.0,
                said="gradients spread over {value} more powers of ten from convolution to "
                "convolution with {trailer}",
                written=lambda value: f"{value:.1f}",
            ),
            Evidence(
                number=_smoothed,
                threshold=10.0,
                said="neighbours differ {value} times less behind the last convolution with "
                "{trailer}",
                written=_times,
            ),
        ),
        because="it keeps a deep model trainable",
        source="Zhao & Akoglu 2020, arXiv:1909.12223; Li et al. 2020, arXiv:2006.07739",
        interventions=("shallow",),
    ),
    Cause(
        name="feature-scale",
        concerns=lambda leads, trails: leads.rescales,
        evidence=(
            Evidence(
                number=_scale,
                threshold=10.0,
                said="the input columns have {value} times the scale that initial weights are "
                "made for",
                written=_times,
            ),
        ),
        because="it takes away the scale of the input features",
        source="LeCun et al. 1998, Efficient BackProp, section 4.3",
        interventions=("standardized-features",),
    ),
    Cause(
        name="constant-features",
        concerns=_keeps_more,
        evidence=(
            Evidence(
                number=_left_of_constants,
                threshold=0.1,
                said="input features are constant, and the means of graphs that {trailer} removes "
                "explain {value} of the variance of the label",
                written=_share,
            ),
        ),
        because="of constant features {trailer} leaves no more than differences within a graph",
        source="Cai et al. 2021, section 4.1, arXiv:2009.03294",
        interventions=("degree-features",),
    ),
    Cause(
        name="preconditioning",
        concerns=lambda leads, trails: (
            (leads.removes_mean or leads.learned_shift)
            and not (trails.removes_mean or trails.learned_shift)
        ),
        evidence=(
            Evidence(
                number=_conditioned,
                threshold=3.0,
                said="centering makes the condition number of the aggregation {value} times "
                "smaller",
                written=_times,
            ),
        ),
        because="centering each graph preconditions the aggregation",
        source="Cai et al. 2021, theorem 3.1, arXiv:2009.03294",
    ),
    Cause(
        name="effective-rate",
        concerns=lambda leads, trails: leads.rescales and trails.rescales,
        evidence=(
            Evidence(
                number=_rate_ratio,
                threshold=3.0,
                said="their effective learning rates differ by a factor of {value}",
                written=_times,
            ),
        ),
        because="it trains at another effective learning rate",
        source="van Laarhoven 2017, arXiv:1706.05350",
        interventions=("equal-effective-rate",),
    ),
    Cause(
        name="dead-channels",
        concerns=lambda leads, trails: True,
        evidence=(
            Evidence(
                number=_more("dead"),
                threshold=0.2,
                said="the share of channels that are 0 for every node is {value} higher with "
                "{trailer}",
                written=points,
            ),
        ),
        because="fewer of its channels are dead",
        source="Lu et al. 2019, arXiv:1903.06733",
        interventions=("leaky-activation",),
    ),
)
