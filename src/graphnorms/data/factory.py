"""Graph sets that the user's own code makes: `module:factory`."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graphnorms.data.features import EdgeFeatures, Features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.pyg import from_pyg
from graphnorms.data.targets import TaskKind
from graphnorms.data.text import in_one_line
from graphnorms.errors import DatasetError

_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_SPEC = re.compile(f"{_DOTTED}:{_DOTTED}")


def is_factory(spec: str) -> bool:
    """Whether a text has the form `module:factory`."""
    return _SPEC.fullmatch(spec) is not None


def call_factory(
    spec: str,
    features: Features = "auto",
    *,
    task: TaskKind = "auto",
    edge_features: EdgeFeatures = "auto",
) -> GraphSet:
    """Import a module, call a function of it without arguments, and take what it returns.

    The module may be installed or lie in the current directory. This runs the user's code, as
    nothing else that loads data does.

    Args:
        spec: `module:factory`; both may have dots.
        features, task, edge_features: Of `from_pyg`; a `GraphSet` is made already, and has none
            of these chosen.

    Raises:
        DatasetError: There is no such module or function, it raises an exception, or what it
            returns is neither a `GraphSet` nor PyG's `Data`, a list or a `Dataset` of them.
    """
    result = _call(spec, _find(spec))
    if isinstance(result, GraphSet):
        if (features, task, edge_features) != ("auto", "auto", "auto"):
            raise DatasetError(
                f"{spec} returns a GraphSet, whose features and task are made already: choose "
                "them where it is made"
            )
        return result
    if not isinstance(result, Iterable) and not hasattr(result, "edge_index"):
        raise DatasetError(
            f"{spec} returns something of type {type(result).__name__}, expected a GraphSet, a "
            "list of PyG Data or a PyG Dataset"
        )
    name = spec.rpartition(":")[2].rpartition(".")[2]
    return from_pyg(result, name, features, task=task, edge_features=edge_features)


def _find(spec: str) -> Any:
    module_name, _, path = spec.partition(":")
    # A command does not have the current directory on its path, `python -m` does.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise _raised(f"importing {module_name}", error) from error
        raise DatasetError(f"{spec}: no module {error.name!r} in {here} or installed") from None
    except Exception as error:
        raise _raised(f"importing {module_name}", error) from error
    finally:
        sys.path.remove(here)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise DatasetError(f"{spec}: {module_name} has no {path!r}")
        found = getattr(found, attribute)
    if not callable(found):
        raise DatasetError(
            f"{spec} is of type {type(found).__name__}, expected a function that makes the graphs"
        )
    return found


def _call(spec: str, factory: Any) -> Any:
    try:
        return factory()
    except Exception as error:
        raise _raised(spec, error) from error


def _raised(what: str, error: Exception) -> DatasetError:
    return DatasetError(f"{what} raised {in_one_line(error)}")
