"""The Triton kernels of the normalization, called like those of the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import rows_contiguous
from graphnorms.kernels.point import Call, Parameters
from graphnorms.kernels.triton.call import Cotangents, Launch, Pair, check_like, check_statistics
from graphnorms.kernels.triton.row_launches import row_backward, row_double_backward, row_forward
from graphnorms.kernels.triton.segment_launches import (
    segment_backward,
    segment_double_backward,
    segment_forward,
)


def normalize_forward(
    x: Tensor, residual: Tensor | None, parameters: Parameters, call: Call, moment: bool
) -> tuple[Tensor, Tensor]:
    """Run the forward kernels.

    Returns:
        y, and the statistics, laid out as `graphnorms.kernels.cpu.normalize` does.
    """
    launched = Launch.of(x, parameters, call)
    if residual is not None:
        check_like("residual", residual, x.shape, x.dtype, x)
        residual = rows_contiguous(residual)
    centers, scales = launched.sizes
    statistics = x.new_empty(centers + scales * (2 if moment else 1), dtype=launched.accumulation)
    shift, rstd = launched.parts(statistics)
    squares = statistics[centers + scales :] if moment and launched.scale else None
    y = _room(x)
    if not launched.of_each_row:
        segment_forward(launched, residual, y, shift, rstd, squares)
    elif not launched.own:
        row_forward(launched, residual, y, shift, rstd, squares)
    else:
        # Everything per row, then parameters per segment: two steps, with float32 in between.
        plain, then = launched.split()
        between = torch.empty_like(plain.x)
        row_forward(plain, None, between, shift, rstd, squares)
        segment_forward(then.on(between), residual, y, None, None, None)
    return y, statistics


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Run the backward kernels; the gradient of a residual is grad_y itself.

    Args:
        needs: Which of the gradients of x, mean_scale, weight and bias are needed.

    Returns:
        The four gradients, those of parameters in the accumulation dtype; `None` if not needed.
    """
    launched = Launch.of(x, parameters, call)
    check_like("grad_y", grad_y, x.shape, x.dtype, x)
    grad_y = rows_contiguous(grad_y)
    check_statistics(launched, statistics)
    shift, rstd = launched.parts(statistics)
    grad_x = _room(x) if needs[0] else None
    grads = _rooms(launched, needs[1:])
    if not launched.of_each_row:
        segment_backward(launched, grad_y, grad_x, shift, rstd, grads)
    elif not launched.own:
        row_backward(launched, grad_y, grad_x, shift, rstd, grads)
    else:
        plain, then = launched.split()
        between = torch.empty_like(plain.x)
        again = launched.parts(torch.empty_like(statistics))
        row_forward(plain, None, between, *again, None)
        of_plain = [grads[0], None, None]
        asked = grad_x is not None or grads[0] is not None
        grad_between = torch.empty_like(between) if asked else None
        segment_backward(then.on(between), grad_y, grad_between, None, None, [None, *grads[1:]])
        if grad_between is not None:
            row_backward(plain, grad_between, grad_x, shift, rstd, of_plain)
    return grad_x, grads[0], grads[1], grads[2]


def normalize_double_backward(
    cotangents: Sequence[Tensor | None],
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor | None, ...]:
    """Run the kernels of the backward's backward, equations (13) to (16) and (19), (20).

    Args:
        cotangents: Of the gradients of x, mean_scale, weight and bias; `None` for 0.
        needs: Which of the gradients of grad_y, x, mean_scale, weight and bias are needed.

    Returns:
        The five gradients, those of parameters in the accumulation dtype; `None` if not needed.
    """
    launched = Launch.of(x, parameters, call)
    check_like("grad_y", grad_y, x.shape, x.dtype, x)
    grad_y = rows_contiguous(grad_y)
    given = launched.cotangents(cotangents)
    check_statistics(launched, statistics)
    grads = _rooms(launched, needs[2:])
    of_rows = (_room(x) if needs[0] else None, _room(x) if needs[1] else None)
    kept = launched.parts(statistics)
    if not launched.of_each_row:
        segment_double_backward(launched, grad_y, given, kept, of_rows, grads)
    elif not launched.own:
        row_double_backward(launched, grad_y, given, kept, of_rows, grads)
    else:
        _in_two_steps(launched, grad_y, given, of_rows, grads)
    return *of_rows, *grads


def _in_two_steps(
    launched: Launch,
    grad_y: Tensor,
    given: Cotangents,
    of_rows: Pair,
    grads: list[Tensor | None],
) -> None:
    """Run the double backward of everything per row, m(x), then parameters per segment, y(m).

    The first backward was grad_m, then grad_x. So the cotangent of grad_x becomes that of grad_m,
    this one the gradients of grad_y and of m; and x is reached through m and through grad_x.
    """
    plain, then = launched.split()
    between, grad_between, of_grad_between, of_between = (
        torch.empty_like(plain.x) for _ in range(4)
    )
    kept = plain.parts(plain.x.new_empty(sum(plain.sizes)))
    row_forward(plain, None, between, *kept, None)
    then = then.on(between)
    segment_backward(then, grad_y, grad_between, None, None, [None, None, None])
    of_grad_y, grad_x = of_rows
    direct = None if grad_x is None else torch.empty_like(plain.x)
    of_argument = None if grads[0] is None else torch.empty_like(grads[0])
    of_x = given.of_x.to(plain.x.dtype)
    cotangents = Cotangents(of_x, given.of_mean_scale, None, None)
    of_plain = [of_argument, None, None]
    row_double_backward(plain, grad_between, cotangents, kept, (of_grad_between, direct), of_plain)
    cotangents = given._replace(of_x=of_grad_between, of_mean_scale=None)
    of_then = [None, *grads[1:]]
    segment_double_backward(
        then, grad_y, cotangents, (None, None), (of_grad_y, of_between), of_then
    )
    if direct is not None or grads[0] is not None:
        through = None if direct is None else torch.empty_like(direct)
        row_backward(plain, of_between, through, *kept, [grads[0], None, None])
        if grad_x is not None and direct is not None and through is not None:
            torch.add(direct, through, out=grad_x)
        if grads[0] is not None and of_argument is not None:
            grads[0] += of_argument


def _room(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _rooms(launched: Launch, needs: list[bool]) -> list[Tensor | None]:
    """Allocate the needed gradients of parameters."""
    parameters = (launched.mean_scale, launched.weight, launched.bias)
    return [
        torch.empty_like(parameter) if needed and parameter is not None else None
        for parameter, needed in zip(parameters, needs, strict=True)
    ]
