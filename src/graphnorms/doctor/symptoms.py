"""What shows a finding: functions of the facts that return its numbers, or `None`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from graphnorms.doctor.facts import ModelFacts, NormFacts

Numbers = Mapping[str, Any]

# Thresholds. They were chosen on GIN and GCN models with every norm of the catalogue, on MUTAG,
# nci5k and PROTEINS, untrained and after an epoch; docs/inspect.md has the distances.
LEAST_PADDING: Final = 0.001
LARGEST_ROTATION_ERROR: Final = 1e-3
LARGEST_MEAN_GAP: Final = 1.0
LARGEST_SCALE_GAP: Final = 3.0
LEAST_STEPS: Final = 30
"""Steps before which running statistics are not judged: with momentum 0.1 the initial ones still
weigh 4% then."""
LEAST_ONE_ROW: Final = 0.01
LEAST_ROWS_OF_BATCH: Final = 16
LEAST_ROWS_OF_GRAPH: Final = 5
MOST_CONSTANT: Final = 0.25
MOST_NEVER_POSITIVE: Final = 0.9
MOST_SMALL_WEIGHTS: Final = 0.1
LEAST_BETWEEN: Final = 0.3
LEAST_SCALES: Final = 0.5
LEAST_DEGREE: Final = 0.7
LEFT_OF_IT: Final = 0.1
LARGEST_HALF_ERROR: Final = 0.1
LEAST_SAVED: Final = 0.1
LEAST_ENTRIES: Final = 200_000


def batch_missing(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """The batch does not reach a norm of graphs, or another one does."""
    wrong = f.takes_batch and f.rows_are == "nodes" and f.graphs_given + f.empty_graphs < f.graphs
    if not wrong or f.graphs < 2:
        return None
    told = "one graph" if f.graphs_given < 2 else f"{f.graphs_given} graphs"
    return {"rows": f.rows, "graphs": f.graphs, "told": told}


def behind_pooling(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """A norm of graphs is behind the pooling."""
    wrong = f.takes_batch and f.rows_are == "graphs" and f.graphs > 1
    return {"rows": f.rows} if wrong else None


def wrong_axis(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Rows are taken for channels."""
    return {"rows": f.rows, "channels": f.channels} if f.wrong_axis else None


