"""Which norms of a model break its symmetry under rotations, by leaving norms out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.doctor.example import Example
from graphnorms.doctor.measure import difference
from graphnorms.doctor.walk import Norm, first_tensor, quiet


def rotation_errors(
    model: nn.Module, norms: Sequence[Norm], example: Example
) -> tuple[float, float, list[float]] | None:
    r"""Measure how far a model is from being invariant or equivariant under a rotation $R$.

    The error is $\mathrm{rms}(f(xR^T) - f(x)) / \mathrm{rms}(f(x))$, and the same with
    $f(x)R^T$ for an output of `(…, 3)`; the smaller one counts.

    Args:
        model: The model; it is run in `eval()`, but its norms in `train()`: running statistics
            of 0 and 1 would hide what they do.
        norms: Its norms.
        example: A batch with positions.

    Returns:
        The error of the model, that without any norm, and that with each norm as the only one;
        `None` if the model has no output to compare.
    """
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    rotation = rotation * torch.linalg.det(rotation)
    model.eval()
    for norm in norms:
        norm.module.train()

    def error(left_out: Iterable[Norm]) -> float:
        with _left_out(left_out), torch.no_grad(), quiet():
            y, moved = (_output(each.run(model)) for each in (example, example.moved(rotation)))
        if y is None or moved is None:
            return float("nan")
        found = difference(y, moved)
        if y.shape[-1:] == (3,):
            found = min(found, difference(y @ rotation.to(y).T, moved))
        return found

    try:
        whole = error(())
        without = error(norms)
    except ValueError:  # a result that does not fit without its norm
        return None
    if not (whole == whole and without == without):
        return None
    return whole, without, [error(other for other in norms if other is not norm) for norm in norms]


def _output(value: Any) -> Tensor | None:
    if isinstance(value, dict):
        value = tuple(value.values())
    y = first_tensor(value, None)
    return y if isinstance(y, Tensor) and y.is_floating_point() else None


@contextmanager
def _left_out(norms: Iterable[Norm]) -> Iterator[None]:
    def unchanged(module: nn.Module, args: Any, kwargs: Any, y: Any) -> Any:
        x = args[0] if args else kwargs.get("x", kwargs.get("input"))
        return x if isinstance(y, Tensor) and y.shape == x.shape else y

    handles = [
        norm.module.register_forward_hook(unchanged, with_kwargs=True, prepend=True)
        for norm in norms
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
