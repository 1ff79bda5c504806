"""The function that makes a model of the user's own, and what identifies it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from graphnorms.errors import unknown_name
from graphnorms.models.config import HEADS, ModelConfig
from graphnorms.user_code import find, is_spec, source_hash

NORM_ARGUMENTS: Final = ("norm", "norm_name")
OFFERED: Final = (
    "in_channels", "out_channels", "edge_channels", "edge_dim", "task", "level", *NORM_ARGUMENTS,
)  # fmt: skip
"""What a factory may ask for by name, beside its sizes."""

_SIZES: Final = {
    "hidden": "hidden", "hidden_channels": "hidden", "layers": "layers", "num_layers": "layers",
}  # fmt: skip
_DEFAULTS: Final = ModelConfig(name="gin")


@dataclass(frozen=True, kw_only=True)
class ModelFactory:
    """A function that makes a model.

    Args:
        name: `module:function`, or what the function calls itself if it came as an object.
        source: The hash of its source, see `graphnorms.user_code.source_hash`.
        function: The function.
        in_memory: Whether it came as an object, so that nobody can find it again by its name.
    """

    name: str
    source: str
    function: Callable[..., Any]
    in_memory: bool = False

    @classmethod
    def of(cls, model: str | Callable[..., Any]) -> ModelFactory:
        """Find a factory by its name, or take a function or class as one.

        Raises:
            ValueError: There is none, or its source cannot be read.
        """
        if isinstance(model, str):
            function = find(model, "a model")
            source = source_hash(function, model.partition(":")[0])
            return cls(name=model, source=source, function=function)
        source = source_hash(model)
        named = model
        while hasattr(named, "func"):  # of a functools.partial
            named = named.func
        name = named.__qualname__.rpartition("<locals>.")[2].strip("<>")
        return cls(name=name, source=source, function=model, in_memory=True)


@dataclass(frozen=True, kw_only=True)
class OwnModelConfig:
    """What a model of the user's own is made from, apart from its normalization.

    Args:
        name, source: Those of the `ModelFactory`.
        layers, hidden: What the factory is given for these, if anything was said.
        head: `"graph"`: one result per graph; `"node"`: one per node.

    Raises:
        ValueError: The head is unknown.
    """

    name: str
    source: str
    layers: int | None = None
    hidden: int | None = None
    head: str = "graph"

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise unknown_name("head", self.head, HEADS)

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data; `OwnModelConfig(**data)` reads it back."""
        return asdict(self)

    def asked_of(self, factory: Callable[..., Any]) -> dict[str, Any]:
        """List the arguments that a factory is to be given, with those values that are known here.

        Raises:
            ValueError: It asks for what there is not, or does not take what was chosen.
        """
        sizes = {"hidden": self.hidden, "layers": self.layers}
        taken = set[str]()
        asked: dict[str, Any] = {}
        for name, parameter in inspect.signature(factory).parameters.items():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            required = parameter.default is parameter.empty
            size = _SIZES.get(name)
            if size is not None:
                taken.add(size)
                if required or sizes[size] is not None:
                    asked[name] = sizes[size] or getattr(_DEFAULTS, size)
            elif name in OFFERED:
                asked[name] = None
            elif required:
                raise ValueError(
                    f"{self.name} asks for {name!r}, which is not among what the lab gives: "
                    f"{', '.join((*OFFERED, *_SIZES))}"
                )
        for size, value in sizes.items():
            if value is not None and size not in taken:
                raise ValueError(f"{size} is {value}, but {self.name} takes no {size}")
        return asked

    def find(self) -> Callable[..., Any]:
        """Find the factory by its name.

        Raises:
            ValueError: There is none of that name, or its source is another one now.
        """
        if not is_spec(self.name):
            raise ValueError(
                f"the model {self.name} was made by a function in memory, which is not given"
            )
        found = ModelFactory.of(self.name)
        if found.source != self.source:
            raise ValueError(
                f"the source of {self.name} is not what it was when the run began; was a file "
                "changed?"
            )
        return found.function