def padding(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Padding is counted."""
    return {"share": f.padding} if f.padding > LEAST_PADDING else None


def not_finite(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Results are not finite."""
    return {"largest": f.largest} if not f.finite else None


def zero_rows(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Zero rows have results or gradients that are not finite."""
    return {"share": f.zero_rows} if f.zero_rows_gradient is False else None


def rotation(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """The norm breaks the symmetry under rotations of a model that has it without norms."""
    whole, without, own = m.rotation_error, m.unnormalized_rotation_error, f.rotation_error
    if whole is None or without is None or own is None:
        return None
    is_equivariant = without < max(LARGEST_ROTATION_ERROR, LEFT_OF_IT * whole)
    if min(whole, own) < LARGEST_ROTATION_ERROR or not is_equivariant:
        return None
    return {"whole": whole, "without": without, "own": own}


def stale(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Running statistics are not those of the data."""
    if f.mean_gap is None or f.scale_gap is None or (f.steps or LEAST_STEPS) < LEAST_STEPS:
        return None
    if f.steps == 0 or (f.mean_gap < LARGEST_MEAN_GAP and f.scale_gap < LARGEST_SCALE_GAP):
        return None
    return {"mean": f.mean_gap, "scale": f.scale_gap, "change": f.eval_gap}


def eval_on_batch(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Evaluation uses statistics of the batch."""
    wrong = f.reach_in_eval == "batch" and not f.takes_batch and f.padding <= LEAST_PADDING
    return {"rows": f.rows, "graphs": f.graphs} if wrong else None


def one_row(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Graphs of one row lose their features."""
    share, spread = f.one_row_graphs, f.one_row_spread
    wrong = share is not None and share >= LEAST_ONE_ROW and spread is not None and spread < 1e-3
    return {"share": share} if wrong else None


def few_rows(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Statistics are of few rows, or as noisy."""
    rows = f.of_a_statistic
    if rows is None or (f.takes_batch and f.reach == "batch"):
        return None
    if f.reach == "graph" and (f.graphs > 1 or f.takes_batch):
        return {"rows": rows, "noise": 1 / rows} if rows < LEAST_ROWS_OF_GRAPH else None
    noise = 1 / rows if f.noise is None else f.noise
    return {"rows": rows, "noise": noise} if noise > 1 / LEAST_ROWS_OF_BATCH else None


def dead(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Channels are constant in front of it already, or 0 behind a ReLU."""
    constant, never = f.constant_before or 0.0, f.never_positive or 0.0
    if f.rows < 2 or not f.largest or (constant < MOST_CONSTANT and never < MOST_NEVER_POSITIVE):
        return None
    return (
        None if flattened(f, m) or _is_explained(f, m) else {"constant": constant, "never": never}
    )


def flattened(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Channels that vary in front of it are constant behind it."""
    made = (f.constant or 0.0) - (f.constant_before or 0.0)
    if f.rows < 2 or made - (f.small_weights or 0.0) < MOST_CONSTANT or _is_explained(f, m):
        return None
    return {"share": made}


def _is_explained(f: NormFacts, m: ModelFacts) -> bool:
    """Whether another finding says why channels are constant."""
    return behind_pooling(f, m) is not None or overflow(f, m) is not None


def small_weights(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Weights are near zero."""
    share = f.small_weights or 0.0
    return {"share": share} if share >= MOST_SMALL_WEIGHTS else None


def lost_mean(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """The means of graphs are removed."""
    if f.learns_shift:  # it keeps a share of the mean, once trained
        return None
    return _lost(f.between_before, f.between_after, LEAST_BETWEEN, f)


def lost_scale(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """The scales of graphs are removed."""
    return _lost(f.scale_before, f.scale_after, LEAST_SCALES, f)


def lost_degree(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """The degree is removed."""
    return _lost(f.degree_before, f.degree_after, LEAST_DEGREE, f)


def _lost(before: float | None, after: float | None, least: float, f: NormFacts) -> Numbers | None:
    if before is None or after is None or (f.takes_batch and f.reach == "batch"):
        return None
    if (f.constant or 0.0) - (f.constant_before or 0.0) >= MOST_CONSTANT:  # see `flattened`
        return None
    wrong = before >= least and after < LEFT_OF_IT * before
    return {"before": before, "after": max(after, 0.0)} if wrong else None


def size(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Energies of separate molecules do not add."""
    wrong = m.has_positions and f.size_error is not None and f.size_error > 0.01
    return {"change": f.size_error} if wrong else None


def not_synchronized(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Ranks have statistics of their own."""
    wrong = m.ranks > 1 and f.synchronized is False and f.steps is not None
    return {"ranks": m.ranks, "rows": f.of_a_statistic} if wrong else None


def half(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Half precision does not suffice, if it is used."""
    errors = {"float16": f.float16_error or 0.0, "bfloat16": f.bfloat16_error or 0.0}
    if max(errors.values()) < LARGEST_HALF_ERROR:
        return None
    words = (
        f"in {name} results are {'inf or nan' if error == math.inf else f'off by {error:.0%}'}"
        for name, error in errors.items()
        if error >= LARGEST_HALF_ERROR
    )
    return {"largest": f.largest, **errors, "words": ", ".join(words)}


def overflow(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Half precision does not suffice, and is used."""
    wrong = (f.own_error or 0.0) > LARGEST_HALF_ERROR
    return {"dtype": m.dtype, "error": f.own_error, "largest": f.largest} if wrong else None


def idle_bias(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """A bias in front of it is removed."""
    return {"biases": ", ".join(f.idle_biases)} if f.idle_biases else None


def not_reached(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """It is not called."""
    return {"batches": m.batches} if not f.calls else None


def only_zeros(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """It is given zeros only."""
    return {"batches": m.batches} if f.largest == 0 else None


def empty(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Graphs have no rows."""
    return {"graphs": f.empty_graphs} if f.empty_graphs and f.reach == "graph" else None


def slow(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """Our fused layer would save a part of the step."""
    if f.seconds is None or f.fused_seconds is None or not m.seconds:
        return None
    saved = f.calls * (f.seconds - f.fused_seconds) / m.seconds
    if saved < LEAST_SAVED or f.rows * (f.channels or 1) < LEAST_ENTRIES:
        return None
    return {
        "milliseconds": 1e3 * f.seconds,
        "fused": 1e3 * f.fused_seconds,
        "kept": (f.kept_bytes or 0) / 2**20,
        "fused_kept": (f.fused_kept_bytes or 0) / 2**20,
    }


def blocks(f: NormFacts, m: ModelFacts) -> Numbers | None:
    """It cannot be compiled or exported."""
    refused = [
        f"{word}: {error}"
        for word, error in (("compile", f.compile_error), ("export", f.export_error))
        if error
    ]
    return {"errors": "; ".join(refused)} if refused else None
