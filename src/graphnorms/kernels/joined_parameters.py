"""Parameters that are parts of one vector, which has their gradients."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn


class JoinedParameters:
    """Parameters that are parts of one vector, which takes their gradients as one.

    A node of autograd's graph for each parameter costs as much as a kernel on a small batch. Inside
    the block a chain has the vector in place of its parameters: their gradients arrive in
    `vector.grad`, and not in their own.

    Args:
        vector: The vector.
        parameters: They view parts of it, one after another.
    """

    def __init__(self, vector: nn.Parameter, parameters: Sequence[nn.Parameter]) -> None:
        self.vector = vector
        self._parameters = tuple(parameters)
        ends = itertools.accumulate(each.numel() for each in parameters)
        self._places = {
            id(each): end - each.numel() for each, end in zip(parameters, ends, strict=True)
        }
        self._in_chains: set[int] = set()

    def part(self, vector: Tensor, parameter: Tensor) -> Tensor:
        """Return the part of a parameter in a tensor of the vector's size, in its shape."""
        place = self._places[id(parameter)]
        return vector[place : place + parameter.numel()].view(parameter.shape)

    def places_of(self, operands: Sequence[Tensor | None]) -> list[int] | None:
        """Return where the gradients of the operands of a chain begin, -1 where none is needed.

        `None` if one is no part of the vector, or is there twice.
        """
        known = self._places
        asked = [id(each) for each in operands if each is not None and each.requires_grad]
        if len(set(asked)) < len(asked) or not known.keys() >= set(asked):
            return None
        self._in_chains.update(asked)
        return [
            -1 if each is None or not each.requires_grad else known[id(each)] for each in operands
        ]

    def forget_gradients(self) -> None:
        """Begin a step: there is no gradient."""
        self.vector.grad = None
        self._in_chains.clear()

    def have_gradients(self, others: set[int]) -> bool:
        """Whether each parameter has a gradient, of a chain or as one of others, by `id`."""
        return self._places.keys() <= self._in_chains | others

    def give_gradients(self) -> None:
        """Set `grad` of the parameters that chains used to their part of `vector.grad`."""
        for parameter in self._parameters:
            if self.vector.grad is not None and id(parameter) in self._in_chains:
                parameter.grad = self.part(self.vector.grad, parameter)

    def __enter__(self) -> None:
        JOINED.now = self

    def __exit__(self, *error: object) -> None:
        JOINED.now = None


class _Open(threading.local):
    now: JoinedParameters | None = None


JOINED: Final = _Open()
