"""Watches a training: cheap statistics of the last steps, read when the loss blows up."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from graphnorms.dropin.known_norms import recognize
from graphnorms.errors import GraphnormsError
from graphnorms.probes.blow_up import INPUT, LOSSES, BlowUp, LossRule, StepRecord, diagnose
from graphnorms.probes.norm_gain import Scaling

_CONTAINERS: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_UNSEEN: Final = -1.0
"""In place of a norm that was not measured: norms are not negative."""
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
    for bit. In a step that is recorded in full, every layer has: the update that made its weights,
    $\lVert w_t - w_{t-1} \rVert$, against $\lVert w_t \rVert$; the root mean square of what each
    module returned; the norm of its gradient; and every norm that divides by a deviation
    $1/\sqrt{s^2 + \varepsilon}$. On the CPU these are the steps 0, 1, 2, 4, 8, each `every`-th, and each whose loss
    stirs (five robust deviations, or not finite): the outputs are kept until `step`, when the loss
    is known. On a GPU, where looking at the loss would wait for the device, it is each step; the
    numbers are copied to the host without waiting, and read when they have arrived, so that a
    blow-up is noticed a few steps later. The gains of norms are measured at the same steps as on the CPU.

    Memory: two copies of the learned parameters, the outputs of one forward pass until `step`, and
    `steps` records of a few numbers per layer.

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
        self, model: nn.Module, *, steps: int = 256, every: int = 32, stop: bool = False
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
        self._weights: _Weights | None = None
        if not any(map(is_lazy, model.parameters())):
            self._weights = _Weights(model)
        self._pending: deque[_OnDevice] = deque()
        self._returned: deque[float] = deque(maxlen=LOSSES)
        self._outputs = _Outputs(model, self._begins, watched=not self.compiled)
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
                self._weights = _Weights(self._model)
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

    def _begins(self, output: Tensor, gradient: Tensor) -> bool:
        """Measure what the modules returned if the step is to be recorded in full.

        That the loss is not usual is known only after the backward pass; what the model returned
        and the gradient there tell it before.
        """
        unusual = self._onset is not None
        if not output.is_cuda:
            scale, slope = (float(norm) for norm in _norms([output, gradient]))
            stirs = len(self._returned) >= 4 and scale > _STIRRED * median(self._returned)
            unusual = unusual or stirs or not math.isfinite(scale + slope)
            self._returned.append(scale)
        if output.is_cuda or unusual or self._in_turn(self._steps):
            self._outputs.measure(gains=unusual or self._gains_in_turn(self._steps))
            return True
        return False

    def _gains_in_turn(self, step: int) -> bool:
        """Gains cost more than all else, and move slowly."""
        return self._in_turn(step) and (step % (4 * self.every) == 0 or step <= 8)

    def _in_turn(self, step: int) -> bool:
        return step % self.every == 0 or step in (1, 2, 4, 8)

    def _record(self, step: int, loss: float) -> None:
        """Record a step whose loss is known."""
        assert self._weights is not None
        usual, state = self._rule.median, self._rule.see(loss)
        if state == "usual" and not self._in_turn(step):
            self.records.append(StepRecord(step=step, loss=loss))
        else:
            found = _Measured.of(self._weights, self._outputs, gains=True)
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
        found = _Measured.of(self._weights, self._outputs, gains=self._gains_in_turn(step))
        values = found.values
        first = torch.as_tensor(loss, dtype=values.dtype, device=values.device).detach()
        on_host = torch.empty(len(values) + 1, pin_memory=True)
        on_host.copy_(torch.cat((first.reshape(1), values)), non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(values.device))
        self._pending.append(_OnDevice(step, found, on_host, arrived))

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


class _Weights:
    """The learned parameters, and copies of them from before the last two steps."""

    def __init__(self, model: nn.Module) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.layers = [_plain(name.rpartition(".")[0]) for name, _ in named]
        self.parameters = [p for _, p in named]
        self.values = [p.detach() for p in self.parameters]
        self.on_gpu = self.values[0].is_cuda
        self._before: list[list[Tensor]] = []  # before the last update, and after it
        self.keep()

    def keep(self) -> None:
        """Copy the weights that the next step begins with."""
        values = [p.detach() for p in self.parameters]
        if len(self._before) < 2:
            with torch.no_grad():
                self._before.append([value.clone() for value in values])
            return
        self._before.reverse()
        torch._foreach_copy_(self._before[1], values)

    def norms(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the norms of the weights before the last update, and of that update."""
        weights = _norms(self._before[0])
        if len(self._before) < 2:
            return weights, []
        return weights, _norms(torch._foreach_sub(self._before[1], self._before[0]))


