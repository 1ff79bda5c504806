"""Several data sets together: which norms rank higher, as far as so many data sets can tell.

Every data set counts once, regardless of its size and of the spread of its scores: the conclusion
is about the next data set of the kind. Within a data set the norms are ranked, 1 is the best, and
equal scores share the mean of their ranks; across data sets the ranks are averaged.

Source: Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, Journal of Machine
Learning Research 7, 2006; Benavoli, Corani & Mangili, JMLR 17 (5), 2016, who show that Nemenyi's
verdict on two norms depends on which others are compared, and Wilcoxon's does not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from graphnorms.lab import statistics
from graphnorms.lab.phrases import be, listing
from graphnorms.lab.power import minimum_flips
from graphnorms.lab.resampling import sign_flip
from graphnorms.lab.verdict import Verdict, jsonable
from graphnorms.training.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class RankTest:
    """Two norms compared over data sets.

    Args:
        first, second: Catalogue names; the first has the better average rank.
        difference: Of the average ranks, first − second: negative.
        wins, losses: Data sets in which the first is better, and worse.
        nemenyi_p: Of that difference; adjusted for all pairs by its construction.
        wilcoxon_p: Two-sided, of the signed-rank test on the scores; None with fewer data sets
            than `AcrossDatasets.minimum`.
        adjusted_p: The same after Holm's adjustment over all pairs.
    """

    first: str
    second: str
    difference: float
    wins: int
    losses: int
    nemenyi_p: float
    wilcoxon_p: float | None = None
    adjusted_p: float | None = None

    @property
    def told_apart(self) -> bool:
        """Whether the two differ at 5% by Wilcoxon's test, adjusted for all pairs."""
        return self.adjusted_p is not None and self.adjusted_p <= statistics.SIGNIFICANCE


@dataclass(frozen=True, kw_only=True)
class Without:
    """The ranks over all data sets but one.

    Args:
        dataset: The one that is left out.
        ranks: Average rank per norm over the others, best first.
        friedman_p: Of Friedman's test over the others.
    """

    dataset: str
    ranks: dict[str, float]
    friedman_p: float

    @property
    def best(self) -> frozenset[str]:
        """The norms with the best average rank; several if they are equal."""
        return best_in(self.ranks)


