"""Does subtracting the mean of a graph precondition the aggregation?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from graphnorms.data import GraphSet
from graphnorms.kernels import aggregate
from graphnorms.lab.statistics import Estimate, mean_interval
from graphnorms.models.readout import readout
from graphnorms.probes import interlacing_violations, spectra
from graphnorms.probes.spectra import Aggregation
from graphnorms.studies.drawing import PALETTE, label_axes, new_figure
from graphnorms.studies.material import graphs
from graphnorms.studies.ratios import as_numbers, held_below, paired_ratio, written
from graphnorms.studies.study import (
    Case,
    Finding,
    Measurement,
    Settings,
    Study,
    Values,
    decide,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMBEDDED: Final = ("MUTAG", "nci5k")
LARGER: Final = ("PTC", "PROTEINS", "NCI1", "IMDBBINARY")
AGGREGATIONS: Final = ("gin", "gcn")
BINS: Final = 40  # of the histogram of the ratios, from 0 to 1
SHRINKS: Final = 0.99  # a mean ratio of the largest singular values above it is no shrinking
FASTER: Final = 0.9  # a ratio of the numbers of steps above it is no faster
TARGET: Final = 1e-3  # of the initial loss
MOST_STEPS: Final = 20_000


def cases(settings: Settings) -> list[Case]:
    """Every set with both aggregations; all graphs of a set are in one case."""
    names = EMBEDDED if settings.data is None else EMBEDDED + LARGER
    return [
        {"set": name, "aggregation": aggregation, "seed": 1000 * settings.seed}
        for name in settings.pick(tiny=EMBEDDED[:1], default=names, full=names)
        for aggregation in AGGREGATIONS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Return the spectra in short, and the steps that a linear GNN needs with Q and with QN."""
    name, aggregation = str(case["set"]), case["aggregation"]
    given = graphs(name, settings.data if name in LARGER else None)
    if settings.size == "tiny":
        given = given.subset(torch.arange(20))
    found = []
    for ids in torch.arange(len(given)).split(256):
        batch = given.batch(ids)
        how: Aggregation = "gin" if aggregation == "gin" else "gcn"
        found += spectra(batch.adjacency, batch.segments, how)
    ratios = torch.tensor([each.ratio for each in found], dtype=torch.float64)
    ratios = ratios[~ratios.isnan()]
    middle = found[len(found) // 2]  # one graph, for the picture
    mean = mean_interval(ratios.numpy())
    return {
        "graphs": len(found),
        "violations": interlacing_violations(found),
        "mean": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "histogram": torch.histc(ratios.clamp(0, 1), BINS, 0, 1).tolist(),
        "plain": middle.plain.tolist(),
        "centered": middle.centered.tolist(),
        **_speed(given, str(aggregation), int(case["seed"]), teachers=200),
    }


def _speed(given: GraphSet, aggregation: str, seed: int, teachers: int) -> Values:
    r"""Train the linear GNN $y = Z w$ by gradient descent, $Z$ the features aggregated.

    With $Q$, $Z$ has a row of $Q$-aggregated features for every node; with $QN$ the mean over
    the nodes of each graph is subtracted from it. The target is what a random teacher gives,
    $Z w^*$, so that the least loss is 0; the step is $1/\lambda_1$ of $Z^\top Z$, the largest
    that is safe for both. Each column of $w$ is a teacher of its own.
    """
    random = torch.Generator().manual_seed(seed)
    batch = given.batch(torch.arange(len(given)))
    x = batch.x.double()
    if aggregation == "gin":
        z = aggregate(x, batch.adjacency, self_weight=1.0)
    else:
        scale = torch.rsqrt(batch.adjacency.in_degree.double() + 1)
        z = aggregate(x, batch.adjacency, self_weight=1.0, node_scale=scale)
    centered = z - readout(z, batch.segments, "mean")[batch.segments.index]
    teacher = torch.randn((z.shape[1], teachers), generator=random, dtype=torch.float64)
    values: Values = {}
    for name, rows in (("plain", z), ("centered", centered)):
        curve, steps = _descend(rows.T @ rows / rows.shape[0], teacher)
        values |= {f"{name} curve": curve, f"{name} steps": steps}
    return values


def _descend(gram: Tensor, teacher: Tensor) -> tuple[list[tuple[int, float]], list[float]]:
    """Return steps and the first teacher's loss there, and each one's steps to the target.

    Args:
        gram: ZᵀZ over the number of rows, `(features, features)`.
        teacher: What is to be found, from 0, `(features, teachers)`.
    """
    rate = 1 / torch.linalg.matrix_norm(gram, 2)
    error = -teacher
    curve: list[tuple[int, float]] = []
    reached = torch.full((teacher.shape[1],), MOST_STEPS, dtype=torch.float64)
    for step in range(MOST_STEPS):
        slope = gram @ error
        loss = (error * slope).sum(0)  # (teachers,), twice the mean squared error
        if step == 0:
            initial = loss
        share = loss / initial
        if not curve or step + 1 >= 1.1 * (curve[-1][0] + 1):  # ever fewer, for the picture
            curve.append((step, float(share[0])))
        reached[(share <= TARGET) & (reached == MOST_STEPS)] = step
        if bool((reached < MOST_STEPS).all()):
            break
        error = error - rate * slope
    return curve, reached.tolist()


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Ask for no violation, a smaller largest singular value, and fewer steps, everywhere."""
    violations = sum(m.values["violations"] for m in measurements)
    shrunk = {_name(m): Estimate(*(m.values[k] for k in ("mean", "low", "high")))
              for m in measurements}  # fmt: skip
    faster = {
        _name(m): paired_ratio(m.values["centered steps"], m.values["plain steps"])
        for m in measurements
    }
    verdict = decide(
        confirmed=violations == 0
        and all(each.high < SHRINKS for each in shrunk.values())
        and all(each.high < FASTER for each in faster.values()),
        refuted=violations > 0
        or any(each.low > SHRINKS for each in shrunk.values())
        or any(each.low > FASTER for each in faster.values()),
    )
    smaller, fewer = (
        ", ".join(
            f"{name} {written(each, 3)} ({held_below(each, limit)})" for name, each in found.items()
        )
        for found, limit in ((shrunk, SHRINKS), (faster, FASTER))
    )
    numbers: dict[str, float | None] = {"violations": float(violations)}
    for name in shrunk:
        numbers |= as_numbers(f"σ₁(QN)/σ₁(Q), {name}", shrunk[name])
        numbers |= as_numbers(f"steps QN/Q, {name}", faster[name])
    total = sum(m.values["graphs"] for m in measurements)
    return Finding(
        verdict,
        f"The singular values of {total} pairs of Q and QN violate the interlacing {violations} "
        f"times. σ₁(QN)/σ₁(Q), below {SHRINKS:g}: {smaller}. Steps of a linear GNN with QN over "
        f"those with Q, below {FASTER:g}: {fewer}.",
        numbers,
    )


def _name(measurement: Measurement) -> str:
    return f"{measurement.case['set']} {str(measurement.case['aggregation']).upper()}"


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the ratios of all graphs, the spectrum of one, and the descent of the linear GNN."""
    figure, (ratios, spectrum, descent, steps) = new_figure(4, columns=2)
    for number, each in enumerate(measurements):
        color, dash = PALETTE[number // 2 % len(PALETTE)], ("-", "--")[number % 2]
        counts = torch.tensor(each.values["histogram"])
        edges = torch.linspace(0, 1, BINS + 1).tolist()
        share = (100 * counts / counts.sum()).tolist()
        ratios.stairs(share, edges, color=color, linestyle=dash, label=_name(each), linewidth=1.3)
        for place, what in enumerate(("plain", "centered")):
            needed = each.values[f"{what} steps"]
            steps.scatter(
                [number + (place - 0.5) * 0.3] * len(needed), needed, s=9, alpha=0.6, linewidth=0,
                color=PALETTE[place], label=("Q", "QN")[place] if number == 0 else None,
            )  # fmt: skip
    label_axes(
        ratios, "σ₁(QN) / σ₁(Q), per graph", "graphs", y_unit="%", title="largest singular value"
    )
    ratios.legend(loc="upper left")
    first = measurements[0]
    for place, (what, title) in enumerate((("plain", "Q"), ("centered", "QN"))):
        values = first.values[what]
        spectrum.plot(
            range(1, len(values) + 1), values,
            color=PALETTE[place], marker="os"[place], label=title,
        )  # fmt: skip
        curve = first.values[f"{what} curve"]
        descent.plot(
            [1 + step for step, _ in curve], [share for _, share in curve],
            color=PALETTE[place], label=title,
        )  # fmt: skip
    label_axes(spectrum, "number, from the largest", "singular value",
               title=f"one graph of {_name(first)}")  # fmt: skip
    label_axes(descent, "1 + step of descent", "loss / initial loss", x_log=True, y_log=True,
               title=f"linear GNN, {_name(first)}, one teacher")  # fmt: skip
    label_axes(steps, "", f"steps to {TARGET:g} of the loss", y_log=True, title="200 teachers each")
    steps.set_xticks(range(len(measurements)), [_name(m).replace(" ", "\n") for m in measurements])
    for axis in (spectrum, descent, steps):
        axis.legend()
    return figure


STUDY: Final = Study(
    name="preconditioning",
    claim="Subtracting the mean of each graph, as InstanceNorm does, preconditions the "
    "aggregation: the singular values of QN interlace those of Q, the largest shrinks, and a "
    "GNN trains faster.",
    source="Cai et al. 2021, theorem 3.1 and fig. 2, https://arxiv.org/abs/2009.03294.",
    prediction="No violation of the interlacing in any graph; the largest singular value is "
    "smaller by more than 1% on average; a linear GNN needs fewer than 0.9 times the steps.",
    protocol="All graphs of MUTAG (188) and nci5k (4991), Q of GIN and of GCN, N = I - 11ᵀ/n; all "
    "singular values in float64. One linear layer on the node labels of the whole set, trained "
    "with Q and with QN by gradient descent with the step 1/λ₁ towards 200 random teachers, until "
    "the loss is a thousandth of the initial one; a first run with 20 teachers was inconclusive. "
    "With --data also PTC, PROTEINS, NCI1 and "
    "IMDB-BINARY.",
    rule="In every set, with either aggregation: confirmed if there is no violation (beyond "
    "1e-10 of the largest), the 95% interval of the mean of σ₁(QN)/σ₁(Q) over graphs lies below "
    "0.99, and that of the geometric mean of the ratio of the steps below 0.9. Not confirmed if "
    "there is a violation, or either interval lies above its limit in any of them.",
    seconds=10,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
