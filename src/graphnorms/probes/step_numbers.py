"""The numbers of one training step: of weights, updates, gradients and what modules returned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.probes.blow_up import StepRecord
from graphnorms.probes.module_outputs import Outputs, norms_of, plain_name

UNSEEN: Final = -1.0
"""In place of a norm that was not measured: norms are not negative."""


class Weights:
    """The learned parameters, and copies of them from before the last two steps."""

    def __init__(self, model: nn.Module) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.layers = [plain_name(name.rpartition(".")[0]) for name, _ in named]
        self.parameters = [p for _, p in named]
        self.values = [p.detach() for p in self.parameters]
        self.on_gpu = self.values[0].is_cuda
        self._before: list[list[Tensor]] = []  # before the last update, and after it
        self.keep()

    def keep(self) -> None:
        """Copy the weights that the next step begins with."""
        with torch.no_grad():
            if len(self._before) < 2:
                self._before.append([p.detach().clone() for p in self.parameters])
                return
            self._before.reverse()
            torch._foreach_copy_(self._before[1], list[Tensor](self.parameters))

    def norms(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the norms of the weights before the last update, and of that update."""
        weights = norms_of(self._before[0])
        if len(self._before) < 2:
            return weights, []
        return weights, norms_of(list(torch._foreach_sub(self._before[1], self._before[0])))


class Measured(NamedTuple):
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
    def of(cls, weights: Weights, outputs: Outputs, *, gains: bool) -> Measured:
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


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Norms of the gradients, `UNSEEN` where there is none."""
    there = [p.grad for p in parameters if p.grad is not None and not p.grad.is_sparse]
    norms = iter(norms_of(there)) if there else iter(())
    absent = parameters[0].new_full((), UNSEEN)
    return [
        absent if p.grad is None or p.grad.is_sparse else next(norms).detach() for p in parameters
    ]


def _by_layer(layers: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    """Join the norms of the parameters of each layer."""
    squares: dict[str, float] = {}
    for layer, norm in zip(layers, norms, strict=False):
        if norm != UNSEEN:
            squares[layer] = squares.get(layer, 0.0) + norm * norm
    return {layer: math.sqrt(total) for layer, total in squares.items()}
