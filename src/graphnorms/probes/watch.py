"""Watches a training: cheap statistics of the last steps, read when the loss blows up."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterable
from statistics import median
from types import TracebackType
from typing import Final, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from graphnorms.errors import GraphnormsError
from graphnorms.probes.blow_up import BlowUp, StepRecord, diagnose
from graphnorms.probes.loss_rule import LOSSES, LossRule
from graphnorms.probes.module_outputs import Outputs, norms_of
from graphnorms.probes.step_numbers import Measured, Weights

_STIRRED: Final = 5.0
"""Times its running median at which what the model returns is unusual."""


class BlowUpWarning(RuntimeWarning):
    """A watched training has blown up."""


class BlowUpError(GraphnormsError, RuntimeError):
    """A watched training has blown up, and `stop=True`."""


class Watch:
    r"""Watches the last steps of a training, and says which layer went first when it blows up.

    ```python
    with graphnorms.Watch(model) as watch:
        for batch in loader:
            optimizer.zero_grad()
            loss = criterion(model(batch), batch.y)
            loss.backward()
            optimizer.step()
            watch.step(loss)
    ```

    When the loss stops being finite, or jumps (`LossRule`: three losses in a row ten robust
    deviations above the running median), it warns once, or raises with `stop=True`; `blow_up` and
    `report()` name the layer and the numbers. After that nothing is recorded, and the hooks are
    gone.

    The training is not changed: weights, buffers, gradients and random numbers are the same bit
    for bit. A step that is recorded in full has, of every layer, the update that made its weights,
    $\lVert w_t - w_{t-1} \rVert$, and $\lVert w_{t-1} \rVert$; the root mean square of what modules
    returned; the norm of the gradient; and the gain $1/\sqrt{s^2 + \varepsilon}$ of norms.

    On the CPU these are the powers of two and each `every`-th step, and those whose loss stirs
    (five robust deviations), or whose output is not finite or far from usual. Of a
    step that nothing announced, what blocks (the outermost modules) returned is known, not what
    the layers inside did. On a GPU, where looking at the loss would wait for the device, each step
    is recorded in full; the numbers are copied to the host without waiting and read when they have
    arrived, so that a blow-up is noticed a few steps later.

    Memory: two copies of the learned parameters, what modules returned until the backward pass
    begins, and `steps` records of a few numbers per layer.

    - Gradient accumulation: call `step` once per step of the optimizer; of several forward passes
      the largest activation counts.
    - `GradScaler`: call `step` after `scaler.step(optimizer)`. A step that the scaler skips for
      infinite gradients is no blow-up while the loss is finite.
    - `torch.compile`: inside compiled code nothing returned is seen; loss, gradients, weights and
      updates are.
    - DDP: each rank watches its own batches; gradients and updates are those of all.

    Args:
        model: The model; move it to its device before.
        steps: How many steps are kept.
        every: Distance of the steps that are recorded in full while the loss is usual.
        stop: Raise `BlowUpError` at a blow-up; otherwise warn.

    Raises:
        ValueError: `steps` or `every` is below 1, or no parameter takes a gradient.
    """

    def __init__(
        self, model: nn.Module, *, steps: int = 512, every: int = 64, stop: bool = False
    ) -> None:
        for name, value in (("steps", steps), ("every", every)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError("no parameter of the model takes a gradient (requires_grad)")
        self.every = every
        self.stop = stop
        self.records: deque[StepRecord] = deque(maxlen=steps)
        self.blow_up: BlowUp | None = None
        self.compiled = hasattr(model, "_orig_mod") or model._compiled_call_impl is not None
        self._model = model
        self._rule = LossRule()
        self._onset: int | None = None
        self._usual = math.nan
        self._steps = 0
        self._weights: Weights | None = None
        if not any(map(is_lazy, model.parameters())):
            self._weights = Weights(model)
        self._pending: deque[OnDevice] = deque()
        self._returned: deque[float] = deque(maxlen=LOSSES)
        self._outputs = Outputs(model, self._begins, watched=not self.compiled)
        self._outputs.look_inside(not self.compiled)  # step 0 is in turn

    def __enter__(self) -> Self:
        """Return itself; the hooks are there already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the hooks."""
        if kind is None:
            self.finish()
        self.close()

    def close(self) -> None:
        """Remove the hooks, and free all but the records."""
        self._outputs.close()
        self._weights = None
        self._pending.clear()

    def step(self, loss: Tensor | float) -> BlowUp | None:
        """Record a step; call it after the step of the optimizer and before the next `zero_grad`.

        Args:
            loss: The loss of the step, one number.

        Returns:
            The blow-up, once there is one.

        Raises:
            BlowUpError: The training has blown up, and `stop` was asked for.
            ValueError: `loss` is not one number.
        """
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise ValueError(f"loss has shape {tuple(loss.shape)}, expected one number")
        if self.blow_up is not None or self._outputs.closed:
            return self.blow_up
        number, self._steps = self._steps, self._steps + 1
        with torch.no_grad():
            if self._weights is None:
                self._weights = Weights(self._model)
            if self._weights.on_gpu:
                self._begin(number, loss)
                self._read()
            else:
                self._record(number, float(loss))
            self._outputs.clear()
            if self._weights is not None:
                self._weights.keep()
                wanted = self._weights.on_gpu or self._onset is not None
                self._outputs.look_inside(wanted or self._in_turn(self._steps))
        return self.blow_up

    def finish(self) -> BlowUp | None:
        """Wait for what a GPU has still to hand over; return the blow-up, if there is one."""
        self._read(wait=True)
        return self.blow_up

    def report(self) -> str:
        """Say what is known: the blow-up, or that there was none, and the last steps."""
        self.finish()
        lines = [str(self.blow_up) if self.blow_up else self._calm()]
        if self.compiled:
            lines.append("the model is compiled: what its modules return was not seen")
        if self.blow_up and self.blow_up.layer:
            lines += ["", *table(self.records, self.blow_up.layer)]
        return "\n".join(lines)

    def _calm(self) -> str:
        usual = self._rule.median
        loss = "" if math.isnan(usual) else f"; the running median of the loss is {usual:.3g}"
        return f"{self._steps} steps without a blow-up{loss}"

    def _begins(self, output: Tensor) -> bool:
        """Measure what the modules returned if the step is to be recorded in full.

        That the loss is not usual is known only after the backward pass; what the model returned
        tells it before.
        """
        unusual = self._onset is not None
        if not output.is_cuda:
            scale = float(norms_of([output])[0])
            stirs = len(self._returned) >= 4 and scale > _STIRRED * median(self._returned)
            unusual = unusual or stirs or not math.isfinite(scale)
            self._returned.append(scale)
        if output.is_cuda or unusual or self._in_turn(self._steps):
            self._outputs.measure(gains=unusual or self._gains_in_turn(self._steps))
            return True
        return False

    def _gains_in_turn(self, step: int) -> bool:
        """Gains cost more than all else, and move slowly."""
        return self._in_turn(step) and (step % (4 * self.every) == 0 or step <= 8)

    def _in_turn(self, step: int) -> bool:
        return step % self.every == 0 or step & (step - 1) == 0

    def _record(self, step: int, loss: float) -> None:
        """Record a step whose loss is known."""
        assert self._weights is not None
        usual, state = self._rule.median, self._rule.see(loss)
        if state == "usual" and not self._in_turn(step):
            self.records.append(StepRecord(step=step, loss=loss))
        else:
            found = Measured.of(self._weights, self._outputs, gains=True)
            self.records.append(found.record(step, loss, found.values.tolist()))
        self._judge(step, usual, state)

    def _judge(self, step: int, usual: float, state: str) -> None:
        """Follow a run of unusual losses, and diagnose at its end."""
        if state == "usual":
            self._onset = None
            return
        if self._onset is None:
            self._onset, self._usual = step, usual
        if state == "blown-up":
            halves = self._outputs.halves
            self._report(diagnose(list(self.records), self._usual, self._onset, halves))

    def _report(self, found: BlowUp) -> None:
        self.blow_up = found
        self.close()
        if self.stop:
            raise BlowUpError(str(found))
        warnings.warn(str(found), BlowUpWarning, stacklevel=5)

    def _begin(self, step: int, loss: Tensor | float) -> None:
        """Measure a step on a GPU, and start copying the numbers to the host."""
        assert self._weights is not None
        found = Measured.of(self._weights, self._outputs, gains=self._gains_in_turn(step))
        values = found.values
        first = torch.as_tensor(loss, dtype=values.dtype, device=values.device).detach()
        on_host = torch.empty(len(values) + 1, pin_memory=True)
        on_host.copy_(torch.cat((first.reshape(1), values)), non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(values.device))
        self._pending.append(OnDevice(step, found, on_host, arrived))

    def _read(self, *, wait: bool = False) -> None:
        """Read the numbers that have arrived."""
        while self._pending and self.blow_up is None:
            step, found, on_host, arrived = self._pending[0]
            if wait:
                arrived.synchronize()
            elif not arrived.query():
                return
            self._pending.popleft()
            loss, *values = on_host.tolist()
            usual, state = self._rule.median, self._rule.see(loss)
            self.records.append(found.record(step, loss, values))
            self._judge(step, usual, state)


def table(records: Iterable[StepRecord], layer: str, last: int = 8) -> list[str]:
    """Write the last full records of a layer as lines: step, loss, update, activation, gradient."""
    lines = [f"{'step':>6} {'loss':>10} {'update/weights':>15} {'output rms':>11} {'gradient':>10}"]
    for each in [record for record in records if record.full][-last:]:
        numbers = (
            each.relative_update(layer),
            each.activations.get(layer, math.nan),
            each.gradients.get(layer, math.nan),
        )
        update, output, gradient = (
            "–" if math.isnan(number) and not known else f"{number:.3g}"
            for number, known in zip(
                numbers,
                (layer in each.updates, layer in each.activations, layer in each.gradients),
                strict=True,
            )
        )
        lines.append(f"{each.step:>6} {each.loss:>10.3g} {update:>15} {output:>11} {gradient:>10}")
    return lines


class OnDevice(NamedTuple):
    """A step whose numbers are on their way to the host."""

    step: int
    found: Measured
    on_host: Tensor
    arrived: torch.cuda.Event
