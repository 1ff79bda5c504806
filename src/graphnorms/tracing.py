"""Tells whether operations are traced, transformed, recorded, or simply run, and whether a vector
has changed.

All uses of torch's private names are in this module. If a later torch lacks one, the fallback is
safe but slow: operators and plain torch instead of direct kernel calls.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad


def _private(path: str, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Find a function of torch by its path; return the fallback if it is missing."""
    found: Any = torch
    for name in path.split("."):
        found = getattr(found, name, None)
    return otherwise if found is None else found


dispatch_modes: Final = _private("_C._len_torch_dispatch_stack", lambda: 1)
"""Returns the number of active dispatch modes."""


def _assert_now(condition: Tensor, message: str) -> None:
    if not is_traced() and not bool(condition):
        raise RuntimeError(message)


flattened: Final[Callable[[list[Tensor]], Tensor]] = _private(
    "_utils._flatten_dense_tensors",
    lambda tensors: torch.cat([each.reshape(-1) for each in tensors]),
)
"""Returns the elements of some tensors as one vector, without Python for each of them."""

assert_async: Final = _private("_assert_async", _assert_now)
"""Fails on the device, with a message, if a condition does not hold; does not synchronize."""

version_of: Final = _private("Tensor._version.__get__", lambda tensor: object())
"""Returns the version counter of a tensor; the fallback never returns equal values."""

is_zero: Final = _private("Tensor._is_zerotensor", lambda tensor: False)
"""Whether a tensor is one of torch's lazy zero tensors."""

_will_execute: Final = _private("_C._will_engine_execute_node", lambda node: True)

_jit_traces: Final = _private("_C._is_tracing", lambda: False)

_transforms_active: Final = _private("_C._are_functorch_transforms_active", lambda: True)
_is_wrapped: Final = _private(
    "_C._functorch.is_functorch_wrapped_tensor", lambda x: _transforms_active()
)
_is_batched: Final = _private("_C._functorch.is_batchedtensor", lambda x: False)
_is_legacy_batched: Final = _private("_C._functorch.is_legacy_batchedtensor", lambda x: False)
_unwrapped: Final = _private("_C._functorch.get_unwrapped", lambda x: x)