class _Outputs:
    """What the modules return in the forward passes of a step.

    It is held until the backward pass begins, when autograd still holds most of it, and then
    measured or dropped.

    Args:
        model: The model.
        wanted: Whether to measure, given what the model returned and the gradient of that.
        watched: Whether there are hooks at all.
    """

    def __init__(
        self, model: nn.Module, wanted: Callable[[Tensor, Tensor], bool], *, watched: bool
    ) -> None:
        self.names: list[str] = [INPUT]
        self.norms: dict[int, tuple[nn.Module, Scaling]] = {}
        self.measured: dict[int, Tensor] = {}
        self.gains: dict[int, tuple[Tensor, Tensor]] = {}
        self.halves: set[str] = set()
        self.closed = False
        self._wanted = wanted
        self._held: list[tuple[int, Tensor]] = []
        self._given: dict[int, tuple[Tensor, Any]] = {}
        self._handles: list[RemovableHandle] = []
        self._inner: list[RemovableHandle] = []
        self._followed: list[tuple[int, nn.Module, Scaling | None]] = []
        if not watched:
            return
        self._handles.append(model.register_forward_pre_hook(self._enter, with_kwargs=True))
        blocks = _blocks(model)
        for name, module in _seen(model, blocks):
            index, scaling = len(self.names), Scaling.of(module)
            self.names.append(name)
            if scaling is not None:
                self.norms[index] = (module, scaling)
            if scaling is None and (module is model or id(module) in blocks):
                self._handles.append(self._follow(index, module, scaling))
            else:
                self._followed.append((index, module, scaling))
        # The last hook: what the model returns is held already.
        self._handles.append(model.register_forward_hook(self._leave))

    def look_inside(self, wanted: bool) -> None:
        """Follow the layers inside the blocks, too, in the next forward pass, or no longer."""
        if wanted and not self._inner:
            self._inner = [self._follow(*each) for each in self._followed]
        elif not wanted and self._inner:
            for handle in self._inner:
                handle.remove()
            self._inner = []

    def clear(self) -> None:
        """Forget the step."""
        self._drop()
        self.measured.clear()
        self.gains.clear()

    def close(self) -> None:
        """Remove the hooks."""
        self.look_inside(False)
        for handle in self._handles:
            handle.remove()
        self.closed = True
        self.clear()

    def measure(self, *, gains: bool) -> None:
        """Measure what is held, and drop it; of several calls of a module the largest counts.

        Args:
            gains: Whether to measure the gains of norms.
        """
        # What encloses a module often returns the same tensor.
        alike = {(x.data_ptr(), x.numel()): x for _, x in self._held}
        norms = dict(zip(alike, _norms(list(alike.values())), strict=True)) if alike else {}
        for index, x in self._held:
            if x.dtype == torch.float16:
                self.halves.add(self.names[index])
            value = norms[x.data_ptr(), x.numel()] / math.sqrt(max(1, x.numel()))
            before = self.measured.get(index)
            self.measured[index] = value if before is None else torch.maximum(before, value)
        for index, (x, batch) in self._given.items() if gains else ():
            module, scaling = self.norms[index]
            found = scaling.gain(module, x, batch)
            if found is not None:
                self.gains[index] = found
        self._drop()

    def _drop(self) -> None:
        self._held.clear()
        self._given.clear()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Hold the features that the model is called with."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        for given in (*args, *kwargs.values()):
            # Graphs come in objects of other packages, whose `x` are the features.
            x = given if isinstance(given, Tensor) else getattr(given, "x", None)
            if isinstance(x, Tensor) and x.is_floating_point():
                self._held.append((0, x.detach()))
                return

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Wait for the gradient of what the model returns."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        x = _first(output)
        if x is None or not x.requires_grad:
            return
        kept = x.detach()

        def begin(gradient: Tensor) -> None:
            with torch.no_grad():
                if not self._held or self._wanted(kept, gradient):
                    return
                self._drop()

        x.register_hook(begin)

    def _follow(
        self, index: int, module: nn.Module, scaling: Scaling | None
    ) -> RemovableHandle:
        """Hold what a module returns, and what a norm is given."""
        held = self._held
        tracing, recorded = torch.compiler.is_compiling, torch.is_grad_enabled

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if tracing() or not recorded():
                return
            x = output if type(output) is Tensor else _first(output)
            if x is not None and x.is_floating_point():
                held.append((index, x))

        def norm_hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            hook(module, args, output)
            if tracing() or not (recorded() and module.training):
                return
            if args and isinstance(args[0], Tensor) and kwargs.get("mask") is None:
                second = args[1] if len(args) > 1 else kwargs.get("batch")
                self._given[index] = (args[0], second)

        if scaling is None:
            return module.register_forward_hook(hook)
        return module.register_forward_hook(norm_hook, with_kwargs=True)


