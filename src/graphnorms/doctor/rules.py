"""The table of findings: what is looked for in the facts, why it matters, what to change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from graphnorms.doctor import symptoms
from graphnorms.doctor.facts import ModelFacts, NormFacts
from graphnorms.doctor.symptoms import Numbers
from graphnorms.errors import unknown_name

Rank = Literal["error", "warning", "note"]
RANKS: Final[tuple[Rank, ...]] = ("error", "warning", "note")
"""The ranks of harm: what is computed is not what is meant; training or evaluation may suffer on
these data; waste, or harm under a condition that the text names."""


def require_rank(rank: str) -> None:
    """Refuse an unknown rank.

    Raises:
        ValueError: It is none of `RANKS`.
    """
    if rank not in RANKS:
        raise unknown_name("rank", rank, RANKS)


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


RULES: Final = (
    Rule(
        "batch-missing",
        "error",
        symptoms.batch_missing,
        "normalizes {rows} nodes of {graphs} graphs as {told}",
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
        symptoms.behind_pooling,
        "normalizes each graph, but its {rows} rows are graphs",
        "A graph is a single row there: its statistics are those of one value, or of other graphs.",
        'use a norm of rows or of the batch: graphnorms.replace_norms(model, "layer"{where})',
        "certain: rows are counted",
    ),
    Rule(
        "wrong-axis",
        "error",
        symptoms.wrong_axis,
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
        symptoms.padding,
        "counts padding: {share:.1%} of its rows",
        "Rows of padding move mean and variance, by more the more sizes differ, so results depend "
        "on the largest graph of the batch.",
        "normalize the nodes alone, dense[mask] = norm(dense[mask]), or give our layers mask=",
        "certain: rows are counted",
    ),
    Rule(
        "not-finite",
        "error",
        symptoms.not_finite,
        "returns inf or nan for finite features of at most {largest:.3g}",
        "Every gradient behind it is nan.",
        "add eps to what it divides by; compute it in float32",
        "certain: the results of these batches",
    ),
    Rule(
        "overflow",
        "error",
        symptoms.overflow,
        "is off by {error:.0%} in {dtype}, against float32, for features of up to {largest:.3g}",
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
        symptoms.zero_rows,
        "gives inf or nan, or such gradients, for rows of zeros: {share:.1%} of its rows",
        "Isolated atoms and vectors of length 0 make the gradient nan; it spreads to all weights.",
        "add eps under the root: x / (x.square().sum(-1, keepdim=True) + eps).sqrt()",
        "certain: results and gradients for these rows",
    ),
    Rule(
        "breaks-rotation",
        "error",
        symptoms.rotation,
        "changes the output by {own:.1%} under a rotation if it is the only norm; without norms "
        "that is {without:.1g}",
        "The model is equivariant but for it: results depend on how a molecule lies in space.",
        "normalize scalars only, and vectors by their length (e3nn.nn.BatchNorm); leave it out: "
        'graphnorms.replace_norms(model, "none"{where})',
        "certain: one random rotation",
        "Geiger & Smidt 2022, arXiv:2207.09453",
    ),
    Rule(
        "stale-statistics",
        "warning",
        symptoms.stale,
        "has a running mean {mean:.2g} standard deviations from that of these data, and a scale "
        "off by a factor of {scale:.2g}; evaluation changes its results by {change:.0%}",
        "In evaluation it normalizes these data with statistics of others: of another scale, "
        "another split, or of weights that have changed since.",
        "graphnorms.recalibrate(model, loader), or scale the inputs as in training",
        "certain: if these are data as in training",
        "Li et al. 2016, arXiv:1603.04779",
    ),
    Rule(
        "eval-on-batch",
        "warning",
        symptoms.eval_on_batch,
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
        symptoms.one_row,
        "gives the same result for all graphs of one node, {share:.1%} of the graphs",
        "The mean of one value is the value: what the features of such a graph say is lost.",
        'graphnorms.replace_norms(model, "batch"{where}), or "layer"; GraphNorm with α < 1 keeps a '
        "share",
        "certain: the results for these graphs",
        "Ulyanov et al. 2016, arXiv:1607.08022",
    ),
    Rule(
        "few-rows",
        "warning",
        symptoms.few_rows,
        "has {rows:.0f} rows for a statistic: the variance of the mean is {noise:.0%} of that of "
        "the features",
        "The noise of such statistics is part of every result in training, and evaluation, which "
        "has other statistics or none of it, differs.",
        'larger batches, or graphnorms.replace_norms(model, "layer"{where})',
        "likely: noise of this size may also regularize",
        "Ioffe 2017, arXiv:1702.03275; Wu & He 2018, arXiv:1803.08494",
    ),
    Rule(
        "flattened",
        "warning",
        symptoms.flattened,
        "makes {share:.0%} of the channels constant, which vary in front of it",
        "All that these channels say is in the statistic that is removed: nodes of a graph are "
        "alike there, or differ in scale only.",
        'graphnorms.replace_norms(model, "batch"{where}), or features that differ within a graph',
        "certain: on these batches",
        "Cai et al. 2021, section 4.1, arXiv:2009.03294",
    ),
    Rule(
        "dead-channels",
        "warning",
        symptoms.dead,
        "gets {constant:.0%} of the channels constant, and the ReLU behind it makes {never:.0%} of "
        "them 0, for all rows",
        "Such channels carry nothing, and behind a ReLU get no gradient any more.",
        "look at the layer in front: its learning rate, its initial weights, its inputs; or "
        "nn.LeakyReLU",
        "certain: on these batches; others may reach them",
        "Lu et al. 2019, arXiv:1903.06733",
    ),
    Rule(
        "gamma-near-zero",
        "warning",
        symptoms.small_weights,
        "has |γ| < 0.01 for {share:.0%} of the channels",
        "The layers in front of it hardly count, and get as small a gradient.",
        "no weight decay on γ (a group of the optimizer with weight_decay=0), or fewer channels",
        "certain: the values; an untrained γ of 0 that begins a residual branch is meant",
        "Goyal et al. 2017, section 5.1, arXiv:1706.02677",
    ),
    Rule(
        "lost-mean",
        "warning",
        symptoms.lost_mean,
        "leaves {after:.1%} of the variance between the means of graphs; in front of it that is "
        "{before:.0%}",
        "What distinguishes these graphs in front of it is removed; a mean readout sees nothing of "
        "it.",
        'graphnorms.replace_norms(model, "graph"{where}), whose α learns how much, or "batch"',
        "likely: whether the task needs it is not measured",
        "Cai et al. 2021, section 4.1, arXiv:2009.03294",
    ),
    Rule(
        "lost-scale",
        "warning",
        symptoms.lost_scale,
        "leaves the log of a graph's RMS a standard deviation of {after:.2f}; in front of it that "
        "is {before:.2f}",
        "Every graph has the same scale behind it: counts and magnitudes that distinguish graphs "
        "are gone.",
        'graphnorms.replace_norms(model, "batch"{where}), which keeps differences between graphs',
        "likely: whether the task needs it is not measured",
        "Cai et al. 2021, arXiv:2009.03294",
    ),
    Rule(
        "lost-degree",
        "warning",
        symptoms.lost_degree,
        "leaves features that explain {after:.0%} of log(1 + degree); in front of it {before:.0%}",
        "A sum over neighbours counts them; a norm of each node divides that count out.",
        'graphnorms.replace_norms(model, "batch"{where}), or the degree as a feature',
        "likely: whether the task needs the degree is not measured",
        "Xu et al. 2019, arXiv:1810.00826",
    ),
    Rule(
        "not-size-consistent",
        "warning",
        symptoms.size,
        "changes its results for a molecule by {change:.1%} if there is another one, however far",
        "The energy of two molecules far apart is not the sum of their energies.",
        'a norm of each atom: graphnorms.replace_norms(model, "layer"{where})',
        "certain: graphs were joined in pairs; for predictions per atom only",
        "Unke et al. 2021, https://doi.org/10.1021/acs.chemrev.0c01111",
    ),
    Rule(
        "not-synchronized",
        "warning",
        symptoms.not_synchronized,
        "has other statistics on each of {ranks} ranks, of {rows:.0f} rows",
        "Ranks train different functions, and keep the running statistics of one of them.",
        "graphnorms.convert_sync(model) before wrapping it",
        "certain: the norm; with many rows per rank it may not matter",
        "Peng et al. 2018, arXiv:1711.07240",
    ),
    Rule(
        "half-precision",
        "note",
        symptoms.half,
        "gets features of up to {largest:.3g}: {words}",
        "Squares above 65504 overflow in float16, and an eps below 3e-8 is 0; a mean that is large "
        "against the spread leaves few of the 8 bits of bfloat16.",
        'train in float32, or graphnorms.replace_norms(model, "same"{where}), whose statistics are '
        "float32; scale the features in front of it",
        "certain: if it is called with features of that precision",
        "Micikevicius et al. 2018, arXiv:1710.03740",
    ),
    Rule(
        "idle-bias",
        "note",
        symptoms.idle_bias,
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
        symptoms.not_reached,
        "is not called for {batches} batches",
        "Its parameters get no gradient, which DistributedDataParallel refuses, and its running "
        "statistics stay as they are.",
        "call it, or delete it",
        "certain: on these batches",
    ),
    Rule(
        "only-zeros",
        "note",
        symptoms.only_zeros,
        "is given nothing but zeros, for {batches} batches",
        "It has no effect; some models begin so, by design.",
        "leave it out, if it is in the first layer of such a model",
        "certain: on these batches",
    ),
    Rule(
        "empty-graphs",
        "note",
        symptoms.empty,
        "gets {graphs} graphs without a node",
        "They have no statistics; a mean readout gives 0 for them, or nan.",
        "leave them out: --drop-empty",
        "certain: graphs are counted",
    ),
    Rule(
        "slow",
        "note",
        symptoms.slow,
        "takes {milliseconds:.2f} ms forward and backward, {kept:.1f} MiB kept; our fused layer "
        "{fused:.2f} ms, {fused_kept:.1f} MiB",
        "The norm is a large part of the time of a step.",
        'graphnorms.replace_norms(model, "same"{where})',
        "likely: timed on this machine, with these batches",
    ),
    Rule(
        "blocks-compile",
        "note",
        symptoms.blocks,
        "does not pass {errors}",
        "torch.compile breaks the graph there, or torch.export fails; reading batch.max() does.",
        'pass batch_size as well, or graphnorms.replace_norms(model, "same"{where})',
        "certain: it was tried, on the norm alone",
    ),
)
"""In each rank the more harmful first."""
