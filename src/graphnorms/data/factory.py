"""Graph sets that the user's own code makes: `module:factory`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Unpack

from graphnorms.data.feature_columns import Features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.readers.pyg import from_pyg
from graphnorms.data.readers.read_options import Reading, ReadOptions
from graphnorms.errors import DatasetError, one_line
from graphnorms.user_code import ExitError, find, no_exit


def call_factory(
    spec: str,
    features: Features = "auto",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Import a module, call a function of it without arguments, and take what it returns.

    The module may be installed or lie in the current directory. This runs the user's code, as
    nothing else that loads data does.

    Args:
        spec: `module:factory`; both may have dots.
        features, options: Of `from_pyg`; a `GraphSet` is made already, and has none of these
            chosen.

    Raises:
        DatasetError: There is no such module or function, it raises an exception, or what it
            returns is neither a `GraphSet` nor PyG's `Data`, a list or a `Dataset` of them.
    """
    try:
        factory = find(spec, "the graphs")
    except ValueError as error:
        raise DatasetError(str(error)) from error.__cause__
    result = _call(spec, factory)
    if isinstance(result, GraphSet):
        if replace(Reading(features=features, **options), encoding=None) != Reading():
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
    return from_pyg(result, name, features, **options)


def _call(spec: str, factory: Any) -> Any:
    try:
        with no_exit(spec):
            return factory()
    except ExitError as error:
        raise DatasetError(str(error)) from error
    except Exception as error:
        raise DatasetError(f"{spec} raised {one_line(error)}") from error
