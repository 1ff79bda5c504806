"""The user's own functions: found by name, and hashed with all the source that they are made of."""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final, NoReturn

from graphnorms.errors import one_line
from graphnorms.interrupts import SIGNALS
from graphnorms.process_state import kept_state

_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_SPEC = re.compile(f"{_DOTTED}:{_DOTTED}")
_INSTALLED: Final = {"site-packages", "dist-packages"}
_PLAIN: Final = (str, int, float, bool, bytes, type(None))


def is_spec(text: str) -> bool:
    """Whether a text has the form `module:function`."""
    return _SPEC.fullmatch(text) is not None


def as_spec(text: str) -> str:
    """Return `module:function` for `folder/file.py:function`; any other text as it is.

    Raises:
        ValueError: The file is not below the current directory, where modules are looked for.
    """
    file, colon, function = text.partition(":")
    if not (colon and file.endswith(".py")):
        return text
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    parts = path.with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise ValueError(
            f"{text!r}: {file} is no module below the current directory ({Path.cwd()}); work in "
            "its folder, or install it"
        )
    return f"{'.'.join(parts)}:{function}"


def find(spec: str, makes: str) -> Callable[..., Any]:
    """Import a module, which may be installed or lie in the current directory, and take from it.

    This runs the user's code.

    Args:
        spec: `module:function`; both may have dots.
        makes: What the function makes, for the message, e.g. `"the graphs"`.

    Raises:
        ValueError: There is no such module or function, or importing it raises an exception.
    """
    module_name, _, path = spec.partition(":")
    # A command does not have the current directory on its path, `python -m` does.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()  # of folders that a file was just written to
    try:
        with no_exit(f"importing {module_name}"):
            found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise _raised(module_name, error) from error
        raise ValueError(f"{spec}: no module {error.name!r} in {here} or installed") from None
    except Exception as error:
        raise _raised(module_name, error) from error
    finally:
        if here in sys.path:  # the module may have changed it
            sys.path.remove(here)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise ValueError(f"{spec}: {module_name} has no {path!r}")
        found = getattr(found, attribute)
    if not callable(found):
        raise ValueError(
            f"{spec} is of type {type(found).__name__}, expected a function that makes {makes}"
        )
    return found  # type: ignore[no-any-return]


def source_hash(function: Callable[..., Any], module: str = "") -> str:
    """Hash the source that a function is made of: 16 hexadecimal digits.

    The hash covers the function's file; the files beside it, or in folders there, that this file
    imports, also inside functions, and those that they import in turn; the versions of the
    installed packages that these files import; and the plain values among the function's defaults
    and captured variables. Installed code counts with its own file and version. Comments count,
    paths do not.

    Args:
        function: A function, a class, or a `functools.partial` of one.
        module: A module that names it and is to count too.

    Raises:
        ValueError: Its source cannot be read, or it carries a value that has no text of its own.
    """
    digest = hashlib.sha256()
    while isinstance(function, functools.partial):
        given = [*function.args, *function.keywords.values()]
        digest.update(f"{sorted(function.keywords)} {[_text(v, 'given') for v in given]};".encode())
        function = function.func
    if not inspect.isclass(function) and not isinstance(function, FunctionType):
        raise ValueError(
            f"{function!r} is of type {type(function).__name__}, expected a function or a class"
        )
    if isinstance(function, FunctionType):
        digest.update(_carried(function).encode())
    names = dict.fromkeys([*([module] if module else []), function.__module__])
    modules = [sys.modules[name] for name in names if name in sys.modules]
    files: dict[Path, str] = {}
    packages: set[str] = set()
    for each in modules:
        _gather(each, files, packages)
    if not files:
        digest.update(_source(function).encode())
    for text in sorted(hashlib.sha256(source.encode()).hexdigest() for source in files.values()):
        digest.update(text.encode())
    for package in sorted(packages):
        digest.update(f"{package}={_version(package)};".encode())
    return digest.hexdigest()[:16]


class ExitError(ValueError):
    """Code of the user's wanted to end the program."""


