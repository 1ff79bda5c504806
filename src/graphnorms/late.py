"""Modules, of this package and of others, that are loaded at first use: texts and options need no
torch, and a verdict that is read needs no numpy."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any


def attribute(package: str, name: str, modules: Iterable[str]) -> Any:
    """Return a module of a package, or a name in its `__all__`, importing what defines it.

    Args:
        package: Its full name.
        name: What is asked for.
        modules: The modules that define its names, tried in this order.

    Raises:
        AttributeError: The package has no such name.
    """
    if name in modules:
        return importlib.import_module(f"{package}.{name}")
    if name in sys.modules[package].__all__:
        for each in modules:
            module = importlib.import_module(f"{package}.{each}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")


class _Postponed(ModuleType):
    """Stands in `sys.modules` for a package, until one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def postpone(*packages: str) -> None:
    """Make `import` of these packages load them at the first use of one of their attributes.

    For a command that may need nothing of them, before it imports modules that do. A package that
    is loaded already, or is not installed, is left as it is.
    """
    for package in packages:
        if package not in sys.modules and (spec := importlib.util.find_spec(package)) is not None:
            sys.modules[package] = module = _Postponed(package)
            module.__spec__ = spec
