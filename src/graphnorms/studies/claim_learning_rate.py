"""Does normalization allow larger learning rates?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    Check,
    concluded,
    numbers_of,
    paired_ratio,
    summary,
    verdict_of,
    written,
)
from graphnorms.studies.measured_values import by_seed, geometric_mean, where
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.swept_models import (
    BATCH,
    DECIDING,
    DEPTH,
    TITLES,
    WIDTH,
    TrainingTask,
    final_loss,
    make_task,
    norms_of,
)

RATES = tuple(2.0**power for power in range(5, -13, -1))  # 32 to 0.00024
HALVINGS = 2  # of the distance between two rates, by logarithms
TRAINED = 0.9  # of the loss of knowing nothing: up to it, a rate is stable
FACTOR = 5.0  # by which BatchNorm raises the largest stable rate
EFFECTIVE = 2**0.5  # the same where units keep the length of their weights
WEIGHTS = {"free": "", "held": "at equal effective rate"}
SEEDS = {"planted": 8, "default": 5, "full": 20}
STEPS = {
    "tiny": {"mlp": 30, "gin": 10},
    "default": {"mlp": 300, "gin": 100},
    "full": {"mlp": 3000, "gin": 1000},
}


def cases(settings: Settings) -> list[Case]:
    """Both models with every norm; with lengths held, with those that decide."""
    return [
        {"model": model, "norm": norm, "weights": weights, "seed": seed}
        for seed in settings.seeds(**SEEDS)
        for model in TITLES
        for weights in WEIGHTS
        for norm in norms_of(model, settings, deciding=weights == "held")
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Look for the largest stable rate of a network."""
    steps = settings.pick(**STEPS)
    return observe(lambda: make_task(case, steps), case, settings)


def observe(make: Callable[[], TrainingTask], case: Case, settings: Settings) -> Values:
    """Train at smaller and smaller rates until one is stable, and bisect on to larger ones."""
    losses: dict[str, float] = {}

    def stable(rate: float) -> bool:
        task = make()
        optimizer = torch.optim.SGD(task.model.parameters(), lr=rate)
        losses[f"{rate:.6g}"] = final_loss(task, optimizer, held=case["weights"] == "held")
        return losses[f"{rate:.6g}"] <= TRAINED * task.ignorant

    rates = settings.pick(tiny=RATES[::5], planted=RATES, default=RATES, full=RATES)
    largest = next((rate for rate in rates if stable(rate)), math.nan)
    if largest < rates[0]:
        step = rates[0] / rates[1]
        for _ in range(HALVINGS):
            step **= 0.5
            largest *= step if stable(largest * step) else 1
    return {"largest": largest, "losses": losses}


def judge(measured: Measured, settings: Settings) -> Finding:
    """Compare the largest rates at which a network still trains, paired by seed."""
    stable = {
        (model, weights, norm): by_seed(
            measured, "largest", model=model, weights=weights, norm=norm
        )
        for model in TITLES
        for weights in WEIGHTS
        for norm in norms_of(model, settings, deciding=weights == "held")
    }
    ratios = {
        (model, weights, norm): paired_ratio(
            rates, stable[model, weights, "none"], confidence=settings.confidence
        )
        for (model, weights, norm), rates in stable.items()
        if norm != "none"
    }
    cells: dict[tuple[str, str, str], str] = {}
    numbers: dict[str, float | None] = {}
    for (model, weights, norm), rates in stable.items():
        typical = _typical(rates)
        words = f"{typical:.3g}"
        name = " ".join(filter(None, ("largest stable rate", WEIGHTS[weights])))
        name = f"{name}, {TITLES[model]}, {norm}"
        numbers[name] = typical if math.isfinite(typical) else None
        if norm != "none":
            times = ratios[model, weights, norm]
            words += f" (× {written(times, 3, significant=True)})"
            numbers |= numbers_of({f"{name} / none": times})
        cells[model, norm, weights] = words
    limits = {"free": FACTOR, "held": EFFECTIVE}
    kinds = {"free": "lengths of the weights free", "held": "at equal effective rate"}
    checks = [
        Check(f"{TITLES[m]}, {kinds[w]}", ratios[m, w, "batch"], limits[w], above=True)
        for m in TITLES
        for w in limits
    ]
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes="BatchNorm allows much larger learning rates.",
        no="BatchNorm does not allow much larger learning rates everywhere.",
    )
    factors = {w: [ratios[m, w, "batch"].mean for m in TITLES] for w in limits}
    return Finding(
        verdict,
        f"{conclusion} The largest rate at which training is stable is "
        f"{min(factors['free']):.3g} to {max(factors['free']):.3g} times that without a norm "
        f"(predicted: more than {FACTOR:g}), and {min(factors['held']):.3g} to "
        f"{max(factors['held']):.3g} times at equal effective rate (predicted: more than √2). "
        f"{summary(checks, 3, significant=True)}",
        numbers,
        (
            TextTable(
                "Largest stable learning rate, geometric mean (× that without a norm)",
                ("", "norm", *kinds.values()),
                tuple(
                    (TITLES[m], display_name(n), *(cells.get((m, n, w), "–") for w in kinds))
                    for m, n in dict.fromkeys(key[:2] for key in cells)
                ),
            ),
        ),
    )


def _typical(rates: Sequence[float]) -> float:
    return float(geometric_mean([[rate] for rate in rates])[0])


