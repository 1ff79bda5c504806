"""User code that trains: finding it, and the arguments that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from graphnorms.user_code import UserFunction

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

_NOT_VARIED: Final = ("learning_rate", "epochs", "device", "model", "norms")
"""Names that treatments share, or that a comparison has for something else."""

_BY_PLACE: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
)

_BY_TRAINER: Final = ("epochs", "batch_size")
"""Options that a Trainer of Lightning, or the lab's loaders for it, always take."""


@dataclass(frozen=True, kw_only=True)
class Trainer(UserFunction):
    """User code that trains.

    Args:
        by: `"trial"`: a function that trains. `"lightning"`: it makes a LightningModule.
    """

    by: str = "trial"

    @classmethod
    def of(cls, trial: str | Callable[..., Any], by: str = "trial") -> Self:
        """Find a training function by its name, or wrap one.

        Raises:
            ValueError: It does not exist, its source cannot be read, or it has an argument that
                nobody gives.
        """
        made = cls._of(trial, "scores", by=by)
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
        made.require_source(model["source"])
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

    def variable(self) -> list[str]:
        """List what can be varied: options of `CHOSEN` that the function takes, and arguments of
        its own that have a default.
        """
        known = {*(OF_LIGHTNING if self.by == "lightning" else GIVEN), *_NOT_VARIED}
        parameters = inspect.signature(self.function).parameters
        own = [
            name
            for name, each in parameters.items()
            if name in CHOSEN or (each.default is not each.empty and each.kind not in _BY_PLACE)
        ]
        always = _BY_TRAINER if self.by == "lightning" else ()
        return [name for name in dict.fromkeys((*own, *always)) if name not in known]

    def asked(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of some arguments that the function takes."""
        parameters = inspect.signature(self.function).parameters
        return {name: offered[name] for name in parameters if name in offered}
