"""What repeats a comparison: a command line, a call in Python, or a TOML file of options."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import GraphnormsError, unknown_name
from graphnorms.files import replacing
from graphnorms.lab.option_table import about
from graphnorms.lab.options import Options

if TYPE_CHECKING:
    from graphnorms.lab.settings import Settings
    from graphnorms.lab.sources import Dataset

RUN_FILE: Final = "run.toml"
_OF_A_CALL: Final = ("config", "resume")
"""Options that a file cannot have: they say what a call does with it."""


def command_of(
    settings: Settings,
    reading: Mapping[str, Any],
    *,
    in_memory: bool = False,
    model_in_memory: bool = False,
) -> str:
    """Return the command line that repeats a comparison, or a call if it was given objects.

    Args:
        settings: Of the comparison.
        reading, in_memory: Of the data, see `graphnorms.lab.sources.Source`.
        model_in_memory: Whether the model was given as a function.
    """
    options = Options.of(settings, reading).said()
    lost = [name for name, kept in settings.own_norms.items() if kept.get("in_memory")]
    if in_memory or model_in_memory or lost:
        texts = {name: repr(value) for name, value in options.items()}
        norms = (name if name in lost else repr(name) for name in settings.norms)
        texts["norms"] = f"({', '.join(norms)})"
        if model_in_memory:
            texts["trial" if "trial" in options else "model"] = settings.model
        dataset = "dataset" if in_memory else repr(settings.dataset)
        arguments = ", ".join(f"{name}={text}" for name, text in texts.items())
        return f"graphnorms.compare({dataset}, {arguments})"
    return command_with(settings.dataset, options)


def command_with(dataset: str, options: Mapping[str, Any]) -> str:
    """Return the command line that compares norms on data with these options, given by name."""
    words = ["graphnorms", "compare", dataset]
    for name, value in options.items():
        flags = about(name).flags or (f"--{name.replace('_', '-')}",)
        if isinstance(value, bool):
            words += flags[:1] if value else flags[1:]
        elif name == "vary":
            for option, values in value.items():
                words += [flags[0], f"{option.replace('_', '-')}={_text(values)}"]
        elif name == "search" and not isinstance(value, str):
            words += [flags[0], ",".join(f"{each}={text}" for each, text in value.items())]
        else:
            words += [flags[0], _text(value)]
    return shlex.join(words)


def _text(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def write_run_file(path: Path, dataset: str, options: Mapping[str, Any]) -> None:
    """Write options as TOML, for `--config`.

    Args:
        path: The file.
        dataset: Name or path of the data, as it was given.
        options: By name.

    Raises:
        OSError: It cannot be written.
    """
    lines = ["# graphnorms compare --config FILE repeats this comparison, in the folder where"]
    lines += ["# relative paths and module:function mean the same.", f"dataset = {_toml(dataset)}"]
    lines += [f"{name} = {_toml(value)}" for name, value in options.items()]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")


def with_file(dataset: Dataset, options: Options) -> tuple[Dataset, Options]:
    """Complete what was given with what the file `options.config` has.

    A relative path in the file means what it means on the command line: it starts at the current
    folder, not at the file. The name of the data is part of every trial, and stays as it is.

    Raises:
        ValueError: The file is no TOML, or has an entry that is no option.
        OSError: It cannot be read.
    """
    if options.config is None:
        return dataset, options
    path = Path(options.config)
    found = _read(path)
    if options.resume:  # a run goes on as it was planned
        found.pop("time", None)
    stored = found.pop("dataset", None)
    if stored is not None and not isinstance(stored, str):
        raise ValueError(f"{path}: dataset is {stored!r:.100}, expected a name or a path")
    given = {name: value for name, value in vars(options).items() if value not in (None, False)}
    # An option that can only be set is False where it is not given; a file may set it.
    given |= {
        name: False
        for name, value in vars(options).items()
        if value is False and len(about(name).flags) == 2
    }
    try:
        Options(**found).check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return (stored if dataset is None else dataset), replace(options, **found | given)


def _read(path: Path) -> dict[str, Any]:
    known = [each.name for each in fields(Options) if each.name not in _OF_A_CALL]
    if path.is_dir():
        path = path / RUN_FILE
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GraphnormsError(f"there is no file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {' '.join(str(error).split())}") from None
    # As on the command line: lr, norm-place.
    names = {flag.strip("-"): name for name in known for flag in about(name).flags[:1]}
    named: dict[str, Any] = {}
    for given, value in found.items():
        name = names.get(given, given.replace("-", "_"))
        if name in _OF_A_CALL:
            raise ValueError(f"{path}: {name} belongs on the command line, not into the file")
        if name != "dataset" and name not in known:
            raise ValueError(f"{path}: {unknown_name('option', given, ['dataset', *known])}")
        named[name] = value
    return named


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_toml(one)}' for name, one in value.items())} }}"
    if isinstance(value, int | float):
        return repr(value)
    # A JSON string is a TOML string, but for the character DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
