"""The figures of a reproduced paper, drawn in the style of the studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.report.style import display_name
from graphnorms.reproduce.published_values import SCRIPT
from graphnorms.reproduce.reproduction_tables import SELECTIONS
from graphnorms.studies import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from graphnorms.reproduce.outcome import Outcome
    from graphnorms.studies.study import Figure

_MARKED = {"paper": ("o", 0.0), "split": ("o", 0.0), SCRIPT: ("^", 0.15), "nested": ("D", 0.3)}
"""Marker and place of the protocols."""

_POINTS = 100  # of a curve


def scores(outcome: Outcome) -> Figure:
    """Draw published and trained means, a panel for each data set and model.

    A line is one standard deviation to each side, as the papers give it.
    """
    rows = outcome.rows
    places = list(dict.fromkeys((row.model, row.dataset) for row in rows))
    figure, axes = _panels(len(places))
    for axis, (model, dataset) in zip(axes, places, strict=True):
        here = [row for row in rows if (row.model, row.dataset) == (model, dataset)]
        norms = [norm for norm in outcome.paper.norms if any(row.norm == norm for row in here)]
        for row in here:
            at, color = norms.index(row.norm), drawing.look_of(row.norm)["color"]
            if row.published is not None:
                label = "published"
                mean, std = row.published.mean, row.published.std
                axis.errorbar(
                    mean, at - 0.25, xerr=std, fmt="s", mfc="white", color="#555555", label=label
                )
            for protocol, found in row.trained.items():
                marker, shift = _MARKED[protocol]
                axis.errorbar(
                    found.mean,
                    at + shift,
                    xerr=found.std,
                    fmt=marker,
                    color=color,
                    label=SELECTIONS[protocol],
                )
        axis.set_yticks(range(len(norms)), [display_name(norm) for norm in norms])
        axis.set_ylim(len(norms) - 0.5, -0.5)
        drawing.label_axes(axis, "score", "", x_unit="%", title=f"{model.upper()} on {dataset}")
    drawing.legend_below(figure, *axes)
    return figure


def convergence(outcome: Outcome) -> Figure | None:
    """Draw the training accuracy by epoch with each norm, as figure 5 of Cai et al. does."""
    found = outcome.by_the_paper
    if not found:
        return None
    figure, axes = _panels(len(found))
    for axis, (cell, comparison) in zip(axes, found, strict=True):
        for norm, of_norm in comparison.trials.items():
            curves = 100 * of_norm.curves("train_score")
            if not curves.size:
                continue
            kept = _kept(curves.shape[1])
            band = drawing.mean_band(curves[:, kept])
            how: dict[str, Any] = drawing.look_of(norm) | {"linewidth": 1}
            drawing.line_with_band(axis, (kept + 1).tolist(), band, **how)
        title = f"{cell.model.upper()} on {cell.dataset}"
        drawing.label_axes(axis, "epoch", "training accuracy", y_unit="%", title=title)
    drawing.legend_below(figure, *axes)
    return figure


def ablation(outcome: Outcome) -> Figure | None:
    """Draw how far GraphNorm is ahead of InstanceNorm in training accuracy, fold by fold.

    GraphNorm with α = 1 is InstanceNorm with another ε: figure 6 of Cai et al.
    """
    norm, other = "graph", "instance"
    found = [
        (cell, comparison)
        for cell, comparison in outcome.by_the_paper
        if all(comparison.trials[each].done for each in (norm, other))
    ]
    if not found:
        return None
    figure, axes = _panels(len(found))
    for axis, (cell, comparison) in zip(axes, found, strict=True):
        first, second = (comparison.trials[each].done for each in (norm, other))
        folds = sorted(first.keys() & second.keys())
        title = f"{cell.model.upper()} on {cell.dataset}"
        if folds:
            curves = [
                [100 * np.array(of[fold].history["train_score"], dtype=float) for fold in folds]
                for of in (first, second)
            ]
            ahead = np.array(curves[0]) - np.array(curves[1])  # (folds, epochs)
            kept = _kept(ahead.shape[1])
            band = drawing.mean_band(ahead[:, kept])
            look = {"color": drawing.look_of(norm)["color"]}
            drawing.line_with_band(axis, (kept + 1).tolist(), band, **look)
            title += f": {ahead.mean():+.1f} points"
        drawing.mark_level(axis, 0)
        label = f"{display_name(norm)} ahead"
        drawing.label_axes(axis, "epoch", label, y_unit="points", title=title)
    return figure


FIGURES: Final[Mapping[str, tuple[Callable[[Outcome], Figure | None], str]]] = {
    "scores": (
        scores,
        "Published means and those trained here, with one standard deviation to each side.",
    ),
    "convergence": (
        convergence,
        "Training accuracy by epoch, mean over folds with its interval (figure 5 of the paper, "
        "which gives curves and no numbers).",
    ),
    "ablation": (
        ablation,
        "GraphNorm less InstanceNorm in training accuracy: the effect of a learned α, and of ε, "
        "1e-6 against 1e-5 (figure 6 of the paper, curves without numbers).",
    ),
}
"""What draws a figure, None where there is nothing to draw, and its caption."""


def _panels(number: int) -> tuple[Figure, list[Axes]]:
    size = (3.2, 2.5) if number > 1 else (7.0, 3.2)
    return drawing.new_figure(number, columns=min(3, number), size=size)


def _kept(epochs: int) -> NDArray[np.int64]:
    """Return the epochs that a curve is drawn at, from 0: the first, the last, and some between."""
    places = np.linspace(0, epochs - 1, min(epochs, _POINTS)).round()
    return np.unique(places.astype(np.int64))
