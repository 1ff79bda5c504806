"""Packages whose modules are loaded at first use: texts and options need no torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
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
