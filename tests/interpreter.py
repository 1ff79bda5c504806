"""Triton's interpreter, on which the kernels for GPUs are tested where there is none."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor


def choose_interpreter() -> bool:
    """Have kernels interpreted where no GPU is; triton asks the environment when it is loaded.

    Returns:
        Whether they are.
    """
    if find_spec("triton") is None or torch.cuda.is_available():
        return False
    os.environ["TRITON_INTERPRET"] = "1"
    _quicken()
    _watch()
    _round_to_nearest()
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


def _watch() -> None:
    """Have an access outside the memory of the kernel's arguments raise, as a sanitizer would."""
    from triton.runtime import interpreter

    begin_launch = interpreter.GridExecutor._init_args_hst
    load = interpreter.InterpreterBuilder.create_masked_load
    store = interpreter.InterpreterBuilder.create_masked_store
    bounds = np.zeros((0, 2), np.uint64)

    def note(self: Any, arguments: Any, named: Any) -> Any:
        nonlocal bounds
        given = [t for t in (*arguments, *named.values()) if isinstance(t, Tensor)]
        ranges = [
            (
                t.data_ptr(),
                t.data_ptr() + t.untyped_storage().nbytes() - t.storage_offset() * t.element_size(),
            )
            for t in given
        ]
        bounds = np.array(ranges, np.uint64).reshape(-1, 2)
        return begin_launch(self, arguments, named)

    def check(pointers: Any, mask: Any) -> None:
        addresses = np.broadcast_to(pointers.data, mask.data.shape)[mask.data.astype(bool)]
        if addresses.size:
            size = pointers.get_element_ty().primitive_bitwidth // 8
            low, high = bounds[:, :1], bounds[:, 1:]
            within = (addresses >= low) & (addresses + np.uint64(size) <= high)
            assert within.any(0).all(), "an address outside the memory of all arguments"

    def watched_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        check(pointers, mask)
        return load(self, pointers, mask, *rest)

    def watched_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        check(pointers, mask)
        return store(self, pointers, value, mask, *rest)

    interpreter.GridExecutor._init_args_hst = note
    interpreter.InterpreterBuilder.create_masked_load = watched_load
    interpreter.InterpreterBuilder.create_masked_store = watched_store


def _round_to_nearest() -> None:
    """Have float32 rounded to bfloat16 as GPUs do; the interpreter cuts the bits off."""
    import triton.language as tl
    from triton.runtime import interpreter

    cast = interpreter.InterpreterBuilder.cast_impl

    def rounded(self: Any, source: Any, target: Any) -> Any:
        if source.dtype.scalar != tl.float32 or target.scalar != tl.bfloat16:
            return cast(self, source, target)
        values = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16()
        bits = values.view(torch.int16).numpy().view(np.uint16).reshape(np.shape(source.data))
        return interpreter.TensorHandle(bits, tl.bfloat16)

    interpreter.InterpreterBuilder.cast_impl = rounded
