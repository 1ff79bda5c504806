"""Triton's interpreter, on which the kernels for GPUs are tested where there is none."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch


def choose_interpreter() -> bool:
    """Have kernels interpreted where no GPU is; triton asks the environment when it is loaded.

    Returns:
        Whether they are.
    """
    if find_spec("triton") is None or torch.cuda.is_available():
        return False
    os.environ["TRITON_INTERPRET"] = "1"
    _quicken()
    return True


def _quicken() -> None:
    """Have functions that kernels call run as they are, which takes a tenth of the time.

    The interpreter patches the language anew at every such call. What a kernel sees of it is
    patched when the kernel begins; what triton's own functions see is done here, once.
    """
    from triton.runtime import interpreter

    done: set[str] = set()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        home = self.fn.__module__
        if home.startswith("triton.") and home not in done:
            interpreter._patch_lang(self.fn)
            done.add(home)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call