@dataclass(frozen=True, kw_only=True)
class AcrossDatasets:
    """What several data sets say together.

    Args:
        datasets: Their names.
        ranks: Average rank per norm, best first.
        friedman, friedman_p: Friedman's χ² with k − 1 degrees of freedom, corrected for ties.
        iman_davenport, iman_davenport_p: The less conservative F of it.
        critical_difference: Nemenyi's, at 5%: average ranks closer than that are not told apart.
        minimum: Data sets below which Wilcoxon's test cannot say anything over all pairs.
        tests: All pairs, the better of `ranks` first.
        groups: The largest sets of norms, consecutive in rank, that Nemenyi's test leaves
            together; sets of a single norm are left out.
        without: The ranks with each data set left out; () for two data sets.
        left_out: Data sets with an unfinished comparison; nothing here counts them.
        noun: What is compared, in words.
    """

    datasets: tuple[str, ...]
    ranks: dict[str, float]
    friedman: float
    friedman_p: float
    iman_davenport: float
    iman_davenport_p: float
    critical_difference: float
    minimum: int
    tests: tuple[RankTest, ...]
    groups: tuple[tuple[str, ...], ...]
    without: tuple[Without, ...] = ()
    left_out: tuple[str, ...] = ()
    noun: str = "norm"

    @property
    def winners(self) -> frozenset[str]:
        """The norms with the best average rank; several if they are equal."""
        return best_in(self.ranks)

    @property
    def decisive(self) -> tuple[Without, ...]:
        """The data sets without which a norm ranks best that does not with them."""
        return tuple(one for one in self.without if not one.best <= self.winners)

    @property
    def best(self) -> str:
        """The norm with the best average rank."""
        return next(iter(self.ranks))

    @property
    def tied(self) -> tuple[str, ...]:
        """The best in rank and all that Wilcoxon's test cannot tell from it; () if untested."""
        best = self.best
        tests = [test for test in self.tests if test.first == best and test.adjusted_p is not None]
        if not tests:
            return ()
        return best, *(test.second for test in tests if not test.told_apart)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able data; what is infinite becomes None."""
        data: dict[str, Any] = jsonable(asdict(self))
        return data | {"decisive": [one.dataset for one in self.decisive]}

    @property
    def sentence(self) -> str:
        """The outcome in plain words."""
        from graphnorms.lab.rank_sentences import ranks_sentence

        return ranks_sentence(self)


def across_verdicts(verdicts: Mapping[str, Verdict]) -> AcrossDatasets:
    """Compare norms over data sets, given the verdict on each.

    Args:
        verdicts: By data set. Unfinished ones are left out, and so are norms that are no
            contenders in one of the others: their scores come from other trials.

    Raises:
        ValueError: Fewer than two are finished, or see `compare_datasets`.
    """
    finished = {dataset: verdict for dataset, verdict in verdicts.items() if verdict.finished}
    left_out = tuple(dataset for dataset in verdicts if dataset not in finished)
    if left_out and len(finished) < 2:
        raise ValueError(
            f"ranks take two finished comparisons at least, and of these {len(verdicts)} only "
            f"{len(finished)} {be(len(finished))}; finish {listing(left_out)} first"
        )
    scores = {
        dataset: {
            row.norm: row.score.mean
            for row in verdict.rows
            if row.score is not None and row.norm in verdict.contenders
        }
        for dataset, verdict in finished.items()
    }
    metrics = {dataset: verdict.scale.metric for dataset, verdict in finished.items()}
    nouns = {verdict.noun for verdict in finished.values()}
    noun = nouns.pop() if len(nouns) == 1 else "norm"
    return replace(compare_datasets(scores, metrics), left_out=left_out, noun=noun)


def compare_datasets(
    scores: Mapping[str, Mapping[str, float]], metrics: Mapping[str, Metric]
) -> AcrossDatasets:
    """Compare norms over data sets.

    Wilcoxon's test ranks the sizes of differences, which therefore have to be comparable: where
    every metric is a fraction they are taken as they are, else as shares of the two scores'
    mean. Its p-value is exact for up to 20 data sets, with ties too.

    Args:
        scores: By data set and norm. Norms that lack a score somewhere are left out.
        metrics: By data set.

    Raises:
        ValueError: There are fewer than two data sets, or fewer than two norms in all of them.
    """
    datasets = tuple(scores)
    shared = [
        norm
        for norm in dict.fromkeys(norm for of_norms in scores.values() for norm in of_norms)
        if all(norm in scores[dataset] for dataset in datasets)
    ]
    if len(datasets) < 2 or len(shared) < 2:
        raise ValueError(
            f"{len(datasets)} data sets share {len(shared)} norms; a comparison over data sets "
            "takes two of each"
        )
    table = np.array(
        [
            [(1 if metrics[d].higher_is_better else -1) * scores[d][norm] for norm in shared]
            for d in datasets
        ]
    )  # (data sets, norms), larger is better
    places = scipy.stats.rankdata(-table, axis=1)  # (data sets, norms), 1 is the best
    average = places.mean(axis=0)
    order = sorted(range(len(shared)), key=lambda place: (average[place], shared[place]))
    chi_squared, f = friedman(places)
    count, k = places.shape
    error = math.sqrt(k * (k + 1) / (12 * count))
    quantile = float(scipy.stats.studentized_range.ppf(1 - statistics.SIGNIFICANCE, k, math.inf))
    relative = not all(metrics[dataset].fraction for dataset in datasets)
    minimum = minimum_flips(math.comb(k, 2))
    tests = []
    for one, other in itertools.combinations(order, 2):
        first, second = table[:, one], table[:, other]
        difference = float(average[one] - average[other])
        size = (np.abs(first) + np.abs(second)) / 2 if relative else np.ones(count)
        scaled = np.divide(first - second, size, out=np.zeros(count), where=size > 0)
        tests.append(
            RankTest(
                first=shared[one],
                second=shared[other],
                difference=difference,
                wins=int((first > second).sum()),
                losses=int((first < second).sum()),
                nemenyi_p=float(
                    scipy.stats.studentized_range.sf(abs(difference) / error, k, math.inf)
                ),
                wilcoxon_p=signed_ranks(scaled) if count >= minimum else None,
            )
        )
    adjusted = statistics.holm(
        [math.nan if test.wilcoxon_p is None else test.wilcoxon_p for test in tests]
    )
    ranks = {shared[place]: float(average[place]) for place in order}
    return AcrossDatasets(
        datasets=datasets,
        ranks=ranks,
        friedman=chi_squared,
        friedman_p=float(scipy.stats.chi2.sf(chi_squared, k - 1)),
        iman_davenport=f,
        iman_davenport_p=float(scipy.stats.f.sf(f, k - 1, (k - 1) * (count - 1))),
        critical_difference=quantile * error,
        minimum=minimum,
        tests=tuple(
            RankTest(**{**vars(test), "adjusted_p": None if math.isnan(p) else p})
            for test, p in zip(tests, adjusted, strict=True)
        ),
        groups=_groups(ranks, quantile * error),
        without=_without(datasets, shared, places),
    )


def best_in(ranks: Mapping[str, float]) -> frozenset[str]:
    """Return the norms with the best average rank, equal up to rounding."""
    least = min(ranks.values())
    return frozenset(norm for norm, rank in ranks.items() if rank - least < 1e-9)


def _without(
    datasets: Sequence[str], norms: Sequence[str], places: NDArray[np.float64]
) -> tuple[Without, ...]:
    """Return the ranks with each data set left out; a rank does not depend on other data sets."""
    if len(datasets) < 3:
        return ()
    found = []
    for place, dataset in enumerate(datasets):
        others = np.delete(places, place, axis=0)
        average = others.mean(axis=0)
        order = sorted(range(len(norms)), key=lambda j: (average[j], norms[j]))
        found.append(
            Without(
                dataset=dataset,
                ranks={norms[j]: float(average[j]) for j in order},
                friedman_p=float(scipy.stats.chi2.sf(friedman(others)[0], len(norms) - 1)),
            )
        )
    return tuple(found)


def friedman(places: NDArray[np.float64]) -> tuple[float, float]:
    """Return Friedman's χ², corrected for ties, and Iman & Davenport's F of it.

    χ² = 12 N / (k (k + 1)) · Σ (R̄ⱼ − (k + 1) / 2)² / C, with C = 1 − Σ (t³ − t) / (N (k³ − k)) over
    all groups of t equal ranks, and F = (N − 1) χ² / (N (k − 1) − χ²). Equal ranks give 0
    and 0, and agreement of all data sets an infinite F.

    Args:
        places: Ranks, `(data sets, norms)`.

    Source: Friedman, JASA 32, 1937; Iman & Davenport, Communications in Statistics 9, 1980.
    """
    count, k = places.shape
    ties = sum(
        float((sizes**3 - sizes).sum())
        for row in places
        for sizes in [np.unique(row, return_counts=True)[1].astype(float)]
    )
    correction = 1 - ties / (count * (k**3 - k))
    if correction <= 0:
        return 0.0, 0.0
    spread = float(((places.mean(axis=0) - (k + 1) / 2) ** 2).sum())
    chi_squared = 12 * count / (k * (k + 1)) * spread / correction
    room = count * (k - 1) - chi_squared
    return chi_squared, (count - 1) * chi_squared / room if room > 1e-9 else math.inf


def signed_ranks(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; zeros are split evenly.

    Zeros share the lowest ranks, half of which count for either side; of an odd number of zeros
    one is left out. Exact for up to 20 differences, also where sizes are equal: the signs of their
    ranks are flipped. 1 if all differences are zero.

    Source: Wilcoxon, Biometrics Bulletin 1, 1945; Demšar, JMLR 7, 2006, §3.1.3, for the zeros.
    """
    # Equal up to rounding is equal: scores are often fractions of small integers.
    sizes = np.array([float(f"{abs(value):.12g}") for value in differences])
    zero = sizes <= 1e-12
    if zero.all():
        return 1.0
    sizes[zero] = 0.0
    ranks = scipy.stats.rankdata(sizes)
    if zero.sum() % 2:
        ranks -= 1  # one zero less in front of all others
    return sign_flip(np.where(zero, 0.0, np.sign(differences) * ranks))


def _groups(ranks: Mapping[str, float], critical: float) -> tuple[tuple[str, ...], ...]:
    """Return the maximal runs of norms, in order of rank, that lie within `critical`."""
    norms = list(ranks)
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start, norm in enumerate(norms):
        end = start
        while end + 1 < len(norms) and ranks[norms[end + 1]] - ranks[norm] <= critical:
            end += 1
        if end > start and end + 1 > reached:
            groups.append(tuple(norms[start : end + 1]))
            reached = end + 1
    return tuple(groups)
