#!/usr/bin/env bash
# torch_geometric 2.8.1 (torch 2.13.0), global_mean_pool of features (nodes, copies, components):
# - it pools the last dimension but one, so with as many copies as nodes it averages copies by the
#   graphs of the nodes, silently, and returns (nodes, graphs, components);
# - with another number of copies it raises.
# Equiformer's EquivariantGraphNorm and EquivariantInstanceNorm call it so.
# Exits with 1 when it does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch_geometric==2.8.1
cat > "$folder/pool.py" <<'END'
import torch
from torch_geometric.nn import global_mean_pool

batch = torch.tensor([0, 0, 1, 1])
x = torch.arange(16.0).view(4, 4, 1)  # 4 nodes with 4 copies of a scalar
y = global_mean_pool(x, batch)
per_graph = x.view(2, 2, 4, 1).mean(1)
print("as many copies as nodes:", tuple(y.shape), "expected", tuple(per_graph.shape))
print("means of copies of a node:", bool((y[0, :, 0] == x[0, :, 0].view(2, 2).mean(1)).all()))
try:
    print("3 copies:", tuple(global_mean_pool(x[:, :3], batch).shape))
except RuntimeError:
    print("3 copies: RuntimeError")
END
expected='as many copies as nodes: (4, 2, 1) expected (2, 4, 1)
means of copies of a node: True
3 copies: RuntimeError'
found=$("$folder/venv/bin/python" -W ignore "$folder/pool.py")
echo "$found"
[ "$found" = "$expected" ]
