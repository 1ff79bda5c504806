"""Snapshots of a model, and its loss as a function of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]
"""Computes the loss of a model on a batch, one number, with its graph."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the state of a model and of torch's generators, to be restored later.

    It has neither gradients (`.grad`), which the probes do not touch, nor state that a module
    keeps outside its parameters and buffers.
    """

    parameters: tuple[tuple[Tensor, Tensor], ...]
    buffers: tuple[tuple[nn.Module, str, Tensor, Tensor], ...]
    generators: tuple[Tensor, tuple[tuple[torch.device, Tensor], ...]]

    @classmethod
    def take(cls, model: nn.Module) -> Snapshot:
        """Copy the state of a model and of the generators of its devices."""
        parameters = tuple((p, p.detach().clone()) for p in model.parameters())
        buffers = tuple(
            (module, name, buffer, buffer.detach().clone())
            for module in model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        )
        devices = {p.device for p, _ in parameters} | {buffer.device for _, _, buffer, _ in buffers}
        states = tuple(
            (device, torch.cuda.get_rng_state(device))
            for device in devices
            if device.type == "cuda"
        )
        return cls(parameters, buffers, (torch.get_rng_state(), states))

    def restore(self) -> None:
        """Restore the state, bit for bit."""
        # Through `.data`: the values are the old ones, so that a graph built on them stays valid,
        # which the version counter would deny.
        for parameter, kept in self.parameters:
            parameter.data.copy_(kept)
        for module, name, buffer, kept in self.buffers:
            module._buffers[name] = buffer
            buffer.data.copy_(kept)
        cpu, others = self.generators
        torch.set_rng_state(cpu)
        for device, state in others:
            torch.cuda.set_rng_state(state, device)


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss as a function of the learned parameters, taken as one vector.

    Every evaluation starts from the same buffers and random numbers: dropout and running averages
    do not make two evaluations at one point differ.

    Args:
        loss: Computes the loss.
        parameters: The parameters that take a gradient, by name.
        start: The state in which the measurement began.
    """

    loss: Loss
    parameters: Mapping[str, nn.Parameter]
    start: Snapshot

    def value(self, offset: Tensor | None = None) -> Tensor:
        r"""Return $L(w + \text{offset})$ with its graph; the parameters stay there.

        Args:
            offset: Where to, `(parameters,)`; `None` for $w$ itself.

        Raises:
            ValueError: `loss` does not return one number that depends on the parameters.
        """
        self.start.restore()
        if offset is not None:
            for name, part in self.split(offset).items():
                self.parameters[name].data.add_(part)
        return self.here()

    def here(self) -> Tensor:
        """Return the loss with its graph at the present parameters."""
        with torch.enable_grad():
            loss = self.loss()
            if isinstance(loss, Tensor) and loss.numel() == 1:
                loss = loss.reshape(())
        if not isinstance(loss, Tensor) or loss.dim():
            given = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"loss returned {given}, expected one number; take its mean")
        if not loss.requires_grad:
            raise ValueError(
                "the loss does not depend on the parameters of the model; compute it from the "
                "model's output, without detach() or no_grad()"
            )
        return loss

    def derivative(self, loss: Tensor, *, create_graph: bool = False) -> Tensor:
        """Return the gradient of a loss that `value` returned, `(parameters,)`."""
        with torch.enable_grad():
            parts = torch.autograd.grad(
                loss,
                list(self.parameters.values()),
                create_graph=create_graph,
                allow_unused=True,
                materialize_grads=True,
            )
            return torch.cat([part.reshape(-1) for part in parts])

    def gradient(self, offset: Tensor | None = None) -> tuple[float, Tensor]:
        r"""Return the loss and its gradient at $w + \text{offset}$."""
        loss = self.value(offset)
        return loss.item(), self.derivative(loss)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the part of each parameter, in its shape; views of the vector."""
        sizes = [parameter.numel() for parameter in self.parameters.values()]
        parts = zip(self.parameters.items(), vector.split(sizes), strict=True)
        return {name: part.view(parameter.shape) for (name, parameter), part in parts}


@contextmanager
def objective(model: nn.Module, loss: Loss) -> Iterator[Objective]:
    """Give a loss as a function of the parameters, and restore the model at the end.

    Args:
        model: Whose parameters; the ones with `requires_grad` are looked at.
        loss: Computes the loss from the model in its present mode, train or eval.

    Raises:
        ValueError: No parameter takes a gradient.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("no parameter of the model takes a gradient (requires_grad)")
    start = Snapshot.take(model)
    try:
        yield Objective(loss, parameters, start)
    finally:
        start.restore()


def layers_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """List the layers: the modules that hold learned parameters of their own, in order.

    The order is that in which modules were assigned, which need not be the order of the
    forward pass. A parameter that two modules share belongs to the first.

    Returns:
        The names of the parameters of each, by the name of the module; `""` is the model itself.
    """
    layers: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
    return {layer: tuple(names) for layer, names in layers.items()}
