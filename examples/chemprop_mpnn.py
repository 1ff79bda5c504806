"""chemprop's MPNN on a CSV file, with a norm in its message passing.

graphnorms compare examples/chemprop_mpnn.py:molecules --model examples/chemprop_mpnn.py:make \
    --norms batch,graph --epochs 20

`molecules.csv` lies in the current directory and has the columns `smiles` and `target`.
"""

from __future__ import annotations

import csv
from pathlib import Path

from chemprop import data, models, nn


class NormedMessagePassing(nn.BondMessagePassing):
    """Messages along directed bonds, normalized before the activation at every depth."""

    def __init__(self, norm, **options):
        super().__init__(**options)
        self.norm = norm(self.W_h.out_features)
        self.graph_of_bond = None

    def forward(self, bmg, V_d=None):
        """Return the encodings of the atoms."""
        self.graph_of_bond = bmg.batch[bmg.edge_index[0]]
        return super().forward(bmg, V_d)

    def update(self, M_t, H_0):
        """Return the states of the bonds, given their messages."""
        normed = self.norm(self.W_h(M_t), self.graph_of_bond)
        return self.dropout(self.tau(H_0 + normed))


def molecules() -> list[data.MoleculeDatapoint]:
    """Read the CSV file."""
    with Path("molecules.csv").open(newline="") as file:
        return [
            data.MoleculeDatapoint.from_smi(row["smiles"], [float(row["target"])])
            for row in csv.DictReader(file)
        ]


def make(norm, split, batch_size, hidden=64) -> tuple[models.MPNN, list]:
    """Return the model with a norm, and the loaders of a split."""
    sets = {part: data.MoleculeDataset(split.take(part)) for part in ("train", "val", "test")}
    scaler = sets["train"].normalize_targets()
    sets["val"].normalize_targets(scaler)
    loaders = [
        data.build_dataloader(part, batch_size, shuffle=name == "train", seed=None)
        for name, part in sets.items()
    ]
    unscale = nn.UnscaleTransform.from_standard_scaler(scaler)
    head = nn.RegressionFFN(input_dim=hidden, output_transform=unscale)
    passing = NormedMessagePassing(norm, d_h=hidden, depth=3)
    return models.MPNN(passing, nn.MeanAggregation(), head), loaders
