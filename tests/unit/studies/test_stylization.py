"""Stylization: the rule, what contrast does, pictures as text, and a tiny run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphnorms.studies import claim_stylization
from graphnorms.studies.claim_stylization import STUDY
from graphnorms.studies.study import Case
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    """InstanceNorm takes contrast and brightness away in a network of any weights."""
    instance, batch = run_tiny(STUDY)
    assert instance.values["moved"] < 0.01
    assert batch.values["moved"] > 0.05


def test_pictures_as_text() -> None:
    image = torch.randint(256, (1, 3, 128, 128), generator=torch.Generator().manual_seed(0))
    pixels = claim_stylization._unpacked(claim_stylization._packed(image / 255))
    assert (pixels == np.moveaxis(image[0].numpy(), 0, 2)).all()


@pytest.mark.parametrize(
    ("loss", "instance", "batch", "verdict"),
    [
        (0.8, 0.001, 0.5, "confirmed"),
        (1.2, 0.001, 0.5, "not confirmed"),
        (0.8, 0.100, 0.5, "not confirmed"),
        (0.8, 0.001, 0.01, "not confirmed"),
        (1.0, 0.001, 0.5, "not confirmed"),  # no difference
        (0.95, 0.001, 0.5, "inconclusive"),
    ],
)
def test_rule(loss: float, instance: float, batch: float, verdict: str) -> None:
    def values(case: Case) -> dict[str, float]:
        ours = case["norm"] == "instance"
        value = loss * scatter(case, 0.02) if ours else 1.0
        moved = (instance if ours else batch) * scatter(case)
        return {"loss": value, "style": value, "content": value, "moved": moved}

    assert judged(STUDY, values).verdict == verdict
