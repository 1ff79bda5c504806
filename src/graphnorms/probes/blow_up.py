"""Where a training blew up and how, from the records of its last steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal, NamedTuple

How = Literal["update", "near-eps", "overflow", "activation", "gradient", "input", "unclear"]
"""How a layer went; see `BlowUp`."""

_GROWN: Final = 10.0  # times the largest value of the quiet steps
_LARGE_UPDATE: Final = 0.3  # of the weights
_HIGH_GAIN: Final = 100.0
_NEAR_SHARE: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What was measured at one step; only the loss if nothing stirred.

    Args:
        step: Its number, from 0.
        loss: The loss.
        updates: $\\lVert w_t - w_{t-1} \\rVert$ of each layer, by the step before: what made the
            weights that this step began with.
        weights: $\\lVert w_{t-1} \\rVert$, what that update changed.
        gradients: Norm of the gradient of the weights, as the optimizer saw it.
        activations: Root mean square of what each module returned, in the order in which they
            finished.
        gains: Of each norm, $1 / \\sqrt{s^2 + \\varepsilon}$ (root mean square over its cells).
        near: Of each norm, the share of cells with $s^2 \\le 10\\,\\varepsilon$.
    """

    step: int
    loss: float
    updates: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    gradients: Mapping[str, float] = field(default_factory=dict)
    activations: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)
    near: Mapping[str, float] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether more than the loss was measured."""
        return bool(self.weights or self.gradients or self.activations)

    def relative_update(self, layer: str) -> float:
        """Return the update of a layer against the weights before it; NaN if not known."""
        if layer not in self.updates:
            return math.nan
        update, weight = self.updates[layer], self.weights[layer]
        if not math.isfinite(update):
            return update
        return update / weight if weight else math.nan  # a layer that starts at 0


@dataclass(frozen=True, kw_only=True)
class BlowUp:
    """The layer that went first, and how.

    | how | what was seen first |
    |---|---|
    | `"update"` | the optimizer moved the layer by a large share of its weights |
    | `"near-eps"` | a norm divided by a deviation near √ε and enlarged gradients or features |
    | `"overflow"` | finite inputs, infinite output: beyond the range of the dtype |
    | `"activation"` | output grew tenfold, or became NaN, of weights that had not moved |
    | `"gradient"` | gradient grew tenfold, and no norm explains it |
    | `"input"` | the batch has NaN or infinities, or is ten times as large as others |
    | `"unclear"` | no layer left its range in the steps recorded |

    Args:
        step: The step whose loss was not finite, or the first of the jump.
        loss: The loss there.
        usual: Median of the losses before.
        layer: The name of the module; empty if it is unclear.
        how: See the table.
        first: The step at which the layer went.
        evidence: Sentences with the numbers.
    """

    step: int
    loss: float
    usual: float
    layer: str
    how: How
    first: int
    evidence: tuple[str, ...]

    def __str__(self) -> str:
        """Return the loss, the layer and the evidence in sentences."""
        return "\n".join((f"step {self.step}: {self._loss()}", *self.evidence))

    def _loss(self) -> str:
        if math.isnan(self.usual):
            return f"the loss is {self.loss:.3g}, and no loss before was finite"
        return f"the loss is {self.loss:.3g}, where {self.usual:.3g} was usual (running median)"


class _Event(NamedTuple):
    """The first thing out of its range."""

    record: StepRecord
    kind: Literal["update", "activation", "gradient"]
    layer: str
    value: float
    past: float  # the largest value before; NaN if there is none


class _Norm(NamedTuple):
    """A norm, and its gain and share near ε at a step."""

    name: str
    step: int
    gain: float
    near: float


def diagnose(
    records: Sequence[StepRecord],
    usual: float,
    onset: int,
    halves: Iterable[str] = (),
) -> BlowUp:
    """Find the layer that went first, in the causal order of a step.

    That is: the update before it, its activations in the order of the forward pass (what is not
    finite first), and its gradients in the opposite order. A value is out of its range if it is not
    finite, or ten times the largest of the quiet steps; an update also if it is 0.3 of the weights
    and ten times the median of the layers.

    Args:
        records: The last steps.
        usual: The running median of the loss.
        onset: The first step whose loss was no longer usual.
        halves: Modules that return float16.
    """
    last = records[-1]
    quiet = [each for each in records if each.full and each.step < onset]
    shown = next((each for each in records if each.step >= onset), last)

    def found(layer: str, how: How, first: int, *evidence: str) -> BlowUp:
        return BlowUp(
            step=shown.step,
            loss=shown.loss,
            usual=usual,
            layer=layer,
            how=how,
            first=first,
            evidence=evidence,
        )

    # An update that diverges slowly is out of its range long before the loss is.
    event = next((e for r in quiet for e in _large_updates(r)), None)
    for record in records:
        if event is None and record.full and record.step >= onset:
            event = next(_events(record, quiet), None)
    if event is None:
        return found("", "unclear", last.step, "no layer left its range in the steps recorded")
    norm = _sharpest_norm(event, records)
    if event.kind == "activation":
        if event.layer == INPUT:
            text = (
                f"the root mean square of the features given is {event.value:.3g} at step "
                f"{event.record.step}"
            )
            text += "" if math.isnan(event.past) else f", at most {event.past:.3g} before"
            return found(INPUT, "input", event.record.step, text)
        how = _how_activation(event, norm, set(halves))
        growth = _growth(records, event.record.step)
        return found(event.layer, how, event.record.step, *_said(event, norm, how), *growth)
    if norm is not None and (event.kind == "gradient" or _by_gradient(event, records)):
        return found(norm.name, "near-eps", event.record.step, *_said(event, norm, "near-eps"))
    step = event.record.step - (event.kind == "update")
    how = event.kind
    if event.kind == "update" and not math.isfinite(event.value):
        how = "gradient"
    return found(event.layer, how, step, *_said(event, None, how))


INPUT: Final = "input"
"""The name of the batch among the modules."""


def _events(record: StepRecord, quiet: Sequence[StepRecord]) -> Iterator[_Event]:
    """What is out of its range at a step, in causal order."""
    yield from _large_updates(record)
    for layer in record.updates:
        yield from _grown(record, "update", layer, quiet)
    for layer, value in record.activations.items():
        if not math.isfinite(value):
            yield from _grown(record, "activation", layer, quiet)
    for layer in record.activations:
        yield from _grown(record, "activation", layer, quiet)
    for layer in reversed(list(record.gradients)):
        yield from _grown(record, "gradient", layer, quiet)


def _grown(
    record: StepRecord,
    kind: Literal["update", "activation", "gradient"],
    layer: str,
    quiet: Sequence[StepRecord],
) -> Iterator[_Event]:
    """The event that a value is not finite, or far above what it was while all was quiet."""
    value = _value(record, kind, layer)
    past = max((_finite(_value(each, kind, layer)) for each in quiet), default=0.0)
    if value is None:
        return
    if not math.isfinite(value) or (past > 0 and value > _GROWN * past):
        yield _Event(record, kind, layer, value, past or math.nan)


def _value(record: StepRecord, kind: str, layer: str) -> float | None:
    if kind == "update":
        value = record.relative_update(layer)
        # 0 weights have no relative update; an update that is not finite is kept.
        return None if math.isnan(value) and record.updates.get(layer, 0.0) == 0 else value
    return (record.activations if kind == "activation" else record.gradients).get(layer)


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0


def _large_updates(record: StepRecord) -> Iterator[_Event]:
    """Updates that are large against the weights and against those of the other layers."""
    shares = {layer: _finite(record.relative_update(layer)) for layer in record.updates}
    if not shares:
        return
    middle = median(shares.values())
    layer = max(shares, key=lambda name: shares[name])
    if shares[layer] >= max(_LARGE_UPDATE, _GROWN * middle):
        yield _Event(record, "update", layer, shares[layer], math.nan)


def _sharpest_norm(event: _Event, records: Sequence[StepRecord]) -> _Norm | None:
    """The norm with the highest gain that lies where the event could come from.

    Gradients are enlarged in front of a norm, features by the norm itself.
    """
    order = list(event.record.activations)
    # An update is due to the gradient of the step before.
    end = event.record.step - (event.kind == "update")
    known = [each for each in records if each.gains and each.step <= end]
    if not known:
        return None
    latest = known[-1]
    sharp = {
        name: gain
        for name, gain in latest.gains.items()
        if gain >= _HIGH_GAIN or latest.near.get(name, 0.0) >= _NEAR_SHARE
    }
    if event.kind == "activation":
        sharp = {name: gain for name, gain in sharp.items() if name == event.layer}
    elif event.layer in order:
        behind = order[order.index(event.layer) :]
        sharp = {name: gain for name, gain in sharp.items() if name in behind}
    if not sharp:
        return None
    name = max(sharp, key=lambda name: sharp[name])
    return _Norm(name, latest.step, sharp[name], latest.near.get(name, 0.0))


def _by_gradient(event: _Event, records: Sequence[StepRecord]) -> bool:
    """Whether a large update is one of a large gradient, not of a large step size.

    The step size of a layer is its update over its gradient, which under plain descent is the
    learning rate: that of the layer is no outlier among the layers, its gradient is.
    """
    before = [each for each in records if each.gradients and each.step < event.record.step]
    if not before:
        return False
    gradients = {n: g for n, g in before[-1].gradients.items() if _finite(g) > 0}
    if event.layer not in gradients or len(gradients) < 3:
        return False
    updates = event.record.updates
    rates = {n: updates[n] / g for n, g in gradients.items() if math.isfinite(updates.get(n, 0.0))}
    typical = median(rates.values())
    return rates.get(event.layer, math.inf) < _GROWN * typical


def _how_activation(event: _Event, norm: _Norm | None, halves: set[str]) -> How:
    if norm is not None:
        return "near-eps"
    if math.isinf(event.value) or (math.isnan(event.value) and event.layer in halves):
        return "overflow"
    return "activation"


def _growth(records: Sequence[StepRecord], step: int) -> tuple[str, ...]:
    """How the activations grow over depth, where they do, in the last step that was finite."""
    known = [
        each
        for each in records
        if each.activations
        and each.step <= step
        and sum(map(math.isfinite, each.activations.values())) > 2
    ]
    if not known:
        return ()
    latest = {n: a for n, a in known[-1].activations.items() if math.isfinite(a) and a > 0}
    names = list(latest)
    largest = max(names, key=lambda name: latest[name], default="")
    if not largest or latest[largest] < _GROWN * latest[names[0]]:
        return ()
    return (
        f"at step {known[-1].step} activations grow over depth, from {latest[names[0]]:.3g} "
        f"({_named(names[0])}) to {latest[largest]:.3g} ({_named(largest)})",
    )


def _said(event: _Event, norm: _Norm | None, how: How) -> tuple[str, ...]:
    """The evidence in sentences."""
    record, layer = event.record, _named(event.layer)
    lines: list[str] = []
    past = "" if math.isnan(event.past) else f", at most {event.past:.3g} before"
    if event.kind == "update":
        others = [_finite(record.relative_update(n)) for n in record.updates if n != event.layer]
        middle = f"; the median of the other layers is {median(others):.3g}" if others else ""
        if math.isfinite(event.value):
            lines.append(
                f"{layer} was moved by {event.value:.3g} of its weights at step "
                f"{record.step - 1}{past}{middle}"
            )
        else:
            lines.append(f"{layer} got an update that is {event.value} at step {record.step - 1}")
    elif event.kind == "activation":
        lines.append(
            f"{layer} returned {event.value:.3g} (root mean square) at step {record.step}{past}"
        )
        if how == "overflow":
            lines.append("what came before it in the forward pass is finite")
    else:
        lines.append(f"the gradient of {layer} is {event.value:.3g} at step {record.step}{past}")
    if norm is not None:
        lines.append(
            f"{_named(norm.name)} multiplied by {norm.gain:.3g} (1/√(s² + ε)) at step {norm.step}; "
            f"{100 * norm.near:.0f}% of its variances were near ε"
        )
    return tuple(lines)


def _named(module: str) -> str:
    return module or "the model itself"
