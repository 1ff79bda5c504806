"""The GCN of Luo, Shi & Wu (2024) where the classes are no and yes.

Apart from `tuned_gcn`, as a run does not go on when the file of its model has changed.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.reproduce.tuned_gcn import residual_gcn
from graphnorms.segments import Segments


class OfTwoLogits(nn.Module):
    """The logit of yes less that of no; its logistic loss is the cross entropy of both.

    Shapes: the model's result `(nodes, 2)`, this one's `(nodes, 1)`.

    Args:
        model: Gives a logit for no and one for yes, as the authors' model does.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, adjacency: Adjacency, segments: Segments) -> Tensor:
        """Return the logit of every node."""
        logits: Tensor = self.model(x, adjacency, segments)
        return logits.diff(dim=1)


def residual_gcn_of_a_question(
    in_channels: int, out_channels: int, norm: Any, hidden: int, layers: int, dropout: float
) -> OfTwoLogits:
    """Make the model of Minesweeper; `out_channels` is 1."""
    return OfTwoLogits(residual_gcn(in_channels, 2, norm, hidden, layers, dropout))
