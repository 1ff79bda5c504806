"""Residual gradients: the rule, the gradient itself, and a tiny run."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from graphnorms.studies.claim_residual_gradients import STUDY
from graphnorms.studies.measured_values import where
from graphnorms.studies.sequence_transformer import SequenceTransformer
from graphnorms.studies.study import Case, Values
from graphnorms.studies.study_data import ALPHABET, characters, excerpts
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    """And the gradients are those that a backward pass gives."""
    measurements = run_tiny(STUDY)
    (measured,) = where(measurements, place="post-LN", depth=2)
    piece = excerpts(characters(None)[1], 4, 65, torch.Generator().manual_seed(0))
    model = SequenceTransformer(96, len(ALPHABET), channels=16, heads=1, layers=2, seed=0)
    F.cross_entropy(model(piece[:, :-1]).flatten(0, 1), piece[:, 1:].flatten()).backward()
    expected = [layer.linear2.weight.grad.norm().item() for layer in model.transformer.layers]
    assert measured.values["layers"] == pytest.approx(expected, rel=1e-5)
    assert measured.values["last"] == measured.values["layers"][-1]


@pytest.mark.parametrize(
    ("exponent", "post", "verdict"),
    [
        (-0.5, 2.2, "confirmed"),
        (-0.5, 0.9, "not confirmed"),  # the two are too close at 8 layers
        (0.1, 3.0, "not confirmed"),  # pre-LN grows
        (0.0, 3.0, "inconclusive"),
    ],
)
def test_rule(exponent: float, post: float, verdict: str) -> None:
    def values(case: Case) -> Values:
        depth = int(case["depth"])
        pre = case["place"] == "pre-LN"
        # The seeds differ in how it falls, and not only in the size.
        slope = exponent + 0.02 * (int(case["seed"]) % 3 - 1)
        last = scatter(case) * (1.3 * (depth / 2) ** slope if pre else post)
        return {"last": last, "layers": [last] * depth, "text": "none"}

    assert judged(STUDY, values).verdict == verdict
