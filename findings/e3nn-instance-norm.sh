#!/usr/bin/env bash
# e3nn 0.6.0 (torch 2.13.0), e3nn.nn.BatchNorm on rows (nodes, columns):
# - instance=True, "apply instance norm", knows no graphs: each row is normalized by itself, so that
#   every scalar becomes its bias, whatever the features, and each vector keeps its direction alone;
# - a batch without nodes raises;
# - running_var follows the biased variance, where torch's and PyG's BatchNorm keep the unbiased one.
# Exits with 1 when it does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 e3nn==0.6.0
cat > "$folder/norms.py" <<'END'
import torch
from e3nn.nn import BatchNorm

torch.manual_seed(0)
x = torch.randn(6, 5) * 3 + 2  # two scalars and a vector
norm = BatchNorm("2x0e + 1x1o", instance=True)
y = norm(x)
lengths = y[:, 2:].pow(2).mean(1)
print("instance: largest scalar", round(y[:, :2].abs().max().item(), 4))
print("instance: lengths of vectors alike", bool((lengths - lengths[0]).abs().max() < 1e-3))
try:
    BatchNorm("2x0e + 1x1o")(x[:0])
    print("no nodes: fine")
except RuntimeError:
    print("no nodes: RuntimeError")
norm = BatchNorm("2x0e", momentum=1.0)
norm(x[:, :2])
for name, correction in (("biased", 0), ("unbiased", 1)):
    same = torch.allclose(norm.running_var, x[:, :2].var(0, correction=correction))
    print("running_var is the", name, "variance:", same)
END
expected='instance: largest scalar 0.0
instance: lengths of vectors alike True
no nodes: RuntimeError
running_var is the biased variance: True
running_var is the unbiased variance: False'
found=$("$folder/venv/bin/python" -W ignore "$folder/norms.py")
echo "$found"
[ "$found" = "$expected" ]
