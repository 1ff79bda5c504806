#!/usr/bin/env bash
# torch_geometric 2.8.1 (torch 2.13.0): models whose convolutions hold an MLP give `batch` to the norms
# between the convolutions, but not to those inside the MLPs. With a norm of graphs these take the
# whole batch for one graph: in eval(), the result for a graph depends on which others are in the
# batch. So it is with GIN, for GraphNorm and InstanceNorm; GCN has no such norms. Nothing is raised.
# Exits with 1 when it does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch_geometric==2.8.1
cat > "$folder/norms.py" <<'END'
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCN, GIN

torch.manual_seed(0)


def graph(nodes, shift):
    ring = torch.arange(nodes)
    edges = torch.stack((ring, (ring + 1) % nodes))
    return Data(x=torch.randn(nodes, 4) + shift, edge_index=torch.cat((edges, edges.flip(0)), 1))


first, second = graph(6, 0.0), graph(9, 3.0)
for make in (GCN, GIN):
    for norm in ("GraphNorm", "InstanceNorm"):
        model = make(4, 8, num_layers=2, norm=norm).eval()
        with torch.no_grad():
            alone = model(first.x, first.edge_index, batch=torch.zeros(6, dtype=torch.long))
            both = Batch.from_data_list([first, second])
            beside = model(both.x, both.edge_index, batch=both.batch)[:6]
        same = torch.allclose(alone, beside, atol=1e-4)
        inner = [name for name, _ in model.named_modules() if ".nn.norms." in name]
        print(make.__name__, norm, "inner norms:", len(inner), "same beside another graph:", same)
END
expected='GCN GraphNorm inner norms: 0 same beside another graph: True
GCN InstanceNorm inner norms: 0 same beside another graph: True
GIN GraphNorm inner norms: 2 same beside another graph: False
GIN InstanceNorm inner norms: 2 same beside another graph: False'
found=$("$folder/venv/bin/python" -W ignore "$folder/norms.py")
echo "$found"
[ "$found" = "$expected" ]
