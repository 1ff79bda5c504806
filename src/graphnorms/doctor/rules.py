"""The table of findings: what is looked for in the facts, why it matters, what to change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from graphnorms.doctor.facts import ModelFacts, NormFacts
from graphnorms.errors import unknown_name

Rank = Literal["error", "warning", "note"]
RANKS: Final[tuple[Rank, ...]] = ("error", "warning", "note")
"""The ranks of harm: what is computed is not what is meant; training or evaluation may suffer on
these data; waste, or harm under a condition that the text names."""

Numbers = Mapping[str, Any]


def require_rank(rank: str) -> None:
    """Refuse an unknown rank.

    Raises:
        ValueError: It is none of `RANKS`.
    """
    if rank not in RANKS:
        raise unknown_name("rank", rank, RANKS)


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
MOST_NEVER_POSITIVE: Final = 0.6
MOST_SMALL_WEIGHTS: Final = 0.1
LEAST_BETWEEN: Final = 0.3
LEAST_SCALES: Final = 0.5
LEAST_DEGREE: Final = 0.7
LEFT_OF_IT: Final = 0.1
LARGEST_HALF_ERROR: Final = 0.1
LEAST_SAVED: Final = 0.1
LEAST_ENTRIES: Final = 200_000


@dataclass(frozen=True)
class Rule:
    """A finding that a norm may have.

    Args:
        name: Its name, for programs and tests.
        rank: The rank of harm.
        evidence: Returns the numbers that show it, or `None`.
        says: The evidence in words; the numbers are filled in by name.
        why: Why it matters.
        change: What to change; `{where}` is a pattern of the names of the norms.
        sure: How sure it is, and of what.
        source: Where it is described.
    """

    name: str
    rank: Rank
    evidence: Callable[[NormFacts, ModelFacts], Numbers | None]
    says: str
    why: str
    change: str
    sure: str
    source: str = ""


def _batch_missing(f: NormFacts, m: ModelFacts) -> Numbers | None:
    wrong = f.takes_batch and f.rows_are == "nodes" and f.graphs_given + f.empty_graphs < f.graphs
    if not wrong or f.graphs < 2:
        return None
    return {"rows": f.rows, "graphs": f.graphs, "told": max(f.graphs_given, 1)}


def _behind_pooling(f: NormFacts, m: ModelFacts) -> Numbers | None:
    wrong = f.takes_batch and f.rows_are == "graphs" and f.graphs > 1
    return {"rows": f.rows} if wrong else None


def _wrong_axis(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return {"rows": f.rows, "channels": f.channels} if f.wrong_axis else None


def _padding(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return {"share": f.padding} if f.padding > LEAST_PADDING else None


def _not_finite(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return {"largest": f.largest} if not f.finite else None


def _zero_rows(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return {"share": f.zero_rows} if f.zero_rows_gradient is False else None


def _rotation(f: NormFacts, m: ModelFacts) -> Numbers | None:
    whole, without, own = m.rotation_error, m.unnormalized_rotation_error, f.rotation_error
    if whole is None or without is None or own is None:
        return None
    is_equivariant = without < max(LARGEST_ROTATION_ERROR, LEFT_OF_IT * whole)
    if min(whole, own) < LARGEST_ROTATION_ERROR or not is_equivariant:
        return None
    return {"whole": whole, "without": without, "own": own}


def _stale(f: NormFacts, m: ModelFacts) -> Numbers | None:
    if f.mean_gap is None or f.scale_gap is None or (f.steps or LEAST_STEPS) < LEAST_STEPS:
        return None
    if f.steps == 0 or (f.mean_gap < LARGEST_MEAN_GAP and f.scale_gap < LARGEST_SCALE_GAP):
        return None
    return {"mean": f.mean_gap, "scale": f.scale_gap, "change": f.eval_gap}


def _eval_on_batch(f: NormFacts, m: ModelFacts) -> Numbers | None:
    wrong = f.reach_in_eval == "batch" and not f.takes_batch and f.padding <= LEAST_PADDING
    return {"rows": f.rows, "graphs": f.graphs} if wrong else None


def _one_row(f: NormFacts, m: ModelFacts) -> Numbers | None:
    share, spread = f.one_row_graphs, f.one_row_spread
    wrong = share is not None and share >= LEAST_ONE_ROW and spread is not None and spread < 1e-3
    return {"share": share} if wrong else None


def _few_rows(f: NormFacts, m: ModelFacts) -> Numbers | None:
    rows = f.of_a_statistic
    if rows is None or f.takes_batch and f.reach == "batch":
        return None
    if f.reach == "graph" and (f.graphs > 1 or f.takes_batch):
        return {"rows": rows, "noise": 1 / rows} if rows < LEAST_ROWS_OF_GRAPH else None
    noise = 1 / rows if f.noise is None else f.noise
    return {"rows": rows, "noise": noise} if noise > 1 / LEAST_ROWS_OF_BATCH else None


def _dead(f: NormFacts, m: ModelFacts) -> Numbers | None:
    constant, never = f.constant or 0.0, f.never_positive or 0.0
    if f.rows < 2 or (constant < MOST_CONSTANT and never < MOST_NEVER_POSITIVE):
        return None
    if _behind_pooling(f, m) or (f.small_weights or 0.0) > constant / 2 > 0:
        return None
    return {"constant": constant, "before": f.constant_before or 0.0, "never": never}


def _small_weights(f: NormFacts, m: ModelFacts) -> Numbers | None:
    share = f.small_weights or 0.0
    return {"share": share} if share >= MOST_SMALL_WEIGHTS else None


def _lost_mean(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return _lost(f.between_before, f.between_after, LEAST_BETWEEN, f)


def _lost_scale(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return _lost(f.scale_before, f.scale_after, LEAST_SCALES, f)


def _lost_degree(f: NormFacts, m: ModelFacts) -> Numbers | None:
    before, after = f.degree_before, f.degree_after
    if before is None or after is None or before < LEAST_DEGREE or after > before / 2:
        return None
    return {"before": before, "after": after}


def _lost(before: float | None, after: float | None, least: float, f: NormFacts) -> Numbers | None:
    if before is None or after is None or f.takes_batch and f.reach == "batch":
        return None
    wrong = before >= least and after < LEFT_OF_IT * before
    return {"before": before, "after": max(after, 0.0)} if wrong else None


def _size(f: NormFacts, m: ModelFacts) -> Numbers | None:
    wrong = m.has_positions and f.size_error is not None and f.size_error > 0.01
    return {"change": f.size_error} if wrong else None


def _not_synchronized(f: NormFacts, m: ModelFacts) -> Numbers | None:
    wrong = m.ranks > 1 and f.synchronized is False and f.steps is not None
    return {"ranks": m.ranks, "rows": f.of_a_statistic} if wrong else None


def _half(f: NormFacts, m: ModelFacts) -> Numbers | None:
    short, brain = f.float16_error, f.bfloat16_error
    wrong = (short or 0.0) > LARGEST_HALF_ERROR or (brain or 0.0) > LARGEST_HALF_ERROR
    if not wrong:
        return None
    return {"largest": f.largest, "float16": short or 0.0, "bfloat16": brain or 0.0}


def _overflow(f: NormFacts, m: ModelFacts) -> Numbers | None:
    wrong = (f.own_error or 0.0) > LARGEST_HALF_ERROR
    return {"dtype": m.dtype, "error": f.own_error, "largest": f.largest} if wrong else None


def _idle_bias(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return {"biases": ", ".join(f.idle_biases)} if f.idle_biases else None


def _not_reached(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return {"batches": m.batches} if not f.calls else None


def _empty(f: NormFacts, m: ModelFacts) -> Numbers | None:
    return {"graphs": f.empty_graphs} if f.empty_graphs and f.reach == "graph" else None


def _slow(f: NormFacts, m: ModelFacts) -> Numbers | None:
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


def _blocks(f: NormFacts, m: ModelFacts) -> Numbers | None:
    refused = [
        f"{word}: {error}"
        for word, error in (("compile", f.compile_error), ("export", f.export_error))
        if error
    ]
    return {"errors": "; ".join(refused)} if refused else None


RULES: Final = (
    Rule(
        "batch-missing",
        "error",
        _batch_missing,
        "is told of {told} graph, but its {rows} rows are nodes of {graphs} graphs",
        "All graphs of a batch share one statistic: the result for a graph depends on which others "
        "are in the batch, in evaluation as well.",
        'pass the batch, norm(x, batch, batch_size), or graphnorms.replace_norms(model, "same"'
        "{where}), which passes it",
        "certain: the arguments of the call",
        "Cai et al. 2021, arXiv:2009.03294",
    ),
    Rule(
        "behind-pooling",
        "error",
        _behind_pooling,
        "normalizes each graph, but its {rows} rows are graphs",
        "A graph is a single row there: its statistics are those of one value, or of other graphs.",
        'use a norm of rows or of the batch: graphnorms.replace_norms(model, "layer"{where})',
        "certain: rows are counted",
    ),
    Rule(
        "wrong-axis",
        "error",
        _wrong_axis,
        "takes the rows for channels: {rows} rows of {channels} channels",
        "torch reads (channels, length) and (entries, channels, length): every node is normalized "
        "over its own channels, or every place in the order of nodes is a channel.",
        'graphnorms.replace_norms(model, "instance"{where}), or x.transpose(1, 2)',
        "certain: the shape of the input, as torch documents it",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm1d.html",
    ),
    Rule(
        "padding-counted",
        "error",
        _padding,
        "{share:.1%} of the rows that it counts are padding",
        "Rows of padding move mean and variance, by more the more sizes differ, so results depend "
        "on the largest graph of the batch.",
        "normalize the nodes alone, dense[mask] = norm(dense[mask]), or give our layers mask=",
        "certain: rows are counted",
    ),
    Rule(
        "not-finite",
        "error",
        _not_finite,
        "returns inf or nan for finite features of at most {largest:.3g}",
        "Every gradient behind it is nan.",
        'compute it in float32, or graphnorms.replace_norms(model, "same"{where}), whose statistics '
        "are float32",
        "certain: the results of these batches",
    ),
    Rule(
        "overflow",
        "error",
        _overflow,
        "results in {dtype} are off by {error:.0%} from those in float32, for features of up to "
        "{largest:.3g}",
        "Squares above 65504 overflow in float16, and x / inf is 0; a mean that is large against "
        "the spread leaves few of the 8 bits of bfloat16.",
        'graphnorms.replace_norms(model, "same"{where}), whose statistics are float32; scale the '
        "features in front of it",
        "certain: it was computed in both",
        "Micikevicius et al. 2018, arXiv:1710.03740",
    ),
    Rule(
        "zero-rows",
        "error",
        _zero_rows,
        "{share:.1%} of the rows are 0, and inf or nan comes of them",
        "Isolated atoms and vectors of length 0 make the gradient nan; it spreads to all weights.",
        "add eps under the root: x / (x.square().sum(-1, keepdim=True) + eps).sqrt()",
        "certain: results and gradients for these rows",
    ),
    Rule(
        "breaks-rotation",
        "error",
        _rotation,
        "a rotation changes the output by {own:.1%} if it is the only norm; {without:.2g} without "
        "norms",
        "The model is equivariant but for it: results depend on how a molecule lies in space.",
        "normalize scalars only, and vectors by their length (e3nn.nn.BatchNorm); leave it out: "
        'graphnorms.replace_norms(model, "none"{where})',
        "certain: one random rotation",
        "Geiger & Smidt 2022, arXiv:2207.09453",
    ),
    Rule(
        "stale-statistics",
        "warning",
        _stale,
        "its running mean is {mean:.2g} standard deviations from that of these data, its scale off "
        "by a factor of {scale:.2g}; evaluation changes results by {change:.0%}",
        "In evaluation it normalizes these data with statistics of others: of another scale, "
        "another split, or of weights that have changed since.",
        "graphnorms.recalibrate(model, loader), or scale the inputs as in training",
        "certain: if these are data as in training",
        "Li et al. 2016, arXiv:1603.04779",
    ),
    Rule(
        "eval-on-batch",
        "warning",
        _eval_on_batch,
        "uses statistics of the batch in evaluation: {rows} rows of {graphs} graphs",
        "A prediction depends on which graphs are predicted with it.",
        "track_running_stats=True, and train again; or a norm without statistics of the batch: "
        'graphnorms.replace_norms(model, "graph"{where})',
        "certain: one row was changed, and the results of other graphs changed",
        "Ioffe & Szegedy 2015, section 3.1, arXiv:1502.03167",
    ),
    Rule(
        "one-row-graphs",
        "warning",
        _one_row,
        "{share:.1%} of the graphs have one node, and all of these get the same result",
        "The mean of one value is the value: what the features of such a graph say is lost.",
        'graphnorms.replace_norms(model, "batch"{where}), or "layer"; GraphNorm with α < 1 keeps a '
        "share",
        "certain: the results for these graphs",
        "Ulyanov et al. 2016, arXiv:1607.08022",
    ),
    Rule(
        "few-rows",
        "warning",
        _few_rows,
        "{rows:.0f} rows share a statistic; its mean is as uncertain as {noise:.0%} of the variance",
        "The noise of such statistics is part of every result in training, and evaluation, which "
        "has other statistics or none of it, differs.",
        'larger batches, or graphnorms.replace_norms(model, "layer"{where})',
        "likely: noise of this size may also regularize",
        "Ioffe 2017, arXiv:1702.03275; Wu & He 2018, arXiv:1803.08494",
    ),
    Rule(
        "dead-channels",
        "warning",
        _dead,
        "{constant:.0%} of the channels are constant behind it ({before:.0%} in front of it), "
        "{never:.0%} are 0 behind the ReLU, for all rows",
        "Such channels carry nothing, and behind a ReLU get no gradient any more.",
        "look at the layer in front: its learning rate, its initial weights, its inputs; or "
        "nn.LeakyReLU",
        "certain: on these batches; others may reach them",
        "Lu et al. 2019, arXiv:1903.06733",
    ),
    Rule(
        "gamma-near-zero",
        "warning",
        _small_weights,
        "|γ| < 0.01 for {share:.0%} of the channels",
        "The layers in front of it hardly count, and get as small a gradient.",
        "no weight decay on γ (a group of the optimizer with weight_decay=0), or fewer channels",
        "certain: the values; an untrained γ of 0 that begins a residual branch is meant",
        "Goyal et al. 2017, section 5.1, arXiv:1706.02677",
    ),
    Rule(
        "lost-mean",
        "warning",
        _lost_mean,
        "graphs differ in their mean by {before:.0%} of the variance in front of it, by {after:.1%} "
        "behind it",
        "What distinguishes these graphs in front of it is removed; a mean readout sees nothing of "
        "it.",
        'graphnorms.replace_norms(model, "graph"{where}), whose α learns how much, or "batch"',
        "likely: whether the task needs it is not measured",
        "Cai et al. 2021, section 4.1, arXiv:2009.03294",
    ),
    Rule(
        "lost-scale",
        "warning",
        _lost_scale,
        "the sizes of graphs' features spread by {before:.2f} (standard deviation of the logarithm) "
        "in front of it, by {after:.2f} behind it",
        "Every graph has the same scale behind it: counts and magnitudes that distinguish graphs "
        "are gone.",
        'graphnorms.replace_norms(model, "batch"{where}), which keeps differences between graphs',
        "likely: whether the task needs it is not measured",
        "Cai et al. 2021, arXiv:2009.03294",
    ),
    Rule(
        "lost-degree",
        "warning",
        _lost_degree,
        "the features explain {before:.0%} of log(1 + degree) in front of it, {after:.0%} behind it",
        "A sum over neighbours counts them; a norm of each node divides that count out.",
        'graphnorms.replace_norms(model, "batch"{where}), or the degree as a feature',
        "likely: whether the task needs the degree is not measured",
        "Xu et al. 2019, arXiv:1810.00826",
    ),
    Rule(
        "not-size-consistent",
        "warning",
        _size,
        "a second molecule, however far, changes its results by {change:.1%}",
        "The energy of two molecules far apart is not the sum of their energies.",
        'a norm of each atom: graphnorms.replace_norms(model, "layer"{where})',
        "certain: graphs were joined in pairs; for predictions per atom only",
        "Unke et al. 2021, https://doi.org/10.1021/acs.chemrev.0c01111",
    ),
    Rule(
        "not-synchronized",
        "warning",
        _not_synchronized,
        "each of {ranks} ranks has statistics of its own {rows:.0f} rows",
        "Ranks train different functions, and keep the running statistics of one of them.",
        "graphnorms.convert_sync(model) before wrapping it",
        "certain: the norm; with many rows per rank it may not matter",
        "Peng et al. 2018, arXiv:1711.07240",
    ),
    Rule(
        "half-precision",
        "note",
        _half,
        "features of up to {largest:.3g}: in float16 the result is off by {float16:.0%}, in "
        "bfloat16 by {bfloat16:.0%}",
        "Squares above 65504 overflow in float16; a mean that is large against the spread leaves "
        "few of the 8 bits of bfloat16.",
        'train in float32, or graphnorms.replace_norms(model, "same"{where}), whose statistics are '
        "float32; scale the features in front of it",
        "certain: if it is called with features of that precision",
        "Micikevicius et al. 2018, arXiv:1710.03740",
    ),
    Rule(
        "idle-bias",
        "note",
        _idle_bias,
        "removes the bias of {biases}",
        "A shift of a channel is subtracted with its mean: the bias is stored and updated for "
        "nothing.",
        "bias=False in the layer in front of it",
        "certain: a shift of the channels changes no result",
        "Ioffe & Szegedy 2015, section 3.2, arXiv:1502.03167",
    ),
    Rule(
        "not-reached",
        "note",
        _not_reached,
        "is not called for {batches} batches",
        "Its parameters get no gradient, which DistributedDataParallel refuses, and statistics that "
        "it keeps stay as they are.",
        "call it, or delete it",
        "certain: on these batches",
    ),
    Rule(
        "empty-graphs",
        "note",
        _empty,
        "{graphs} graphs have no node",
        "They have no statistics; a mean readout gives 0 for them, or nan.",
        "leave them out: --drop-empty",
        "certain: graphs are counted",
    ),
    Rule(
        "slow",
        "note",
        _slow,
        "{milliseconds:.2f} ms forward and backward, {kept:.1f} MiB kept; our fused layer "
        "{fused:.2f} ms, {fused_kept:.1f} MiB",
        "The norm is a large part of the time of a step.",
        'graphnorms.replace_norms(model, "same"{where})',
        "likely: timed on this machine, with these batches",
    ),
    Rule(
        "blocks-compile",
        "note",
        _blocks,
        "{errors}",
        "torch.compile breaks the graph there, or torch.export fails; reading batch.max() does.",
        'pass batch_size as well, or graphnorms.replace_norms(model, "same"{where})',
        "certain: it was tried, on the norm alone",
    ),
)
"""In each rank the more harmful first."""
