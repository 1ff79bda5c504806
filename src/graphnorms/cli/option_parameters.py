"""The options of a comparison on the command line, made from their definition in the lab."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Annotated, Any, Final, TypeAlias

import typer

from graphnorms.cli import completion
from graphnorms.lab.option_kinds import Group
from graphnorms.lab.option_table import about
from graphnorms.lab.options import Options
from graphnorms.lab.treatments import VARIABLE

Dataset: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="A bundled set (MUTAG, nci5k, clusters), a TUDataset's name, pyg:Class/name, a table "
        "of molecules (.csv, .tsv, .parquet), frames of atoms (.xyz), a folder (TU format, OGB, "
        "nodes.csv and edges.csv, GraphML), .graphml, .npz, a powerful-gnns text file, or "
        "module:factory.",
        show_default="MUTAG",
        autocompletion=completion.datasets,
    ),
]

PANELS: Final[dict[Group, str]] = {
    "comparison": "Comparison",
    "model": "Model",
    "data": "Data",
    "training": "Training",
    "machine": "Machine",
    "output": "Run and output",
}
"""The headings of the help."""

_TYPES: Final[dict[str, Any]] = {"int": int, "float": float, "bool": bool}


_NUMBERS: Final[dict[str, Callable[[str], float]]] = {"learning_rate": float, "num_neighbors": int}
"""Options that are several numbers."""


def takes_options(*names: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command options of a comparison; it gets them as one argument, `options`.

    Args:
        names: The options; by default all.
    """
    wanted = names or tuple(each.name for each in fields(Options))

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = inspect.signature(command, eval_str=True)

        @functools.wraps(command)
        def run(**given: Any) -> int:
            options = {name: _value(name, given.pop(name)) for name in wanted}
            return command(**given, options=Options(**options))

        parameters: list[inspect.Parameter] = []
        for each in own.parameters.values():
            parameters += map(parameter, wanted) if each.name == "options" else [each]
        run.__dict__["__signature__"] = own.replace(parameters=parameters)
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def parameter(name: str) -> inspect.Parameter:
    """Return an option as a parameter of a command."""
    option, field = about(name), Options.__dataclass_fields__[name]
    kind: Any = _TYPES.get(str(field.type).partition(" ")[0], str)
    if option.kind.entry is not None:
        kind = str
    elif name == "vary":
        kind = list[str]
    only_on = kind is bool and len(option.flags) == 1
    flags = ("/".join(option.flags),) if kind is bool else option.flags
    complete = completion.norms if name == "norms" else completion.one_of(*option.words)
    about_it = typer.Option(
        *flags,
        help=option.help,
        show_default=option.default,
        autocompletion=complete,
        rich_help_panel=PANELS[option.group],
    )
    default = False if only_on else field.default
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind if default is not None else kind | None, about_it],
    )


def _varied(given: Sequence[str]) -> dict[str, list[Any]]:
    """Convert `layers=2,4,8`, once for each option, into the values of options by name."""
    found: dict[str, list[Any]] = {}
    for text in given:
        name, _, values = text.partition("=")
        parts = [part.strip() for part in values.split(",") if part.strip()]
        if not name.strip() or not parts:
            raise ValueError(
                f"vary is {text!r}, expected an option and its values, as in layers=2,4,8"
            )
        option = {"lr": "learning_rate"}.get(name.strip(), name.strip().replace("-", "_"))
        found.setdefault(option, []).extend(_typed(option, part) for part in parts)
    return found


def _typed(option: str, text: str) -> Any:
    """Convert the text of a value to the type of an option; as it is if it is none of that.

    What is no option that varies is an argument of user code: a number, true, false, or a text.
    """
    if option not in VARIABLE:
        return _plain(text)
    field = Options.__dataclass_fields__[option]
    kind = _TYPES.get(str(field.type).partition(" ")[0], str)
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def _plain(text: str) -> int | float | bool | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def _value(name: str, given: Any) -> Any:
    """Convert what the command line parsed into the value of an option."""
    if name in _NUMBERS and given is not None:
        try:
            return [_NUMBERS[name](part) for part in given.split(",") if part.strip()]
        except ValueError:
            flag = about(name).flags[0].lstrip("-")
            raise ValueError(f"{flag} is {given!r}, expected numbers separated by commas") from None
    if name == "vary":
        return _varied(given) if given else None
    unsaid = given is False and len(about(name).flags) == 1  # a flag that can only be set
    return Options.__dataclass_fields__[name].default if unsaid else given