def _first(output: Any) -> Tensor | None:
    """The first tensor of what a module returned."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        output = next((part for part in output if isinstance(part, Tensor)), None)
    return output if isinstance(output, Tensor) else None


class _Measured(NamedTuple):
    """The numbers of one step on their device, and what they are of.

    Args:
        layers: The layer of each parameter.
        parts: How many numbers are of updates, weights, gradients and activations, in this order;
            the gains of the norms follow, and the shares near ε.
        modules: The names of the modules in the order of finishing.
        norms: The names of the norms.
        values: The numbers, `(sum,)`.
    """

    layers: Sequence[str]
    parts: tuple[int, int, int, int]
    modules: Sequence[str]
    norms: Sequence[str]
    values: Tensor

    @classmethod
    def of(cls, weights: _Weights, outputs: _Outputs, *, gains: bool) -> _Measured:
        """Measure what is held."""
        sizes, updates = weights.norms()
        outputs.measure(gains=gains)  # what no backward pass has decided on
        found, sharp = outputs.measured, outputs.gains
        numbers = [
            *updates,
            *sizes,
            *_gradients(weights.parameters),
            *found.values(),
            *(each[0] for each in sharp.values()),
            *(each[1] for each in sharp.values()),
        ]
        device = weights.values[0].device
        return cls(
            layers=weights.layers,
            parts=(len(updates), len(sizes), len(weights.parameters), len(found)),
            modules=[outputs.names[index] for index in found],
            norms=[outputs.names[index] for index in sharp],
            values=torch.stack([number.float().to(device) for number in numbers]),
        )

    def record(self, step: int, loss: float, values: Sequence[float]) -> StepRecord:
        """Return the record of a step.

        Args:
            step: Its number.
            loss: Its loss.
            values: The numbers on the host.
        """
        ends = [sum(self.parts[: i + 1]) for i in range(4)]
        updates, weights, gradients, activations = (
            values[end - size : end] for end, size in zip(ends, self.parts, strict=True)
        )
        rest = values[ends[-1] :]
        gains, near = rest[: len(self.norms)], rest[len(self.norms) :]
        return StepRecord(
            step=step,
            loss=loss,
            updates=_by_layer(self.layers, updates),
            weights=_by_layer(self.layers, weights),
            gradients=_by_layer(self.layers, gradients),
            activations=dict(zip(self.modules, activations, strict=True)),
            gains=dict(zip(self.norms, gains, strict=True)),
            near=dict(zip(self.norms, near, strict=True)),
        )


class _OnDevice(NamedTuple):
    """A step whose numbers are on their way to the host."""

    step: int
    found: _Measured
    on_host: Tensor
    arrived: torch.cuda.Event


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    """Norms over all entries, in float32 or wider: that of a half would overflow."""
    dtypes = {x.dtype for x in tensors}
    if dtypes <= {torch.float32, torch.float64}:
        return list(torch._foreach_norm(tensors))
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    return list(torch._foreach_norm(tensors, dtype=wide))


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Norms of the gradients, `_UNSEEN` where there is none."""
    there = [p.grad for p in parameters if p.grad is not None and not p.grad.is_sparse]
    norms = iter(_norms(there)) if there else iter(())
    absent = parameters[0].new_full((), _UNSEEN)
    return [
        absent if p.grad is None or p.grad.is_sparse else next(norms).detach() for p in parameters
    ]


def _by_layer(layers: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    """Join the norms of the parameters of each layer."""
    squares: dict[str, float] = {}
    for layer, norm in zip(layers, norms, strict=False):
        if norm != _UNSEEN:
            squares[layer] = squares.get(layer, 0.0) + norm * norm
    return {layer: math.sqrt(total) for layer, total in squares.items()}


def _blocks(model: nn.Module) -> set[int]:
    """The ids of the outermost modules that learn, looking into containers and single children."""
    found: list[nn.Module] = [model]
    while len(found) == 1 and not _learns(found[0], recurse=False):
        inner = [child for child in found[0].children() if _learns(child)]
        while any(isinstance(child, _CONTAINERS) for child in inner):
            inner = [
                each
                for child in inner
                for each in (child.children() if isinstance(child, _CONTAINERS) else (child,))
                if _learns(each)
            ]
        if not inner:
            break
        found = inner
    return {id(module) for module in found}


def _seen(model: nn.Module, blocks: set[int]) -> list[tuple[str, nn.Module]]:
    """The modules to follow: the blocks, layers with parameters of their own, and norms.

    Nothing inside a norm is followed: a hook there would take it off its fast path.
    """
    inside: set[int] = set()
    found = []
    for name, module in model.named_modules():
        if id(module) in inside:
            continue
        norm = recognize(module) is not None
        if norm:
            inside |= {id(inner) for inner in module.modules()}
        learns = _learns(module, recurse=False)
        if norm or learns or id(module) in blocks or module is model:
            found.append((_plain(name), module))
    return found


def _learns(module: nn.Module, *, recurse: bool = True) -> bool:
    return next(module.parameters(recurse), None) is not None


def _plain(name: str) -> str:
    """The name without what DDP and torch.compile put in front."""
    parts = name.split(".")
    while parts and parts[0] in ("module", "_orig_mod"):
        parts = parts[1:]
    return ".".join(parts)
