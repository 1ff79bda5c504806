"""The command line."""

from __future__ import annotations

import importlib.util
import io
import os
import sys

from graphnorms.interrupts import INTERRUPTED, IS_COMMAND, TERMINATED, how_ended


def main() -> int:
    """Run the command line and return its exit code, see `_main`."""
    code = _main()
    if code in (INTERRUPTED, TERMINATED) and IS_COMMAND:
        # If the signal interrupted code that Python compiled from text (a dataclass, say), Python
        # would exit with another code.
        sys.stdout.flush()
        os._exit(code)
    return code


def _main() -> int:
    """Run the command line and return its exit code.

    0: done; 1: no trial was completed, or the reader of the output has left; 2: bad input; 3: a
    fault of graphnorms itself; 130: Ctrl-C; 143: SIGTERM. An error is one line on standard error;
    with GRAPHNORMS_TRACEBACK=1 in the environment it is a traceback.
    """
    for package in ("typer", "rich"):
        if importlib.util.find_spec(package) is None:
            complain(f"the command line needs {package}: pip install 'graphnorms[lab]'")
            return 2
    import typer

    from graphnorms.cli.app import Interrupted, app
    from graphnorms.errors import GraphnormsError

    # An output that cannot encode "±" gets "?".
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        code = app(standalone_mode=False, prog_name="graphnorms")
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, Interrupted) as error:
        words, code = how_ended(error.__cause__ or error)
        complain(words)
        return code
    except BrokenPipeError:
        # Python flushes once more at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("GRAPHNORMS_TRACEBACK") == "1":
            raise
        if isinstance(error, ModuleNotFoundError):
            complain(f"{_one_line(error)}: pip install 'graphnorms[lab]'")
        elif isinstance(
            error, ValueError | GraphnormsError | OSError | ImportError | typer.TyperException
        ):
            complain(_with_hint(error))
        else:
            complain(
                f"internal error, {type(error).__name__}: {_one_line(error)} "
                "(GRAPHNORMS_TRACEBACK=1 shows where; please report it)"
            )
            return 3
        return 2


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(text.split()) or type(error).__name__


def _with_hint(error: Exception) -> str:
    """Point to --help in an error of usage, unless the error has a proposal itself."""
    text, context = _one_line(error), getattr(error, "ctx", None)
    if context is None or "Did you mean" in text or "Possible options" in text:
        return text
    return f"{text.rstrip('.')}; {context.command_path} --help shows what there is"


def complain(message: str) -> None:
    """Print one line on standard error."""
    from graphnorms.errors import printable

    print(f"graphnorms: {printable(message)}", file=sys.stderr)
