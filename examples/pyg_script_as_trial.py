"""`pyg_script.py` as a trial: three lines are other ones, and it is no script any more.

graphnorms compare MUTAG --trial examples/pyg_script_as_trial.py:train --norms batch,graph
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GINConv, global_add_pool


class Net(nn.Module):
    """Three convolutions with a norm after each, and a sum over the nodes."""

    def __init__(self, norm, in_channels=7, hidden=32, classes=2):
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for width in (in_channels, hidden, hidden):
            mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            self.convs.append(GINConv(mlp))
            self.norms.append(norm(hidden))
        self.head = nn.Linear(hidden, classes)

    def forward(self, data):
        """Return the logits of each graph."""
        x = data.x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, data.edge_index), data.batch))
        return self.head(global_add_pool(x, data.batch))


@torch.no_grad()
def accuracy(model, loader):
    """Return the share of right classes."""
    model.eval()
    right = sum(int((model(data).argmax(1) == data.y).sum()) for data in loader)
    return right / len(loader.dataset)


def train(norm, split, seed, epochs=30):
    """Return the test accuracy at the epoch with the best validation accuracy."""
    torch.manual_seed(seed)
    train_set, val_set, test_set = map(split.take, ("train", "val", "test"))
    model = Net(norm)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    best_val = best_test = 0.0
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    val_loader, test_loader = (DataLoader(part, batch_size=64) for part in (val_set, test_set))
    for _ in range(epochs):
        model.train()
        for data in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(data), data.y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        scheduler.step()
        if (val := accuracy(model, val_loader)) > best_val:
            best_val, best_test = val, accuracy(model, test_loader)
    return best_test
