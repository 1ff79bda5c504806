"""Pairs of norms with the intervals of their differences, and average ranks over data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphnorms.lab.paired_tests import PairedTest, shown_pairs
from graphnorms.report import labels, vega
from graphnorms.report.chart import Figure, Panel, Spec
from graphnorms.report.style import DASHES, NEUTRAL, display_name

if TYPE_CHECKING:
    from graphnorms.lab.across_datasets import AcrossDatasets
    from graphnorms.lab.verdict import Verdict


def pairwise(verdict: Verdict) -> Figure:
    """Draw paired differences in score, and ratios of the steps to the target, with intervals."""
    scale = verdict.scale
    title = scale.metric.title
    limits = ((verdict.detectable_after, 0.1), (verdict.margin, 0.16))
    bands = [vega.band(scale.factor * limit, opacity) for limit, opacity in limits if limit]
    label = labels.axis(f"Difference in {title}", scale.difference_unit, scale)
    tests = shown_pairs(verdict.differences, verdict.best)
    form = labels.form(scale, signed=True)
    layers = [
        *bands,
        vega.vertical(0, DASHES["dashed"]),
        _forest(tests, "−", scale.factor, x=vega.quantity("x", label), form=form),
    ]
    words = f"Differences in {title} of all pairs, with 95% intervals"
    panels = [vega.row_panel("pairwise_score", words, layers, len(tests))]
    if verdict.speed_differences:
        tests = shown_pairs(verdict.speed_ratios, verdict.best)
        x = vega.quantity("x", "Ratio of the steps to the target (log)", **vega.LOG)
        layers = [vega.vertical(1, DASHES["dashed"]), _forest(tests, ":", 1.0, x=x, form=".2f")]
        words = "Ratios of the steps to the target of all pairs, with 95% intervals"
        panels.append(vega.row_panel("pairwise_speed", words, layers, len(tests)))
    return Figure(name="pairwise", panels=tuple(panels))


def _forest(
    tests: Sequence[PairedTest], between: str, factor: float, *, x: Spec, form: str
) -> Spec:
    """Draw one interval per pair, filled if the two are told apart."""
    names, rows = {}, []
    for place, test in enumerate(tests):
        first, second = display_name(test.first), display_name(test.second)
        names[str(place)] = f"{first} {between}\n{second}"
        ends = vega.ends(labels.shown_interval(test), factor)
        low, high = ends["low"], ends["high"]
        interval = "" if low is None else f"{low:{form}} to {high:{form}}".replace("-", "−")
        rows.append(
            {
                "row": str(place),
                "norm": test.first,
                "other": test.second,
                **ends,
                "interval": interval,
                "apart": test.told_apart,
                "p": "not judged" if test.adjusted_p is None else f"{test.adjusted_p:.3g}",
                "odds": _odds(test),
                "pairs": test.pairs,
            }
        )
    norms = dict.fromkeys(norm for test in tests for norm in (test.first, test.second))
    tooltip = [
        vega.told("pair", "pair"),
        vega.told("x", "mean", form),
        vega.told("interval", "95%"),
        vega.told("p", "p (adjusted)"),
        vega.told("odds", "better, equal, worse"),
        vega.told("pairs", "pairs"),
    ]
    mark: Spec = {"type": "point", "size": 90, "strokeWidth": 2, "opacity": 1}
    filled, hollow = (
        {"transform": [{"filter": test}], "mark": mark | fill, "encoding": {"tooltip": tooltip}}
        for test, fill in (
            ("datum.apart", {"filled": True}),
            ("!datum.apart", {"filled": False, "fill": "transparent"}),
        )
    )
    layer = vega.rows_of(rows, names, vega.MEANS[0], filled, hollow, x=x, norms=list(norms))
    layer["transform"].append(
        {"calculate": f"replace({vega.named(names, 'datum.row')}, '\\n', ' ')", "as": "pair"}
    )
    return layer


def _odds(test: PairedTest) -> str:
    odds = test.probabilities
    if odds is None:
        return "–"
    return ", ".join(f"{value:.0%}" for value in (odds.first, odds.equal, odds.second))


def critical_difference(across: AcrossDatasets) -> Figure:
    """Draw average ranks, best first, and below bars that join the norms that are tied.

    A bar joins norms whose average ranks differ by less than Nemenyi's critical difference, whose
    length stands at the top.

    Source: Demšar, Journal of Machine Learning Research 7, 2006, figure 1, here with one row per
    norm.
    """
    ranks = across.ranks
    length = f"critical difference {across.critical_difference:.2f}"
    names = {"": length}
    names |= {norm: f"{display_name(norm)}  {rank:.2f}" for norm, rank in ranks.items()}
    bars: list[Spec] = [
        {"row": "", "low": 1, "high": 1 + min(across.critical_difference, len(ranks) - 1)}
    ]
    for place, group in enumerate(across.groups):
        names[f"tied {place}"] = "not told apart"
        bars.append({"row": f"tied {place}", "low": ranks[group[0]], "high": ranks[group[-1]]})
    points = [{"row": norm, "norm": norm, "rank": rank} for norm, rank in ranks.items()]
    y = vega.row_axis(names)
    x = vega.quantity("rank", "Average rank")
    x["axis"] = {"values": list(range(1, len(ranks) + 1)), "format": "d", "orient": "top"}
    x["scale"] |= {"domain": [1, len(ranks)], "padding": 12, "nice": False}
    spec = {
        "height": 30 * len(names),
        "layer": [
            {
                "data": {"values": bars},
                "mark": {"type": "bar", "height": 5, "color": NEUTRAL},
                "encoding": {"y": y, "x": x | {"field": "low"}, "x2": {"field": "high"}},
            },
            {
                "data": {"values": points},
                "transform": [vega.SHOWN],
                "mark": {"type": "point", "filled": True, "opacity": 1, "size": 110},
                "encoding": {
                    "y": y,
                    "x": x,
                    "color": vega.color(ranks),
                    "shape": vega.shape(ranks),
                    "tooltip": [vega.told("row", "norm"), vega.told("rank", "average rank", ".2f")],
                },
            },
        ],
    }
    listed = ", ".join(f"{display_name(norm)} {rank:.2f}" for norm, rank in ranks.items())
    words = f"Average ranks: {listed}; {length}"
    return Figure(
        name="critical_difference",
        panels=(Panel(name="critical_difference", words=words, spec=spec),),
    )