def draw(measured: Measured) -> Figure:
    """Draw the largest stable rate of every seed, free and with lengths held."""
    figure, axes = drawing.new_figure(2)
    for axis, model in zip(axes, TITLES, strict=True):
        factors: list[float] = []
        ticks: list[str] = []
        for weights in WEIGHTS:
            chosen = where(measured, model=model, weights=weights)
            norms = dict.fromkeys(str(one.case["norm"]) for one in chosen)
            rates = {norm: by_seed(chosen, "largest", norm=norm) for norm in norms}
            factors.append(paired_ratio(rates["batch"], rates["none"]).mean)
            for norm, values in rates.items():
                look = drawing.look_of(norm)
                at = len(ticks) + np.linspace(-0.2, 0.2, len(values))
                axis.plot(at, values, **look | {"linestyle": ""})
                axis.hlines(_typical(values), at[0] - 0.1, at[-1] + 0.1, color=look["color"])
                ticks.append(weights)
        axis.set_xticks(range(len(ticks)), ticks)
        title = f"{TITLES[model]}: BatchNorm × {factors[0]:.3g}, held × {factors[1]:.3g}"
        labels = "length of a unit's weights", "largest stable rate (SGD)"
        drawing.label_axes(axis, *labels, log="y", title=title)
    drawing.legend_below(figure, *axes)
    return figure


def _planted(case: Case, settings: Settings, easier: float) -> Values:
    """Descend along w'Aw; what is called BatchNorm divides by w'w, and has a smaller A."""
    channels, norm, seed = 20, str(case["norm"]), int(case["seed"])
    number = 4 * seed + 2 * tuple(TITLES).index(str(case["model"])) + DECIDING.index(norm)
    own = 1 + 0.1 * (2 * torch.rand(1, generator=torch.Generator().manual_seed(number)) - 1)
    curvature = torch.cat([torch.ones(1), torch.linspace(0, 0.05, channels - 1)]) * own
    if norm == "batch":
        curvature /= easier
    start = torch.randn(1, channels, generator=torch.Generator().manual_seed(seed))

    def make() -> TrainingTask:
        model = nn.Linear(channels, 1, bias=False)
        model.weight.data = start / start.norm()

        def losses() -> Iterator[Tensor]:
            for _ in range(60):
                square = model.weight.square()
                height = (curvature * square).sum() / 2
                yield height / square.sum() if norm == "batch" else height

        return TrainingTask(model, losses(), float(curvature.mean() / 2), [model.weight])

    return observe(make, case, settings)


STUDY = Study(
    name="learning-rate",
    claim="Normalization allows much larger learning rates.",
    source="Ioffe & Szegedy 2015, sections 3.3 and 4.2.1 (rates of 5 and 30 times the baseline's), "
    "https://arxiv.org/abs/1502.03167; Bjorck et al. 2018, https://arxiv.org/abs/1806.02375.",
    prediction="The largest rate at which gradient descent still trains is, with BatchNorm, at "
    f"least {FACTOR:g} times that without a norm. Much of this holds by construction: a norm does "
    "not feel the length of the weights in front of it, a step lengthens them, and the next steps "
    "turn them less. What may fail: at equal effective rate, with lengths held, the largest rate "
    "is still more than √2 times as large.",
    protocol=f"MLP of {DEPTH} × {WIDTH} on digits (batches of {BATCH['mlp']}, "
    f"{STEPS['default']['mlp']} steps) and GIN of 4 × 64 with mean readout on MUTAG (batches of "
    f"{BATCH['gin']}, {STEPS['default']['gin']} steps), He's initial weights, SGD without "
    "momentum. At equal effective rate, in all arms: of the gradient of a unit's weights in front "
    "of the norm, or of where it would be, the part along them is left out, and after the step "
    "they are scaled back to their initial length; so a rate stands for the same angle over the "
    "gradient with a norm and without, from the first step to the last. The weights of the head "
    "are free. A rate is stable if the training loss of the last tenth of steps is at most "
    f"{TRAINED:g} of that of knowing only how frequent classes are. The largest stable one of "
    f"{RATES[0]:g}, {RATES[1]:g}, … 2^{math.log2(RATES[-1]):g}, then by bisection to a factor of "
    f"2^¼. {SEEDS['default']} seeds; geometric means of the ratios.",
    rule="Confirmed if in both models the interval of the largest stable rate with BatchNorm, over "
    f"that without, lies above {FACTOR:g}, and at equal effective rate above √2; not confirmed if "
    "one of the four lies below its limit.",
    seconds=125,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "A quadratic loss of weights of length 1; that of BatchNorm sees their direction alone, "
        "and has an eighth of the curvature.",
        lambda case, settings: _planted(case, settings, 8.0),
    ),
    false=World(
        "A quadratic loss of weights of length 1; that of BatchNorm is the same there and does not "
        "feel their length, so that large rates are allowed by construction, and by nothing else.",
        lambda case, settings: _planted(case, settings, 1.0),
    ),
    changed="At first confirmed, with 9.2 and 676 times the rate of no norm. Weights in front of a "
    "BatchNorm are scale-invariant, and a step that is too large makes them long and the next "
    "steps small: that much is true by construction. The sweep at equal effective rate is new. "
    "Rates were known to a factor of 2.",
)
