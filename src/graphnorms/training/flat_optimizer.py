"""The optimizer of a trial, which steps all parameters as one vector where it may."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

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
        self._vector: nn.Parameter | None = None
        self._whole: torch.optim.Optimizer | None = None
        kinds = {(each.dtype, each.is_cpu) for each in self._trained}
        self._may_join = flat and len(kinds) == 1 and (*kinds,)[0][1]

    def forget_gradients(self) -> None:
        """Set all gradients to `None`."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, rate: float, clip: float | None = None) -> None:
        """Step along the gradients.

        Args:
            rate: The learning rate.
            clip: The norm to which all gradients together are clipped.
        """
        grads = [each.grad for each in self._trained]
        present = [each for each in grads if each is not None]
        if self._may_join and len(present) < len(grads):
            self._part()
        if not self._may_join:
            if any(each.grad is None for each in self.parameters):
                _leave_fused_momentum(self._apart)
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(self.parameters, clip)
            _step(self._apart, rate)
            return
        if self._vector is None or self._whole is None:
            self._vector, self._whole = self._join()
        self._vector.grad = flattened(present)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self._vector, clip)
        _step(self._whole, rate)

    def _join(self) -> tuple[nn.Parameter, torch.optim.Optimizer]:
        """Make the parameters views of one vector, and an optimizer of it."""
        vector = nn.Parameter(flattened([each.detach() for each in self._trained]))
        for parameter, view in zip(self._trained, self._views(vector.detach()), strict=True):
            parameter.data = view
        text, rate, weight_decay = self._made_of
        return vector, make_optimizer(text, [vector], rate, weight_decay)

    def _part(self) -> None:
        """Step each parameter by itself from now on, with its part of the state."""
        self._may_join = False
        if self._vector is None or self._whole is None:
            return
        for name, value in self._whole.state[self._vector].items():
            whole = isinstance(value, Tensor) and value.shape == self._vector.shape
            parts = self._views(value) if whole else [value] * len(self._trained)
            for parameter, part in zip(self._trained, parts, strict=True):
                kept = part.clone() if isinstance(part, Tensor) else part
                self._apart.state[parameter][name] = kept
        self._vector = self._whole = None

    def _views(self, vector: Tensor) -> list[Tensor]:
        """Return the part of each parameter in a vector, in its shape."""
        parts = vector.split([each.numel() for each in self._trained])
        return [part.view(each.shape) for part, each in zip(parts, self._trained, strict=True)]


def _leave_fused_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Step by SGD unfused: fused it cannot have a parameter whose first gradient comes late.

    See `findings/torch-fused-sgd-late-gradient.sh`.
    """
    for group in optimizer.param_groups:
        if group.get("momentum"):
            group["fused"] = False


def _step(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
