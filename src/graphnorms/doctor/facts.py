"""The facts about the norms of a model, as numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class NormFacts:
    """What was measured of one norm; `None` where that is not defined or not known.

    Args:
        name: Its qualified name.
        layer: Its class.
        library: `"torch"`, `"PyG"`, `"graphnorms"`, or the package of an unknown norm.
        kind: The catalogue name of the normalization; empty for an unknown norm.
        channels: Its number of channels.
        calls: How often the model calls it per batch.
        rows_are: What its rows are, see `graphnorms.doctor.walk.Call`.
        rows: Its rows, median over the batches.
        graphs: Graphs of a batch, median.
        takes_batch: Whether its statistics are those of graphs, which it has to be told.
        graphs_given: The number of graphs that it is told; 0 if it is told none.
        reach: Which results change in training if one row is changed: of this row alone
            (`"row"`), of its graph (`"graph"`), or of other graphs too (`"batch"`).
        reach_in_eval: The same in evaluation.
        of_a_statistic: Rows behind one statistic, median over graphs or batches.
        one_row_graphs: Share of graphs with one row.
        one_row_spread: Spread of the results for these graphs, relative to that of all results.
        empty_graphs: Number of graphs without a row.
        padding: Share of rows that are padding and counted.
        wrong_axis: Whether it takes another dimension than the last one for the channels.
        noise: Variance of the mean of a batch relative to the variance of entries, median over the
            channels; 1/n for n independent rows.
        steps: Training steps behind the running statistics; `None` without any.
        mean_gap: |running mean − mean| in standard deviations, RMS over the channels.
        scale_gap: Ratio of the running standard deviation and that of the batches, or its inverse,
            geometric mean over the channels.
        eval_gap: RMS of the difference between the results in training and evaluation for the same
            rows, relative to that in training.
        constant: Share of channels that are constant behind it.
        constant_before: Share of channels that are constant in front of it.
        never_positive: Share of channels that a ReLU behind it makes 0 for all rows.
        small_weights: Share of channels with |γ| < 0.01.
        between_before, between_after: Share of the variance that is between the means of graphs.
        scale_before, scale_after: Spread of the sizes of graphs' features: the standard deviation
            of the logarithm of their RMS.
        degree_before, degree_after: R² of log(1 + degree) as a linear function of the features, on
            held-out nodes.
        size_error: Change of the results of a graph if another one is put beside it as a part of
            the same graph, relative to their RMS.
        zero_rows: Share of rows that are 0.
        zero_rows_gradient: Whether such rows have finite results and gradients.
        finite: Whether its results are finite for finite inputs.
        largest: Largest magnitude in front of it.
        float16_error, bfloat16_error: RMS of the error of the results in this precision, relative
            to their RMS; infinite if they overflow.
        own_error: The same of the precision that it is called with, if that is one of these two.
        rotation_error: Change of the model's output under a rotation if this is its only norm,
            relative to the RMS of the output.
        synchronized: Whether ranks share its statistics over the batch; `None` if it has none.
        learns_shift: Whether it learns how much of the mean it subtracts.
        idle_biases: Names of modules in front of it whose bias it removes.
        seconds, fused_seconds: Time of forward and backward, of it and of our fused layer.
        kept_bytes, fused_kept_bytes: Bytes kept for the backward.
        compile_error, export_error: Why it does not compile in one graph, or export; empty if it
            does; `None` if it was not tried.
    """

    name: str
    layer: str
    library: str
    kind: str = ""
    channels: int | None = None
    calls: float = 0
    rows_are: str = ""
    rows: int = 0
    graphs: int = 0
    takes_batch: bool = False
    graphs_given: int = 0
    reach: str = ""
    reach_in_eval: str = ""
    of_a_statistic: float | None = None
    one_row_graphs: float | None = None
    one_row_spread: float | None = None
    empty_graphs: int = 0
    padding: float = 0.0
    wrong_axis: bool = False
    noise: float | None = None
    steps: int | None = None
    mean_gap: float | None = None
    scale_gap: float | None = None
    eval_gap: float | None = None
    constant: float | None = None
    constant_before: float | None = None
    never_positive: float | None = None
    small_weights: float | None = None
    between_before: float | None = None
    between_after: float | None = None
    scale_before: float | None = None
    scale_after: float | None = None
    degree_before: float | None = None
    degree_after: float | None = None
    size_error: float | None = None
    zero_rows: float = 0.0
    zero_rows_gradient: bool | None = None
    finite: bool = True
    largest: float | None = None
    float16_error: float | None = None
    bfloat16_error: float | None = None
    own_error: float | None = None
    rotation_error: float | None = None
    synchronized: bool | None = None
    learns_shift: bool = False
    idle_biases: tuple[str, ...] = ()
    seconds: float | None = None
    fused_seconds: float | None = None
    kept_bytes: int | None = None
    fused_kept_bytes: int | None = None
    compile_error: str | None = None
    export_error: str | None = None


@dataclass(kw_only=True)
class ModelFacts:
    """What was measured of a model.

    Args:
        model: Its class.
        batches: Number of batches.
        graphs, nodes: Graphs and nodes of a batch, median; 0 if not known.
        ranks: Number of ranks that train it.
        dtype: The precision of its parameters.
        has_positions: Whether it takes positions of nodes in space.
        rotation_error: Change of its output under a rotation, relative to its RMS; `None` without
            positions.
        unnormalized_rotation_error: The same with all norms left out.
        seconds: Time of a forward in training.
        norms: The norms, in the order of the model.
    """

    model: str
    batches: int
    graphs: int = 0
    nodes: int = 0
    ranks: int = 1
    dtype: str = "float32"
    has_positions: bool = False
    rotation_error: float | None = None
    unnormalized_rotation_error: float | None = None
    seconds: float | None = None
    norms: list[NormFacts] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON-able data, without what is not known."""
        data = asdict(self)
        data["norms"] = [_known(norm) for norm in data["norms"]]
        return _known(data)


def _known(data: dict[str, Any]) -> dict[str, Any]:
    return jsonable({key: value for key, value in data.items() if value is not None})


def jsonable(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return numbers as JSON has them, which knows no infinity and no nan."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in numbers.items()
    }
