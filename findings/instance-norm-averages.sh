#!/usr/bin/env bash
# torch 2.13.0 and torch_geometric 2.8.1, running averages of InstanceNorm:
# - nn.InstanceNorm1d(momentum=None), which is the plain average in nn.BatchNorm1d, never moves its
#   averages, nor its counter;
# - with track_running_stats set to False afterwards, those of torch and of PyG move in eval() too,
#   where BatchNorm's stay.
# Nothing is raised. Exits with 1 when they do otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch_geometric==2.8.1
cat > "$folder/averages.py" <<'END'
import torch
from torch import nn
from torch_geometric.nn import InstanceNorm

torch.manual_seed(0)
x = torch.randn(4, 3, 8) + 5
rows = x.transpose(1, 2).reshape(-1, 3)


def moved(norm, *inputs):
    before = norm.running_mean.clone()
    norm(*inputs)
    return "moved" if not torch.equal(before, norm.running_mean) else "stayed"


for make in (nn.BatchNorm1d, nn.InstanceNorm1d):
    norm = make(3, momentum=None, track_running_stats=True)
    print(make.__name__, "momentum=None:", moved(norm, x), int(norm.num_batches_tracked))
for make, data in ((nn.BatchNorm1d, x), (nn.InstanceNorm1d, x), (InstanceNorm, rows)):
    norm = make(3, track_running_stats=True).eval()
    norm.track_running_stats = False
    print(make.__module__.split(".")[0], make.__name__, "not tracked, eval:", moved(norm, data))
END
expected='BatchNorm1d momentum=None: moved 1
InstanceNorm1d momentum=None: stayed 0
torch BatchNorm1d not tracked, eval: stayed
torch InstanceNorm1d not tracked, eval: moved
torch_geometric InstanceNorm not tracked, eval: moved'
found=$("$folder/venv/bin/python" -W ignore "$folder/averages.py")
echo "$found"
[ "$found" = "$expected" ]
