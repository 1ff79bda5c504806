"""A LightningModule and its DataModule, whose norm the lab chooses.

graphnorms compare MUTAG --model examples/lightning_model.py:make --norms batch,graph --epochs 20
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GINConv, global_add_pool


class LitGIN(LightningModule):
    """GIN for graph classification, with its own steps and optimizer."""

    def __init__(self, norm, in_channels, classes, hidden=32, learning_rate=0.01):
        super().__init__()
        self.learning_rate = learning_rate
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for width in (in_channels, hidden):
            mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            self.convs.append(GINConv(mlp))
            self.norms.append(norm(hidden))
        self.head = nn.Linear(hidden, classes)

    def forward(self, data):
        """Return the logits of each graph."""
        x = data.x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, data.edge_index), data.batch).relu()
        return self.head(global_add_pool(x, data.batch))

    def training_step(self, data, index):
        """Return the loss."""
        loss = F.cross_entropy(self(data), data.y)
        self.log("train_loss", loss, batch_size=data.num_graphs)
        return loss

    def validation_step(self, data, index):
        """Log what is monitored."""
        self._log_accuracy("val", data)

    def test_step(self, data, index):
        """Log the same for the test part."""
        self._log_accuracy("test", data)

    def configure_optimizers(self):
        """Halve the learning rate when the validation accuracy stays the same."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=3)
        watched = {"scheduler": scheduler, "monitor": "val_accuracy"}
        return {"optimizer": optimizer, "lr_scheduler": watched}

    def _log_accuracy(self, part, data):
        right = (self(data).argmax(1) == data.y).float().mean()
        self.log(f"{part}_accuracy", right, batch_size=data.num_graphs)


class Graphs(LightningDataModule):
    """Loads the parts of a split."""

    def __init__(self, split, batch_size):
        super().__init__()
        self.split, self.batch_size = split, batch_size

    def train_dataloader(self):
        """Load the training part in random order."""
        return DataLoader(self.split.take("train"), self.batch_size, shuffle=True)

    def val_dataloader(self):
        """Load the validation part."""
        return DataLoader(self.split.take("val"), self.batch_size)

    def test_dataloader(self):
        """Load the test part."""
        return DataLoader(self.split.take("test"), self.batch_size)


def make(norm, split, batch_size, learning_rate) -> tuple[LightningModule, LightningDataModule]:
    """Return the model with a norm, and the data of a split."""
    model = LitGIN(
        norm, split.graphs.num_features, split.graphs.num_classes, learning_rate=learning_rate
    )
    return model, Graphs(split, batch_size)
