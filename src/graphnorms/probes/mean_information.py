"""Information in the per-graph mean, which a norm that subtracts it removes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphnorms.kernels.tensor_checks import check_features
from graphnorms.models.readout import readout
from graphnorms.segments import Segments


@dataclass(frozen=True, slots=True)
class MeanInformation:
    """How well a linear probe tells the classes of graphs from the means of their features.

    Args:
        accuracy: Of the probe on held-out graphs, mean over the folds, a fraction.
        chance: Of always naming the most frequent class, on the same folds.
        folds: The accuracy on each fold.
        rank: Linearly independent columns of the means, on all graphs; 0 says that they are
            the same for all graphs.
    """

    accuracy: float
    chance: float
    folds: tuple[float, ...]
    rank: int

    @property
    def share(self) -> float:
        """(accuracy − chance) / (1 − chance): 0 at chance, 1 if the mean tells everything."""
        return (self.accuracy - self.chance) / (1 - self.chance)


def mean_information(
    x: Tensor,
    segments: Segments,
    y: Tensor,
    *,
    folds: int = 5,
    penalty: float = 1.0,
    seed: int = 0,
) -> MeanInformation:
    r"""Measure how well the per-graph mean of features tells the classes, linearly.

    $z_g = \frac{1}{|V_g|} \sum_{i \in V_g} x_i$ is what is left of the features if everything
    but the mean is forgotten, and what InstanceNorm removes. The probe is a multinomial
    logistic regression on $z$, its columns standardized on the training graphs; its accuracy is
    that on held-out graphs of a stratified k-fold cross-validation, to be compared with
    `chance`, the accuracy of the most frequent class. Measure features before a norm and behind
    it to see what the norm takes away.

    A column whose means vary by no more than rounding (standard deviation below
    $10^3 u \cdot \mathrm{rms}(x)$, $u$ the precision of the dtype) is constant: otherwise
    standardizing would blow up the rounding errors behind an InstanceNorm, and the probe learn
    from them.

    A low accuracy says that no linear function of the mean tells the classes, not that the mean has
    no information.

    Shapes: `x` `(nodes, channels)`, `y` `(graphs,)`.

    Args:
        x: The features of the nodes.
        segments: Which node belongs to which graph.
        y: The class of each graph, integers.
        folds: Number of folds.
        penalty: Weight of the squared norm of the coefficients, $1/C$ of scikit-learn.
        seed: Shuffles the graphs into folds.

    Raises:
        ValueError: `x`, `segments` and `y` do not fit each other, there are fewer than two
            classes, a class has fewer graphs than there are folds, or `penalty` is not positive.
        ImportError: scikit-learn is not installed.

    Source: the question is that of Cai et al. 2021, section 4.1, https://arxiv.org/abs/2009.03294;
    linear probes: Alain & Bengio 2017, https://arxiv.org/abs/1610.01644.
    """
    check_features(x)
    if segments.num_rows != x.shape[0]:
        raise ValueError(f"segments has {segments.num_rows} rows, but x has {x.shape[0]}")
    if y.shape != (segments.num_segments,) or y.is_floating_point():
        raise ValueError(
            f"y is {tuple(y.shape)} of {y.dtype}, expected one class per graph, "
            f"({segments.num_segments},) integers"
        )
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty}, expected a positive number")
    counts = torch.unique(y, return_counts=True)[1].tolist()
    if len(counts) < 2:
        raise ValueError(f"y has {len(counts)} class, expected two or more to tell apart")
    if folds < 2 or min(counts) < folds:
        raise ValueError(
            f"folds is {folds} and the smallest class has {min(counts)} graphs, expected 2 folds "
            "or more and a graph of each class in every fold"
        )
    means = _means(x, segments)
    scores, chances = _cross_validate(means, y, folds, penalty, seed)
    return MeanInformation(
        accuracy=sum(scores) / folds,
        chance=sum(chances) / folds,
        folds=tuple(scores),
        rank=int(torch.linalg.matrix_rank(means - means.mean(0))),
    )


def _means(x: Tensor, segments: Segments) -> Tensor:
    """The mean of each graph, `(graphs, channels)` float64, columns of mere rounding set to 0."""
    wide = x.detach().cpu().double()
    means = readout(wide, segments.to("cpu"), "mean")
    size = wide.square().mean(0).sqrt()  # (channels,)
    rounding = 1e3 * torch.finfo(x.dtype).eps * size
    return torch.where(means.std(0, correction=0) > rounding, means, 0.0)


def _cross_validate(
    means: Tensor, y: Tensor, folds: int, penalty: float, seed: int
) -> tuple[list[float], list[float]]:
    """The accuracy of the probe, and of the most frequent class, on each fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    z, classes = means.numpy(), y.cpu().numpy()
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    scores, chances = [], []
    for train, test in splits.split(z, classes):
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=10_000)
        ).fit(z[train], classes[train])
        scores.append(float(probe.score(z[test], classes[test])))
        known = torch.from_numpy(classes[train])
        frequent = int(torch.mode(known)[0])
        chances.append(float((classes[test] == frequent).mean()))
    return scores, chances
