# %% [markdown]
# # One graph, ten splits
#
# **You have** one graph whose nodes are to be classified, and ten splits of its nodes into 60%
# training, 20% validation and 20% test: the protocol of the heterophilous benchmarks. **You
# want** to know which norm to use in a GCN of four layers, where features begin to smooth out.
#
# The nodes are the 1797 scanned digits of scikit-learn, and edges join each digit to the five
# whose pixels are most similar. Any PyG `Data` with masks of several columns works the same.

# %%
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

import graphnorms

SPLITS = 10
pixels, labels = load_digits(return_X_y=True)
nearest = kneighbors_graph(pixels, 5).tocoo()
edge_index = to_undirected(torch.tensor(np.stack((nearest.row, nearest.col)), dtype=torch.long))

part = np.empty((len(labels), SPLITS), dtype=int)
for split in range(SPLITS):
    order = np.random.default_rng(split).permutation(len(labels))
    part[order, split] = np.digitize(np.arange(len(labels)) / len(labels), (0.6, 0.8))
masks = torch.tensor(part)
data = Data(
    x=torch.tensor(pixels / 16, dtype=torch.float32),
    edge_index=edge_index,
    y=torch.tensor(labels),
    train_mask=masks == 0,
    val_mask=masks == 1,
    test_mask=masks == 2,
)
print(data)

# %% [markdown]
# ## The number to beat
#
# Without any network: each test digit gets the most frequent class of its five nearest training
# digits.

# %%
right = []
for split in range(SPLITS):
    train, test = part[:, split] == 0, part[:, split] == 2
    nearest_class = KNeighborsClassifier(5).fit(pixels[train], labels[train])
    right.append(nearest_class.score(pixels[test], labels[test]))
print(f"nearest neighbours: {np.mean(right):.1%} (from {min(right):.1%} to {max(right):.1%})")

# %% [markdown]
# ## Four norms on the same ten splits
#
# The splits come with the data, so the lab uses them. Every norm is trained on each split; the
# validation nodes choose the epoch, and the test nodes are scored there. One learning rate keeps
# this page short; leave it out, and each norm's is chosen on the validation nodes.

# %%
comparison = graphnorms.compare(
    [data],
    model="gcn",
    norms=["none", "batch", "layer", "pair"],
    learning_rate=0.01,
    layers=4,
    hidden=32,
    epochs=30,
    out="runs/digits",
)
print(comparison)

# %%
comparison.plot("learning_curves")

# %% [markdown]
# ## What the verdict says
#
# Here a norm helps: without one the network is worse than with BatchNorm in all ten splits, and
# that is more than chance. *Which* norm stays open: BatchNorm has the best mean, and LayerNorm and
# PairNorm cannot be told from it.
#
# The ten splits are ten cuts of the *same* 1797 nodes, so the ten scores are not ten independent
# experiments. The intervals and p-values above allow for that; they are wider than mean ± standard
# deviation, the usual last row of a paper, where PairNorm would have lost.
#
# Look at the curves as well: without a norm the network learns later and ends lower. Part of what a
# norm buys is speed, and whether the slower ones catch up is a question for `epochs=200`.

# %%
comparison.plot("score_by_pair")

# %% [markdown]
# ## What it cannot say
#
# - The verdict is about splits such as these. With three labelled digits of each class, test
#   parts are fifty times as large as training parts, and no number of splits of one graph would
#   settle the order: graphnorms says so.
# - BatchNorm is 0.4 points above nearest neighbours, which took no training at all. Whether the
#   network was worth it is another question than which norm it needs.
# - On one graph, the statistics of BatchNorm are those of all nodes at once. On many graphs they
#   are not: do not carry this order over.
