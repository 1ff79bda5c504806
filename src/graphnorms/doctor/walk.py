"""One pass over the batches: what every norm of a model is given, and what it returns."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from graphnorms.doctor.example import Example
from graphnorms.dropin.batch_of import Frame, current, is_vector, segments_of
from graphnorms.dropin.call_watch import watch_model
from graphnorms.dropin.known_norms import KnownNorm, find_norms, is_per_graph, recognize
from graphnorms.segments import Segments

_RELU: Final = frozenset(
    (torch.relu, torch.relu_, nn.functional.relu, nn.functional.relu_, Tensor.relu, Tensor.relu_)
)


class Call(NamedTuple):
    """A call of a norm in `train()`."""

    x: Tensor
    """A copy of the features."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    """The other arguments."""
    y: Tensor
    """A copy of the result."""
    rows_are: str
    """`"nodes"`, `"graphs"` (behind a pooling), `"edges"`, `"padded"` (graphs padded to one size),
    `"sequence"` (so, with a dimension for the graphs), or `"other"`."""
    segments: Segments | None
    """The graphs of the rows, if these are nodes and the graphs are known."""
    graphs: int
    """Number of graphs of the batch, 0 if it is not known."""
    nodes: int
    """Number of nodes of the batch, 0 if it is not known."""
    longest: int
    """Nodes of the largest graph, 0 if it is not known."""
    real: Tensor | None
    """False for rows of padding, if a mask of the model tells them."""
    example: Example
    """The batch."""

    def repeat(self, norm: nn.Module, x: Tensor | None = None, **changed: Any) -> Tensor:
        """Call a norm again with these arguments, or with others in their place."""
        given = [changed.get(f"argument {i}", value) for i, value in enumerate(self.args)]
        kwargs = {key: changed.get(key, value) for key, value in self.kwargs.items()}
        y: Tensor = first_tensor(norm(self.x if x is None else x, *given, **kwargs))
        return y

    def named(self) -> dict[str, Any]:
        """Return the other arguments by the names that `repeat` takes."""
        return {f"argument {i}": value for i, value in enumerate(self.args)} | self.kwargs

    def given_batch(self) -> dict[str, Tensor | Segments]:
        """Return the graphs of the rows among the arguments, by name."""
        return {
            name: value
            for name, value in self.named().items()
            if isinstance(value, Segments)
            or (is_vector(value) and value.shape[0] == self.x.shape[0])
        }


@dataclass(eq=False)
class Norm:
    """A norm of the model, and its calls.

    Args:
        name: Its qualified name; the first, if there are several.
        module: The norm.
        known: What is known of it; `None` for one that is only named like a norm.
        calls: Its calls in the order of the batches.
        behind: For each name of a module with a bias, the bias, if its result is the norm's input.
        followed: Whether a ReLU takes its result.
    """

    name: str
    module: nn.Module
    known: KnownNorm | None
    calls: list[Call] = field(default_factory=list)
    behind: dict[str, Tensor] = field(default_factory=dict)
    followed: bool = False

    @property
    def library(self) -> str:
        """The package that it comes from."""
        if self.known is not None:
            return self.known.library
        return type(self.module).__module__.partition(".")[0]

    @property
    def takes_batch(self) -> bool:
        """Whether it is a norm of graphs, which has to be given the batch."""
        if self.known is not None and self.known.library != "torch":
            return is_per_graph(self.module)
        return "batch" in inspect.signature(self.module.forward).parameters


def norms_of(model: nn.Module) -> list[Norm]:
    """List the norms of a model: those that are known, and those that are named like one."""
    holder = nn.ModuleDict({type(model).__name__: model}) if recognize(model) else model
    known, strangers = find_norms(holder)
    norms = [Norm(each.name, each.module, each) for each in known]
    for text in strangers:
        name = text.partition(" (")[0]
        norms.append(Norm(name, model.get_submodule(name), None))
    order = {name: i for i, (name, _) in enumerate(holder.named_modules())}
    return sorted(norms, key=lambda norm: order.get(norm.name, len(order)))


def walk(model: nn.Module, norms: Sequence[Norm], examples: Sequence[Example]) -> list[Any]:
    """Run a model on batches in `train()`, and note the calls of its norms.

    Returns:
        The output for each batch.
    """
    outputs = []
    steps, _ = watch_model(model, {id(norm.module) for norm in norms}, None)
    model.train()
    try:
        for example in examples:
            with _watched(model, norms, example), torch.no_grad(), quiet():
                outputs.append(example.run(model))
    finally:
        for step in reversed(steps):
            step()
    return outputs


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings, which are those of the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Relus(TorchFunctionMode):
    """Notes the norms whose result a ReLU takes.

    Args:
        results: The norms and their results, by the id of the result.
    """

    def __init__(self, results: dict[int, tuple[Norm, Tensor]]) -> None:
        super().__init__()
        self._results = results

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in _RELU and args:
            norm, y = self._results.get(id(args[0]), (None, None))
            if norm is not None and y is args[0]:
                norm.followed = True
        return function(*args, **(kwargs or {}))


@contextmanager
def _watched(model: nn.Module, norms: Sequence[Norm], example: Example) -> Iterator[None]:
    made: dict[int, list[tuple[str, Tensor, Tensor, int]]] = {}  # by tensor; keeps it alive
    results: dict[int, tuple[Norm, Tensor]] = {}  # keeps them alive, so that ids are unique
    inside = {id(part) for norm in norms for part in norm.module.modules()}
    handles = []
    for name, module in model.named_modules():
        bias = module._parameters.get("bias")
        if id(module) in inside or bias is None or bias.dim() != 1:
            continue

        def note(module: nn.Module, args: Any, y: Any, name: str = name, b: Tensor = bias) -> None:
            if isinstance(y, Tensor):
                made.setdefault(id(y), []).append((name, b, y, y._version))

        handles.append(module.register_forward_hook(note))
    for norm in norms:
        entered: list[Tensor] = []  # x as it was; a norm or an activation may work in place

        def before(
            module: nn.Module,
            args: Any,
            kwargs: Any,
            norm: Norm = norm,
            entered: list[Tensor] = entered,
        ) -> None:
            x = args[0] if args else kwargs.get("x", kwargs.get("input"))
            if not isinstance(x, Tensor):
                return
            entered[:] = [x.detach().clone()]
            norm.behind = {
                name: bias
                for name, bias, y, version in made.get(id(x), [])
                if y is x and y._version == version and bias.shape[0] == x.shape[-1]
            }

        def after(
            module: nn.Module,
            args: Any,
            kwargs: Any,
            y: Any,
            norm: Norm = norm,
            entered: list[Tensor] = entered,
        ) -> None:
            y = first_tensor(y, None)
            if entered and y is not None:
                rest = dict(kwargs)
                if not args:
                    rest.pop("x", rest.pop("input", None))
                norm.calls.append(_call(entered.pop(), args[1:], rest, y, example))
                results[id(y)] = (norm, y)

        handles.append(norm.module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(norm.module.register_forward_hook(after, with_kwargs=True))
    try:
        with _Relus(results):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _call(
    x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], y: Tensor, example: Example
) -> Call:
    frame = current() or Frame()
    of_model = segments_of(frame.given)
    others = [part for given in frame.others for part in segments_of(given)]
    rows = x.shape[0]
    fitting = [part for part in (*of_model, *others) if part.num_rows == rows]
    first = of_model[0] if of_model else None
    nodes = first.num_rows if first is not None else 0
    graphs = first.num_segments if first is not None else 0
    longest = int(first.counts.max()) if first is not None and graphs else 0
    if first is None and not frame.missing:  # one graph
        nodes, graphs, fitting = rows, 1, [Segments.single(rows, x.device)]
    edges = example.edge_index
    where = "other"
    if fitting:
        where = "nodes"
    elif x.dim() == 3 and rows == graphs and longest in x.shape[1:]:
        where = "sequence"
    elif rows == graphs:
        where = "graphs"
    elif edges is not None and rows == edges.shape[1]:
        where = "edges"
    elif nodes and rows == graphs * longest:
        where = "padded"
    real = None
    for mask in example.masks:
        if mask.numel() == (rows if x.dim() == 2 else x.shape[0] * x.shape[1]):
            real = mask.reshape(-1)
    return Call(
        x,
        args,
        kwargs,
        y.detach().clone(),
        where,
        fitting[0] if fitting else None,
        graphs,
        nodes,
        longest,
        real,
        example,
    )


def first_tensor(value: Any, otherwise: Any = ...) -> Any:
    """Return a result, or the first tensor of several."""
    parts = value if isinstance(value, tuple | list) else (value,)
    for part in parts:
        if isinstance(part, Tensor):
            return part
    if otherwise is ...:
        raise ValueError(f"a norm returned something of type {type(value).__name__}")
    return otherwise
