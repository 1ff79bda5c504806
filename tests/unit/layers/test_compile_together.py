"""Layers of many classes, each compiled by itself in one process."""

from __future__ import annotations

import pytest
import torch

import graphnorms as gn
from graphnorms.layers.base import Norm


def test_no_class_uses_up_the_compilations_of_another() -> None:
    """Dynamo compiles a code object eight times: here five classes, with and without gradients."""
    x, batch = (
        torch.randn(30, 16, generator=torch.Generator().manual_seed(0)),
        torch.arange(30) // 10,
    )
    torch.compiler.reset()
    for make in (gn.GraphNorm, gn.LayerNorm, gn.PairNorm, gn.RMSNorm, gn.InstanceNorm):
        norm = make(16)
        compiled = torch.compile(norm, fullgraph=True, backend="eager")
        for needed in (False, True):
            given = x.clone().requires_grad_(needed)
            torch.testing.assert_close(compiled(given, batch), norm(x, batch))
    torch.compiler.reset()


def test_a_class_of_somebody_else_inherits_forward() -> None:
    """So that what replaces norms knows a class that changes none of it."""

    class Named(gn.GraphNorm):
        pass

    assert Named.forward is gn.GraphNorm.forward
    assert gn.GraphNorm.forward.__code__ is not Norm.forward.__code__
    assert gn.GraphNorm.forward.__doc__ == Norm.forward.__doc__


def test_a_mistake_names_the_call(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(TypeError, match=r"forward.* unexpected keyword argument 'mesk'"):
        gn.GraphNorm(4)(torch.ones(2, 4), mesk=None)  # type: ignore[call-arg]
    assert not recwarn.list
