#!/usr/bin/env bash
# torch_geometric 2.8.1, torch 2.13.0: under autocast to bfloat16 on a CPU, GraphNorm and LayerNorm
# (mode "graph") return float32 for bfloat16 features, though their statistics are bfloat16;
# BatchNorm, InstanceNorm and PairNorm return bfloat16. So the dtype of what follows depends on the
# norm. Exits with 1 when they do otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch_geometric==2.8.1
cat > "$folder/autocast.py" <<'END'
import torch
from torch_geometric.nn import BatchNorm, GraphNorm, InstanceNorm, LayerNorm, PairNorm

x, batch = torch.randn(12, 4).bfloat16(), torch.arange(12) // 6
with torch.autocast("cpu", torch.bfloat16):
    for norm in (GraphNorm(4), LayerNorm(4), BatchNorm(4), InstanceNorm(4), PairNorm()):
        y = norm(x) if isinstance(norm, BatchNorm) else norm(x, batch)
        print(type(norm).__name__, str(y.dtype).removeprefix("torch."))
END
expected='GraphNorm float32
LayerNorm float32
BatchNorm bfloat16
InstanceNorm bfloat16
PairNorm bfloat16'
found=$("$folder/venv/bin/python" -W ignore "$folder/autocast.py")
echo "$found"
[ "$found" = "$expected" ]