@contextmanager
def no_exit(doing: str) -> Iterator[None]:
    """Run code of the user's that is not to end, stop or change this program.

    It sees none of this program's arguments, and finds streams that it cannot close; the working
    folder, torch's defaults and the like are afterwards what they were.

    Args:
        doing: What the code does, for the message, e.g. `"importing my_models"`.

    Raises:
        ExitError: It called `sys.exit`, or raised `KeyboardInterrupt` without Ctrl-C.
    """

    def without_usage(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        sys.exit(message)  # and no usage beside our line

    usage = argparse.ArgumentParser.error
    with kept_state(of_trials=False), interrupts() as pressed:
        sys.argv = [""]
        setattr(argparse.ArgumentParser, "error", without_usage)  # noqa: B010 - for mypy
        try:
            yield
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            if asked := pressed():
                raise asked from None
            raise ExitError(
                f"{doing} raised {one_line(error)}; what a script does when it is run goes under "
                'if __name__ == "__main__":'
            ) from error
        finally:
            setattr(argparse.ArgumentParser, "error", usage)  # noqa: B010
    if asked := pressed():  # and the code has caught it
        raise asked


@contextmanager
def interrupts() -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """Notice Ctrl-C and SIGTERM, which code may also pretend or catch.

    Yields:
        What returns the exception of the first of them, or None.
    """
    in_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in SIGNALS if in_main}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    raised: list[KeyboardInterrupt] = []

    def note(number: int, frame: Any) -> None:
        try:
            handlers[signal.Signals(number)](number, frame)
        except KeyboardInterrupt as error:
            raised.append(error)
            raise

    for number in handlers:  # others do not come here
        signal.signal(number, note)
    try:
        yield lambda: raised[0] if raised else None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _raised(module: str, error: Exception) -> ValueError:
    if isinstance(error, ExitError):
        return error
    return ValueError(f"importing {module} raised {one_line(error)}")


def _carried(function: FunctionType) -> str:
    """Write what a function has beside its source: defaults, and what it captured."""
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    values += [cell.cell_contents for cell in function.__closure__ or ()]
    return f"{[_text(value, f'{function.__qualname__} carries') for value in values]}"


def _text(value: Any, how: str) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"[{','.join(_text(part, how) for part in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key!r}:{_text(part, how)}' for key, part in value.items())}}}"
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    raise ValueError(
        f"{how} a value of type {type(value).__name__}, which cannot be told from another one; "
        "make it inside the function"
    )


def _source(function: Callable[..., Any]) -> str:
    """Read the source of what stands in no file: in a notebook, say."""
    parts = [function]
    if inspect.isclass(function):
        parts = [part for part in vars(function).values() if inspect.isfunction(part)]
    try:
        return "\n".join(inspect.getsource(part) for part in parts)
    except (OSError, TypeError):
        raise ValueError(
            f"the source of {getattr(function, '__qualname__', function)} cannot be read; "
            "write it to a file"
        ) from None


def _gather(module: ModuleType, files: dict[Path, str], packages: set[str]) -> None:
    """Read the file of a module, and those files of the user's that it leads to."""
    start = Path(getattr(module, "__file__", None) or "")
    if start.suffix != ".py" or not start.is_file():
        return
    name = "" if module.__name__ == "__main__" else module.__name__
    depth = name.count(".") + (start.name == "__init__.py")
    root = start.resolve().parents[depth]
    installed = not _INSTALLED.isdisjoint(root.parts)
    waiting = [start.resolve()]
    while waiting:
        path = waiting.pop()
        if path in files:
            continue
        files[path] = path.read_text(encoding="utf-8", errors="replace")
        if installed:
            packages.add(name.partition(".")[0])
            continue
        for imported in _imports(files[path], path, root):
            found = list(_own_files(imported, root))
            waiting += found
            if not found:
                packages.add(imported.partition(".")[0])


def _imports(source: str, path: Path, root: Path) -> Iterator[str]:
    """List the dotted names that a file imports, wherever in it."""
    package = ".".join(path.relative_to(root).parent.parts)
    try:
        tree = ast.parse(source)
    except SyntaxError:  # it fails where it is imported
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            try:
                base = importlib.util.resolve_name(name, package) if node.level else name
            except ImportError:  # a relative import beyond the package, which fails where it runs
                continue
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _own_files(name: str, root: Path) -> Iterator[Path]:
    """Find the files below a folder that importing a dotted name runs."""
    parts = name.split(".")
    if parts[0] == "graphnorms":  # whose version is part of every trial
        return
    for length in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:length])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                yield path.resolve()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
