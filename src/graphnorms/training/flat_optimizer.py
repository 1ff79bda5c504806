"""The optimizer of a trial, which steps all parameters as one vector where it may."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from graphnorms.kernels.joined_parameters import JoinedParameters
from graphnorms.tracing import flattened
from graphnorms.training.optimizer import make_optimizer


class FlatOptimizer:
    """Steps parameters by an optimizer of torch, as one vector as long as all have gradients.

    torch's optimizers cost Python for each parameter, more than the step of a small model. From the
    first step on the parameters are views of one vector, which is what the optimizer sees. A
    parameter without a gradient must stay as it is, which a part of a vector cannot: from such a
    step on, each parameter is stepped by itself, with the state that it has so far.

    Args:
        text, rate, weight_decay: See `make_optimizer`.
        parameters: What it optimizes.
        flat: Whether the parameters may become views; they must not share memory then. Off the
            CPU, or with several dtypes, they stay apart anyway.
    """

    def __init__(
        self,
        text: str,
        parameters: Iterable[nn.Parameter],
        rate: float,
        weight_decay: float,
        *,
        flat: bool,
    ) -> None:
        self.parameters = list(parameters)
        self._made_of = text, rate, weight_decay
        self._apart = make_optimizer(text, self.parameters, rate, weight_decay)
        self._trained = [each for each in self.parameters if each.requires_grad]
        self._joined: JoinedParameters | None = None
        self._whole: torch.optim.Optimizer | None = None
        kinds = {(each.dtype, each.is_cpu) for each in self._trained}
        self._may_join = flat and len(kinds) == 1 and (*kinds,)[0][1]

    def joined(self) -> AbstractContextManager[None]:
        """Let chains of kernels in the block have the vector as their parameter, if there is one.

        Nothing in the block may need a second derivative.
        """
        return nullcontext() if self._joined is None else self._joined

    def forget_gradients(self) -> None:
        """Set all gradients to `None`."""
        for parameter in self.parameters:
            parameter.grad = None
        if self._joined is not None:
            self._joined.forget_gradients()

    def step(self, rate: float, clip: float | None = None) -> None:
        """Step along the gradients.

        Args:
            rate: The learning rate.
            clip: The norm to which all gradients together are clipped.
        """
        if self._may_join and not self._gather():
            self._part()
        whole, joined = self._whole, self._joined
        if whole is None or joined is None:
            whole, clipped = self._apart, self.parameters
            if any(each.grad is None for each in self.parameters):
                _leave_fused_momentum(whole)
        else:
            clipped = [joined.vector]
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(clipped, clip)
        for group in whole.param_groups:
            group["lr"] = rate
        whole.step()
        if joined is not None:  # what it has next comes from chains
            joined.forget_gradients()

    def _gather(self) -> bool:
        """Put all gradients into that of the vector; return whether every parameter has one."""
        grads = [(each, each.grad) for each in self._trained if each.grad is not None]
        joined = self._joined
        if joined is not None and joined.vector.grad is not None:
            for parameter, grad in grads:
                joined.part(joined.vector.grad, parameter).add_(grad)
            return joined.have_gradients({id(parameter) for parameter, _ in grads})
        if len(grads) < len(self._trained):
            return False
        if joined is None:
            joined = self._join()
        joined.vector.grad = flattened([grad for _, grad in grads])
        return True

    def _join(self) -> JoinedParameters:
        """Make the parameters views of one vector, and an optimizer of it."""
        vector = nn.Parameter(flattened([each.detach() for each in self._trained]))
        self._joined = joined = JoinedParameters(vector, self._trained)
        for parameter in self._trained:
            parameter.data = joined.part(vector.detach(), parameter)
        text, rate, weight_decay = self._made_of
        self._whole = make_optimizer(text, [vector], rate, weight_decay)
        return joined

    def _part(self) -> None:
        """Step each parameter by itself from now on, with its part of the state."""
        self._may_join = False
        joined, whole = self._joined, self._whole
        self._joined = self._whole = None
        if joined is None or whole is None:
            return
        joined.give_gradients()
        for name, value in whole.state[joined.vector].items():
            is_whole = isinstance(value, Tensor) and value.shape == joined.vector.shape
            for parameter in self._trained:
                part = joined.part(value, parameter) if is_whole else value
                kept = part.clone() if isinstance(part, Tensor) else part
                self._apart.state[parameter][name] = kept


def _leave_fused_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Step by SGD unfused: fused it cannot have a parameter whose first gradient comes late.

    See `findings/torch-fused-sgd-late-gradient.sh`.
    """
    for group in optimizer.param_groups:
        if group.get("momentum"):
            group["fused"] = False
