"""Do LayerNorm and RMSNorm help models of energies and forces?"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import GraphSet
from graphnorms.data.clusters import CUTOFF, clusters
from graphnorms.lab.statistics import Estimate
from graphnorms.models import ForceModel, ForceModelConfig, NormSlot
from graphnorms.models.force.tensor_block import TensorBlock
from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.segments import Segments
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    CONFIDENCE,
    Check,
    concluded,
    numbers_of,
    paired_ratio,
    summary,
    verdict_of,
    written,
)
from graphnorms.studies.force_properties import LOOSE, PROPERTIES, TIGHT, properties_of
from graphnorms.studies.measured_values import by_seed, where
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.training_loops import minibatches, take_step
from graphnorms.training.force_objective import ForceObjective
from graphnorms.training.forces import energies_and_forces, error_of, rows_of

MODELS = {"painn": "PaiNN", "equivariant": "equivariant"}
WIDTHS = {"painn": 32, "equivariant": 16}
NORMS = ("layer", "rms")
HELPS = 0.95  # of the error without a norm; above it, it does not help
ERRORS = {"force": "eV/Å", "energy": "eV an atom"}
_PLURAL = {"force": "forces", "energy": "energies"}
RATES = (3e-3, 1e-2)
SIZE = 16  # clusters of a step
PARTS = (240, 60, 100)  # clusters to learn from, to choose the rate by, and for the test
STEPS = {"tiny": 2, "planted": 10, "default": 120, "full": 2000}
SEEDS = {"planted": 4, "default": 4, "full": 10}
NOISE = 100.0  # of the planted layers that blur
FEW = 8  # clusters on which properties of a trained model are measured

Adapt = Callable[[ForceModel], None]


def cases(settings: Settings) -> list[Case]:
    """Both models with every norm; GraphNorm, which is beside the rule, not where planted."""
    beside = () if settings.size == "planted" else ("graph",)
    return [
        {"model": model, "norm": norm, "seed": seed}
        for seed in settings.seeds(**SEEDS)
        for model in MODELS
        for norm in ("none", *NORMS, *beside)
    ]


def measure(case: Case, settings: Settings, adapt: Adapt = lambda model: None) -> Values:
    """Train a model at every rate; GraphNorm at the first.

    Returns:
        `"force 0.003"`, `"energy 0.003"`: mean absolute errors on the test part, by the rate, and
        `"validation 0.003"`, that of forces on the validation part; and `PROPERTIES`.
    """
    name, norm, seed = str(case["model"]), str(case["norm"]), int(case["seed"])
    small = settings.size in ("tiny", "planted")
    parts = tuple(size // 4 for size in PARTS) if small else PARTS
    graphs = _made(sum(parts), seed)
    train, validation, test = torch.arange(len(graphs)).split(parts)
    objective = ForceObjective.fitted(graphs, train)
    sigma, standard = float(objective.std), objective.standardized(graphs)
    config = ForceModelConfig(
        name=name, layers=1 if small else 2, hidden=8 if small else WIDTHS[name], cutoff=CUTOFF
    )
    rates = RATES[:1] if norm == "graph" else RATES
    found: Values = {}
    for rate in RATES[1:] if settings.size == "planted" else rates:
        model = ForceModel(config, norm, seed=seed)
        adapt(model)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        steps = settings.pick(**STEPS)
        for step, chosen in enumerate(minibatches(len(train), SIZE, steps, seed)):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            take_step(optimizer, objective.loss(*_rows(model, standard, train[chosen])))
        model.eval()
        for part, ids in (("validation", validation), ("test", test)):
            outputs, targets = _rows(model, standard, ids)
            force, energy = (
                sigma * error_of(f"{what}_mae", outputs.detach(), targets) for what in ERRORS
            )
            found |= (
                {f"force {rate:g}": force, f"energy {rate:g}": energy}
                if part == "test"
                else {f"validation {rate:g}": force}
            )
        if settings.size != "planted":
            properties = properties_of(model.double(), standard.subset(test[:FEW]), sigma)
            found |= {f"{what} {rate:g}": value for what, value in properties.items()}
    return found


@functools.cache
def _made(number: int, seed: int) -> GraphSet:
    return clusters(number, seed)


def _rows(model: ForceModel, graphs: GraphSet, ids: Tensor) -> tuple[Tensor, Tensor]:
    batch = graphs.batch(ids)
    assert batch.atoms is not None
    targets = rows_of(batch.y, batch.atoms.forces, batch.segments.counts)
    return energies_and_forces(model, batch), targets


def best_rate(measured: Measured, model: str, norm: str) -> str:
    """Return the rate of the lowest error on the validation part, geometric mean over seeds."""

    def error(rate: str) -> float:
        errors = by_seed(measured, f"validation {rate}", model=model, norm=norm)
        mean = statistics.fmean(map(math.log, errors))
        return math.inf if math.isnan(mean) else mean

    first = where(measured, model=model, norm=norm)[0].values
    rates = [name.partition(" ")[2] for name in first if name.startswith("validation")]
    return min(rates, key=error)


def at_best(measured: Measured, value: str, model: str, norm: str) -> list[float]:
    """Return a value at the best rate, by seed."""
    rate = best_rate(measured, model, norm)
    return by_seed(measured, f"{value} {rate}", model=model, norm=norm)


def _ratio(
    measured: Measured, value: str, model: str, norm: str, confidence: float = CONFIDENCE
) -> Estimate:
    pair = (at_best(measured, value, model, each) for each in (norm, "none"))
    return paired_ratio(*pair, confidence=confidence)


def judge(measured: Measured, settings: Settings) -> Finding:
    """Ask for smaller errors of energies and forces with either norm in both models."""
    ratios = {
        (value, model, norm): _ratio(measured, value, model, norm, settings.confidence)
        for value in ERRORS
        for model in MODELS
        for norm in NORMS
    }
    numbers = numbers_of({", ".join(key): each for key, each in ratios.items()})
    checks = [
        Check(f"{_PLURAL[v]}, {MODELS[m]}, {display_name(n)}", each, HELPS)
        for (v, m, n), each in ratios.items()
    ]
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes="LayerNorm and RMSNorm help models of energies and forces.",
        no="LayerNorm and RMSNorm do not help every model of energies and forces.",
    )
    tables = [
        TextTable(
            f"Mean absolute error on new clusters, as a share of that without a norm (predicted: "
            f"below {HELPS:g})",
            ("model", "norm", *(_PLURAL[value] for value in ERRORS)),
            tuple(
                (MODELS[m], display_name(n), *(written(ratios[value, m, n]) for value in ERRORS))
                for m in MODELS
                for n in NORMS
            ),
        )
    ]
    if settings.size != "planted":
        medians = {
            (what, model, norm): statistics.median(at_best(measured, what, model, norm))
            for what in PROPERTIES
            for model in MODELS
            for norm in ("none", *NORMS, "graph")
        }
        numbers |= {", ".join(key): value for key, value in medians.items()}
        tables.append(_properties(medians))
    return Finding(
        verdict,
        f"{conclusion} Errors on new clusters were predicted to fall below {HELPS:g} times those "
        "without a norm. "
        f"{summary(checks)}",
        numbers,
        tuple(tables),
    )


def _properties(medians: dict[tuple[str, str, str], float]) -> TextTable:
    """Show what the rule does not look at: three properties that a potential should have."""
    return TextTable(
        "Beside the rule, medians over seeds",
        (
            "model",
            "norm",
            "two far clusters less their sum, eV an atom",
            "largest force on an atom between 0.9 and 1 of the cutoff / RMS of forces",
            f"stiffness in the middle of a tetrahedron, at {TIGHT:g} Å / at {LOOSE:g} Å",
        ),
        tuple(
            (
                title,
                display_name(norm),
                f"{medians['parts', model, norm]:.1g}",
                f"{medians['edge', model, norm]:.2f}",
                f"{medians['zero', model, norm]:.2f}",
            )
            for model, title in MODELS.items()
            for norm in ("none", *NORMS, "graph")
        ),
    )


def draw(measured: Measured) -> Figure:
    """Draw the errors of both models, and the force on an atom that leaves."""
    figure, axes = drawing.new_figure(6, columns=3, size=(2.7, 2.4))
    arms = ("none", *NORMS, "graph")
    names = {"edge": "force near the cutoff / RMS", **{k: f"error of the {k}" for k in ERRORS}}
    for row, model in enumerate(MODELS):
        for axis, what in zip(axes[3 * row :], ("force", "energy", "edge"), strict=False):
            for place, norm in enumerate(arms):
                values = at_best(measured, what, model, norm)
                look: dict[str, Any] = drawing.look_of(norm) | {"linestyle": ""}
                spread = [place + 0.05 * (i - len(values) / 2) for i in range(len(values))]
                axis.plot(spread, values, **look)
            drawing.label_axes(
                axis, "", names[what], y_unit=ERRORS.get(what, ""), log="y", title=MODELS[model]
            )
            axis.set_xticks(range(len(arms)), arms)
    return figure


class _Gain(nn.Module):
    """Change nothing, or add random numbers in eval mode, in the place of a norm."""

    def __init__(self, draw: torch.Generator | None, *, activates: bool) -> None:
        super().__init__()
        self.draw, self.activates = draw, activates

    def forward(self, x: Tensor, segments: Segments, residual: Tensor | None = None) -> Tensor:
        y = x
        if self.draw is not None and not self.training:
            y = x + NOISE * torch.randn(x.shape, generator=self.draw)
        y = F.silu(y) if self.activates else y
        return y if residual is None else y + residual


def _planted(case: Case, settings: Settings, *, noisy: Sequence[str]) -> Values:
    """Measure with layers in the place of norms that change nothing, or blur everything."""
    draw = torch.Generator().manual_seed(int(case["seed"])) if case["norm"] in noisy else None

    def adapt(model: ForceModel) -> None:
        for module in model.modules():
            if isinstance(module, NormSlot) and not module.of_edges:
                module.norm = _Gain(draw, activates=True)
            elif isinstance(module, TensorBlock):
                module.norm = _Gain(draw, activates=False)
                module.norm2 = _Gain(draw, activates=False)
        if case["model"] == "equivariant":
            model.norm = _Gain(draw, activates=False)

    return measure(case, settings, adapt)


STUDY = Study(
    name="forces",
    claim="LayerNorm and RMSNorm on the features of atoms help models of energies and forces.",
    source="Liao et al. 2023, section 4, https://arxiv.org/abs/2306.12059, where a layer "
    "normalization of all degrees is one of the improvements in energies and forces; Thölke & De "
    "Fabritiis 2022, https://arxiv.org/abs/2202.02541, have LayerNorm in every layer, while Schütt "
    "et al. 2021, https://arxiv.org/abs/2102.03150, have none.",
    prediction="With LayerNorm and with RMSNorm, in a PaiNN and in an equivariant model, the mean "
    f"absolute errors of forces and of energies on new clusters are below {HELPS:g} of those "
    "without a norm. That energies of far parts add up with these norms, and do not with "
    "GraphNorm, holds by construction.",
    protocol=f"The generated set clusters, drawn by seed: {PARTS[0]} clusters of 3 to 12 atoms to "
    f"learn from, {PARTS[1]} to choose the rate by, {PARTS[2]} for the test. Two blocks: PaiNN of "
    f"{WIDTHS['painn']} channels, and harmonics to degree 2 of {WIDTHS['equivariant']} channels, "
    "where the norms are EquivariantLayerNorm and EquivariantRMSNorm. Loss of energies an atom and "
    f"ten times that of forces; Adam, {STEPS['default']} steps of {SIZE} clusters, the rates "
    f"{RATES[0]:g} and {RATES[1]:g}, falling linearly to 0, the best by the error of forces on the "
    f"validation part. {SEEDS['default']} seeds of clusters and weights; ratios are paired by "
    "seed. Beside the rule, GraphNorm at the first rate, and four properties of trained models in "
    "float64: whether energies of far clusters add up, of two and of a cluster twice, the force "
    "on an atom as it reaches the cutoff, and how much stiffer the middle of a tetrahedron is "
    "against a small move than against a large one, as vectors are zero there.",
    rule=f"Confirmed if all eight 95% intervals of the ratios of errors lie below {HELPS:g}; not "
    "confirmed if one lies above it.",
    seconds=110,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "In the place of the norms layers that change nothing; in the arm without a norm layers "
        f"that in eval mode add normal numbers times {NOISE:g} to all features.",
        lambda case, settings: _planted(case, settings, noisy=("none",)),
    ),
    false=World(
        "The other way round: the norms blur, and the arm without a norm has layers that change "
        "nothing.",
        lambda case, settings: _planted(case, settings, noisy=NORMS),
    ),
)