def is_plain(x: Tensor) -> bool:
    """Whether a kernel may be called on x directly, without its operator.

    This is not the case if a tracer, a dispatch mode, a tensor subclass, a transform of
    `torch.func`, forward mode or the vmap of `is_grads_batched` must see the operator or plain
    torch operations. The memory of a tensor wrapped by a transform cannot be read, not even later.

    Raises:
        RuntimeError: `torch.jit.trace` is recording, which sees no kernel and would keep, as a
            constant, what is in the memory of the result.
    """
    plain = (
        type(x) in (Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not dispatch_modes()
        and not _transforms_active()
        and getattr(forward_ad, "_current_level", -1) < 0
        and not _is_legacy_batched(x)
        and not _is_wrapped(x)
    )
    if plain and _jit_traces():
        raise RuntimeError(
            "torch.jit.trace cannot record a kernel of graphnorms; use torch.export or "
            "torch.compile"
        )
    return plain


def will_run(node: object) -> bool:
    """Whether the backward that is running will come to a node of the graph.

    torch does not say it of a leaf whose gradient `autograd.grad` was asked for: it will.
    """
    try:
        return bool(_will_execute(node))
    except RuntimeError:
        return True


def is_traced() -> bool:
    """Whether operations may be traced to a graph, so that values cannot be read.

    This is so under `torch.compile` and `torch.export`, and in a dispatch mode, e.g. of `make_fx`,
    AOTAutograd and fake tensors.
    """
    return torch.compiler.is_compiling() or bool(dispatch_modes())


def is_watched() -> bool:
    """Whether a dispatch mode is active outside of Dynamo (Dynamo tracks attributes of objects)."""
    return not torch.compiler.is_compiling() and bool(dispatch_modes())


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is active."""
    return bool(_transforms_active())


def is_batched(x: Tensor) -> bool:
    """Whether x is batched by a `torch.vmap` at any level."""
    if torch.compiler.is_compiling():
        return bool(_is_batched(x))
    while _is_wrapped(x) and not _is_batched(x):
        inner = _unwrapped(x)
        if inner is x:
            return False
        x = inner
    return bool(_is_batched(x))


def is_forward_mode() -> bool:
    """Whether forward-mode differentiation is active."""
    return getattr(forward_ad, "_current_level", -1) >= 0


def traces_autograd() -> bool:
    """Whether Dynamo traces `torch.autograd.grad` inside a compiled region."""
    return torch.compiler.is_compiling() and getattr(
        torch._dynamo.config, "trace_autograd_ops", False
    )


def is_recorded(of: Tensor | torch.device | None) -> bool:
    """Whether operations on a tensor or device are being recorded in a CUDA graph."""
    on_gpu = of.is_cuda if isinstance(of, Tensor) else of is not None and of.type == "cuda"
    return on_gpu and torch.cuda.is_current_stream_capturing()


def may_keep(of: Tensor | torch.device | None) -> bool:
    """Whether tensors derived now, from a tensor or on a device, may be cached beyond the call.

    In a traced graph a cached tensor would be a side effect and cause recompilation; under a
    transform of `torch.func` it belongs to the transform; one made in inference mode cannot be used
    in training; and one made while recording a CUDA graph lives in the graph's memory.
    """
    return not (
        is_recorded(of) or is_traced() or is_transformed() or torch.is_inference_mode_enabled()
    )


F = TypeVar("F", bound=Callable[..., Any])


def constant_in_graphs(function: F) -> F:
    """Make compiled graphs treat the result of a function as a constant, without tracing it.

    Like `torch.compiler.assume_constant_result`, which would load all of Dynamo at import.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def outside_graphs(function: F) -> F:
    """Make a compiled model break its graph at a function.

    Like `torch.compiler.disable`, which would load all of Dynamo at import.
    """
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    return function


def with_code_of_its_own(function: F) -> F:
    """Copy a function, so that Dynamo compiles it apart from the original.

    Dynamo compiles a code object for eight kinds of arguments, and then no more: a method that many
    classes inherit would use these up for all of them.
    """
    code = function.__code__
    own = FunctionType(
        code.replace(),
        function.__globals__,
        code.co_name,
        function.__defaults__,
        function.__closure__,
    )
    own.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(own, function)  # type: ignore[return-value]


class VectorSnapshot:
    """A vector at the time when something was derived from it.

    A vector matches by its identity, its version counter and, on the CPU, its content: the counter
    misses writes through `.data` and through memory shared with NumPy. On a GPU comparing the
    content would synchronize, so only the counter is compared.
    """

    __slots__ = ("address", "content", "size", "vector", "version")

    def __init__(
        self, vector: Tensor, forget: Callable[[weakref.ref[Tensor]], None] | None = None
    ) -> None:
        self.vector = weakref.ref(vector, forget)
        self.version = version_of(vector)
        self.content = vector.detach().clone() if vector.is_cpu else None
        self.size = vector.nbytes
        comparable = self.content is not None and vector.is_contiguous()
        self.address = self.content.data_ptr() if self.content is not None and comparable else 0

    def matches(self, vector: Tensor) -> bool:
        """Whether `vector` is the same object with the same content."""
        if self.version != version_of(vector) or self.vector() is not vector:
            return False
        if self.content is None:
            return True
        if self.address and _memcmp is not None and vector.nbytes == self.size:
            # A twentieth of the time of `torch.equal`. Freed memory has the address 0: deriving
            # anew then raises the error.
            first = vector.data_ptr()
            return first != 0 and _memcmp(first, self.address, self.size) == 0
        return torch.equal(vector, self.content)


def _find_memcmp() -> Callable[[int, int, int], int] | None:
    try:
        library: Any = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        function = library.memcmp
    except (AttributeError, OSError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_int
    compare: Callable[[int, int, int], int] = function
    return compare


_memcmp: Final = _find_memcmp()
