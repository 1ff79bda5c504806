"""Producers: the module whose result each norm of a model gets, and nothing else uses."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from graphnorms.dropin.call_once import arguments_of
from graphnorms.dropin.known_norms import KnownNorm, recognize

Producers = Mapping[int, nn.Module | str]
"""By the id of a norm: the module whose result it gets, or why that is not known."""

_HARMLESS: Final = ("__get__", "size", "dim", "ndimension", "numel", "stride", "is_contiguous")
"""Functions that look at the shape of a tensor, or its dtype, and at no value."""


def preceding_in_sequences(model: nn.Module) -> Producers:
    """Return the modules in front of those that are in one `nn.Sequential`, and nowhere else."""
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    found: dict[int, nn.Module | str] = {}
    for module in model.modules():
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for first, second in itertools.pairwise(module):
                if places[id(first)] == places[id(second)] == 1:
                    found[id(second)] = first
    return found


def observed(
    model: nn.Module, norms: list[KnownNorm], example: Any
) -> tuple[Producers, list[Tensor]]:
    """Call the model; return what is in front of its norms, and its outputs."""
    watch = _Watch(model, norms)
    try:
        with watch:
            outputs = outputs_of(model, example)
    finally:
        watch.detach()
    return watch.in_front(outputs), [each.clone() for each in outputs]


def outputs_of(model: nn.Module, example: Any) -> list[Tensor]:
    """Call the model without gradients; return the tensors of its result."""
    args, kwargs = arguments_of(model, example)
    with torch.no_grad():
        return [each for each in tree_leaves(model(*args, **kwargs)) if isinstance(each, Tensor)]


class _Watch(TorchFunctionMode):
    """Sees in one call of a model which norm gets the result of which linear layer, and who else.

    Args:
        model: The model.
        norms: Its norms.
    """

    def __init__(self, model: nn.Module, norms: list[KnownNorm]) -> None:
        super().__init__()
        # Tensors are held until the end of the call, so that no other has the id of one.
        self._made: dict[int, tuple[Tensor, nn.Module]] = {}
        self._gets: dict[int, list[tuple[Tensor, bool]]] = {}  # by the id of a norm: its inputs
        self._busy: list[int] = []  # the inputs of the norms that are running
        self._shared: set[int] = set()  # results that are used beside the norm
        self._calls: Counter[int] = Counter()  # of modules, by id
        self._handles = []
        for module in model.modules():
            if recognize(module) is None:
                self._handles.append(module.register_forward_hook(self._note_result))
        for norm in norms:
            before = norm.module.register_forward_pre_hook(self._enter, with_kwargs=True)
            after = norm.module.register_forward_hook(self._leave, always_call=True)
            self._handles += [before, after]

    def detach(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()

    def in_front(self, outputs: list[Tensor]) -> Producers:
        """Return what is in front of each norm, given the outputs of the model."""
        self._shared |= {id(each) for each in outputs} & self._made.keys()
        makers = {id_: maker for id_, (_, maker) in self._made.items()}
        alive = {id_: weakref.ref(result) for id_, (result, _) in self._made.items()}
        inputs = {
            norm: [(tuple(x.shape), masked, id(x)) for x, masked in gets]
            for norm, gets in self._gets.items()
        }
        self._made.clear()
        self._gets.clear()
        gc.collect()
        self._shared |= {id_ for id_, result in alive.items() if result() is not None}
        return {norm: self._maker(gets, makers) for norm, gets in inputs.items()}

    def _maker(
        self, gets: list[tuple[tuple[int, ...], bool, int]], makers: Mapping[int, nn.Module]
    ) -> nn.Module | str:
        """Return the module whose results are a norm's inputs, or why there is none.

        Args:
            gets: The shape and the id of each input, and whether there was a mask.
            makers: Modules by the ids of their results.
        """
        for shape, masked, _ in gets:
            if len(shape) != 2:
                return f"its input is {shape}, not (nodes, channels)"
            if masked:
                return "it gets a mask, whose rows it would not leave as they are"
        found = {id(makers[given]): makers[given] for *_, given in gets if given in makers}
        if len(found) != 1 or any(given not in makers for *_, given in gets):
            return "it gets no result of a module as it is"
        (maker,) = found.values()
        if self._calls[id(maker)] != len(gets):
            return f"the {type(maker).__name__} in front of it is called elsewhere, too"
        if self._shared & {given for *_, given in gets}:
            return f"the result of the {type(maker).__name__} in front of it is used elsewhere, too"
        return maker

    def _note_result(self, module: nn.Module, args: Any, output: Any) -> None:
        self._calls[id(module)] += 1
        if isinstance(output, Tensor):  # of a container it is that of what is inside
            self._made.setdefault(id(output), (output, module))

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x: Any = args[0] if args else kwargs.get("x", kwargs.get("input"))
        self._busy.append(id(x))
        self._gets.setdefault(id(module), []).append((x, kwargs.get("mask") is not None))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._busy.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, and note which results it uses."""
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        used = {id(each) for each in given} & (self._made.keys() - {*self._busy})
        versions = [each._version for each in given] if used else []
        result = func(*args, **(kwargs or {}))
        if not used or (func.__name__ in _HARMLESS and not _has_tensor(result)):
            return result
        # Dropout in `eval()` returns what it is given.
        is_nothing = {id(result)} == used and versions == [each._version for each in given]
        self._shared |= set() if is_nothing else used
        return result


def _has_tensor(result: Any) -> bool:
    return any(isinstance(each, Tensor) for each in tree_leaves(result))
