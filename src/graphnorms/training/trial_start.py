"""Watches how training that is not ours begins: its initial weights, and the order of its batches.

Norms are compared fairly if both are the same for every norm. The lab cannot make them so in a
user's own training, and so it looks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils.data import BatchSampler, SequentialSampler

from graphnorms.models.own.build import NORM_LAYERS

_MOST_PASSES: Final = 100


class TrialStart:
    """The initial weights of a trial apart from those of norms, and its order of batches.

    The model is the first module that is called and contains a norm of the trial, or the one that
    `see` is given. The order is that of torch's `BatchSampler`, and so of every `DataLoader` that
    shuffles and batches by itself.

    Attributes:
        norms: The norms that were made for the trial.
        weights: Hash of the initial weights; empty until a model is seen.
        parameters: Number of trainable parameters of the model.
        order: Hash of the item ids of each complete pass in random order, the first ones.
    """

    _SEEN: Final = ("weights", "parameters", "order")

    def __init__(self) -> None:
        self.norms: WeakSet[nn.Module] = WeakSet()
        self.weights = ""
        self.parameters = 0
        self.order: list[str] = []

    def see(self, model: nn.Module) -> None:
        """Note the weights of a model, unless one was seen before."""
        tensors = [*model.parameters(), *model.buffers()]
        if self.weights or any(
            isinstance(each, UninitializedParameter | UninitializedBuffer) for each in tensors
        ):
            return
        of_norms = {
            id(tensor)
            for module in model.modules()
            if self._is_norm(module)
            for tensor in (*module.parameters(), *module.buffers())
        }
        # By value and not by name: models with and without a norm may number their parts otherwise.
        values = sorted(_digest(each) for each in tensors if id(each) not in of_norms)
        self.weights = hashlib.sha256("".join(values).encode()).hexdigest()[:16]
        trained = (each for each in model.parameters() if each.requires_grad)
        self.parameters = sum(each.numel() for each in trained)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at what the block trains."""

        def look(module: nn.Module, args: Any) -> None:
            if any(map(self._is_norm, module.modules())):
                if module not in self.norms:
                    self.see(module)
                if self.weights:
                    hook.remove()

        hook = register_module_forward_pre_hook(look)
        plain = BatchSampler.__iter__

        def recorded(sampler: Any) -> Iterator[list[int]]:
            if isinstance(sampler.sampler, SequentialSampler):
                yield from plain(sampler)
                return
            digest, last = hashlib.sha256(), len(sampler)
            for number, batch in enumerate(plain(sampler), 1):
                digest.update(f"{batch};".encode())
                # Before the last is used: Lightning asks for no more than there are.
                if number == last and len(self.order) < _MOST_PASSES:
                    self.order.append(digest.hexdigest()[:16])
                yield batch

        setattr(BatchSampler, "__iter__", recorded)  # noqa: B010 - for mypy
        try:
            yield
        finally:
            setattr(BatchSampler, "__iter__", plain)  # noqa: B010
            hook.remove()

    def take_up(self, seen: Mapping[str, Any]) -> None:
        """Go on from what an earlier attempt of the trial had seen, see `seen`."""
        self.weights, self.parameters, self.order = (seen[name] for name in self._SEEN)

    def seen(self) -> dict[str, Any]:
        """Return what was seen so far, for `take_up`."""
        return {name: getattr(self, name) for name in self._SEEN}

    def to_dict(self) -> dict[str, Any]:
        """Return what was seen, as JSON-able data."""
        seen: dict[str, Any] = {"weights": self.weights, "order": self.order}
        return {name: value for name, value in seen.items() if value}

    def _is_norm(self, module: nn.Module) -> bool:
        return module in self.norms or isinstance(module, NORM_LAYERS)


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().contiguous()
    head = f"{values.dtype} {tuple(values.shape)} "
    data = values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b""
    return hashlib.sha256(head.encode() + data).hexdigest()
