"""User code that trains: finding it, and the arguments that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from graphnorms.user_code import find, source_hash

GIVEN: Final = ("norm", "split", "seed", "report")
"""Arguments that a training function may take by name."""

CHOSEN: Final = (
    "learning_rate",
    "epochs",
    "batch_size",
    "weight_decay",
    "layers",
    "hidden",
    "dropout",
    "device",
)
"""Further ones, with the value of the option of that name."""

OF_LIGHTNING: Final = (
    "norm",
    "norm_name",
    "split",
    "seed",
    "in_channels",
    "out_channels",
    "edge_channels",
    "edge_dim",
    "task",
    "level",
)
"""Arguments that what makes a LightningModule may take by name."""

_BY_TRAINER: Final = ("epochs", "batch_size")
"""Options that a Trainer of Lightning, or the lab's loaders for it, always take."""


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """User code that trains.

    Args:
        name: `module:function`, or the name of the function if it was given as an object.
        source: Hash of its source, see `graphnorms.user_code.source_hash`.
        function: The function.
        in_memory: Whether it was given as an object that cannot be imported by name.
        by: `"trial"`: a function that trains. `"lightning"`: it makes a LightningModule.
    """

    name: str
    source: str
    function: Callable[..., Any]
    in_memory: bool = False
    by: str = "trial"

    @classmethod
    def of(cls, trial: str | Callable[..., Any], by: str = "trial") -> Self:
        """Find a training function by its name, or wrap one.

        Raises:
            ValueError: It does not exist, its source cannot be read, or it has an argument that
                nobody gives.
        """
        if isinstance(trial, str):
            function = find(trial, "scores")
            source = source_hash(function, trial.partition(":")[0])
            made = cls(name=trial, source=source, function=function, by=by)
        else:
            named = trial
            while hasattr(named, "func"):  # unwrap functools.partial
                named = named.func
            source = source_hash(trial)
            name = named.__qualname__.rpartition("<locals>.")[2].strip("<>")
            made = cls(name=name, source=source, function=trial, in_memory=True, by=by)
        made.taken()
        return made

    @classmethod
    def named(cls, model: Mapping[str, Any]) -> Self:
        """Import the function of a trial by its name.

        Args:
            model: The `model` of the `TrialConfig`.

        Raises:
            ValueError: It does not exist, or its source has changed.
        """
        made = cls.of(model["trial"], model["by"])
        if made.source != model["source"]:
            raise ValueError(
                f"the source of {made.name} is not what it was when the run began; was a file "
                "changed?"
            )
        return made

    def taken(self, given: Sequence[str] = ()) -> list[str]:
        """List the options of `CHOSEN` that the function gets.

        It gets those without a default, those that were given, and every learning rate.

        Args:
            given: Options that were given.

        Raises:
            ValueError: It has an argument that nobody gives, or takes none that was given.
        """
        parameters = inspect.signature(self.function).parameters
        lightning = self.by == "lightning"
        known = (*(OF_LIGHTNING if lightning else GIVEN), *CHOSEN)
        always = _BY_TRAINER if lightning else ()
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        for name, parameter in parameters.items():
            required = parameter.default is parameter.empty and parameter.kind not in kinds
            if name not in known and required:
                raise ValueError(
                    f"{self.name} has the argument {name!r}, expected some of {', '.join(known)}"
                )
        for name in given:
            if name in CHOSEN and name not in (*parameters, *always):
                raise ValueError(
                    f"{name} is given, but {self.name} takes no {name}; leave it out, or name it "
                    "as an argument"
                )
        return [
            name
            for name in CHOSEN
            if name in always
            or (
                name in parameters
                and (
                    name in ("learning_rate", *given)
                    or parameters[name].default is inspect.Parameter.empty
                )
            )
        ]

    def asked(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of some arguments that the function takes."""
        parameters = inspect.signature(self.function).parameters
        return {name: offered[name] for name in parameters if name in offered}
