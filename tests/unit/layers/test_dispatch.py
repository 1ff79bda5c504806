"""How far it is from a layer's call to the kernel."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest
import torch

import graphnorms as gn
from graphnorms.kernels.cpu import extension

HOME = str(Path(gn.__file__).parent)


@pytest.mark.skipif(extension.unavailable() is not None, reason="plain torch takes other ways")
def test_a_call_passes_at_most_12_functions_in_8_files() -> None:
    """Every function of ours costs a small call a hundredth."""
    layer, x = gn.GraphNorm(8), torch.randn(20, 8)
    batch = torch.arange(20) // 5
    layer(x, batch)  # the Segments are derived once
    passed: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOME):
            passed.append((frame.f_code.co_filename, frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        layer(x, batch)
    finally:
        sys.setprofile(None)
    assert passed[0][1] == "Norm.forward"
    assert "normalize_forward" in [name for _, name in passed]
    names = [name for _, name in passed]
    assert len(passed) <= 12, names
    assert len({file for file, _ in passed}) <= 8, passed
