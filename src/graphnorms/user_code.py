"""User-defined functions: importing them by name, hashing their source, and isolating them."""

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
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final, NoReturn, Self

from graphnorms.errors import did_you_mean, one_line
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
    """Convert `folder/file.py:function` to `module:function`; return other texts unchanged.

    Raises:
        ValueError: The file is not below the current directory, where modules are searched.
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
            f"{text!r}: {file} is not a module below the current directory ({Path.cwd()}); change "
            "to its folder, or install it"
        )
    return f"{'.'.join(parts)}:{function}"


def find(spec: str, makes: str) -> Callable[..., Any]:
    """Import a function from a module that is installed or in the current directory.

    This runs the user's code.

    Args:
        spec: `module:function`; both may have dots.
        makes: What the function makes, for messages, e.g. `"the graphs"`.

    Raises:
        ValueError: The module or function does not exist, or its import raises an exception.
    """
    module_name, _, path = spec.partition(":")
    # Unlike `python -m`, a command does not have the current directory on its path.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()  # for files that were just written
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
        if here in sys.path:  # the module may have removed it
            sys.path.remove(here)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            public = [name for name in dir(found) if not name.startswith("_")]
            near = did_you_mean(attribute, public, "")
            raise ValueError(f"{spec}: {module_name} has no {path!r}{f'; {near}' * bool(near)}")
        found = getattr(found, attribute)
    if not callable(found):
        raise ValueError(
            f"{spec} is of type {type(found).__name__}, expected a function that makes {makes}"
        )
    return found  # type: ignore[no-any-return]


def source_hash(function: Callable[..., Any], module: str = "") -> str:
    """Hash the source of a function to 16 hexadecimal digits.

    The hash covers the file of the function; the local files that it imports, also inside
    functions, recursively; the versions of the installed packages that these files import; and the
    values of the function's defaults and captured variables. For installed code it covers its file
    and version. Comments count, paths do not.

    Args:
        function: A function, a class, or a `functools.partial` of one.
        module: A further module to cover.

    Raises:
        ValueError: The source cannot be read, or a default or captured value has no unique text.
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


@dataclass(frozen=True, kw_only=True)
class UserFunction:
    """A function of the user's, and its identity.

    Args:
        name: `module:function`, or the name of the function if it was given as an object.
        source: Hash of its source, see `source_hash`.
        function: The function.
        in_memory: Whether it was given as an object that cannot be imported by name.
    """

    name: str
    source: str
    function: Callable[..., Any]
    in_memory: bool = False

    @classmethod
    def _of(cls, given: str | Callable[..., Any], makes: str, **more: Any) -> Self:
        """Find a function by its name, or wrap a function or class.

        Args:
            given: The name, or the function.
            makes: What it makes, for messages.
            more: Further fields.

        Raises:
            ValueError: It does not exist, or its source cannot be read.
        """
        if isinstance(given, str):
            function = find(given, makes)
            source = source_hash(function, given.partition(":")[0])
            return cls(name=given, source=source, function=function, **more)
        named = given
        while hasattr(named, "func"):  # unwrap functools.partial
            named = named.func
        name = named.__qualname__.rpartition("<locals>.")[2].strip("<>")
        return cls(name=name, source=source_hash(given), function=given, in_memory=True, **more)

    def require_source(self, source: str) -> None:
        """Raise a `ValueError` unless the source has this hash."""
        if self.source != source:
            raise ValueError(
                f"the source of {self.name} is not what it was when the run began; was a file "
                "changed?"
            )


class ExitError(ValueError):
    """User code tried to exit the program."""


@contextmanager
def no_exit(doing: str) -> Iterator[None]:
    """Run user code that must not exit, interrupt or change this program.

    It does not see the arguments of the program and cannot close its streams; the working folder,
    torch's defaults and similar state are restored afterwards.

    Args:
        doing: What the code does, for messages, e.g. `"importing my_models"`.

    Raises:
        ExitError: The code called `sys.exit`, or raised `KeyboardInterrupt` without Ctrl-C.
    """

    def without_usage(parser: argparse.ArgumentParser, message: str) -> NoReturn:
        sys.exit(message)  # without printing the usage

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
                f"{doing} raised {one_line(error)}; put the code of a script under "
                'if __name__ == "__main__":'
            ) from error
        finally:
            setattr(argparse.ArgumentParser, "error", usage)  # noqa: B010
    if asked := pressed():  # if the code has caught it
        raise asked


@contextmanager
def interrupts() -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """Record real Ctrl-C and SIGTERM, which code may also fake or catch.

    Yields:
        A function that returns the exception of the first one, or None.
    """
    in_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in SIGNALS if in_main}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    raised: list[KeyboardInterrupt] = []

    def record(number: int, frame: Any) -> None:
        try:
            handlers[signal.Signals(number)](number, frame)
        except KeyboardInterrupt as error:
            raised.append(error)
            raise

    for number in handlers:  # only handlers written in Python
        signal.signal(number, record)
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
    """Return a text of the defaults and captured variables of a function."""
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
        f"{how} a value of type {type(value).__name__}, which has no unique text; "
        "create it inside the function"
    )


def _source(function: Callable[..., Any]) -> str:
    """Read the source of a function without a file, e.g. in a notebook."""
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
    """Read the file of a module, and the local files that it imports, recursively."""
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
    """List the dotted names that a file imports anywhere."""
    package = ".".join(path.relative_to(root).parent.parts)
    try:
        tree = ast.parse(source)
    except SyntaxError:  # the import will fail
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            try:
                base = importlib.util.resolve_name(name, package) if node.level else name
            except ImportError:  # a relative import beyond the package, which will fail
                continue
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _own_files(name: str, root: Path) -> Iterator[Path]:
    """Find the files below a folder that the import of a dotted name runs."""
    parts = name.split(".")
    if parts[0] == "graphnorms":  # its version is part of every trial
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
