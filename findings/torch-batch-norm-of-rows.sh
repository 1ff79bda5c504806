#!/usr/bin/env bash
# torch 2.13.0 on the CPU, batch statistics of nn.BatchNorm1d in float32, features with mean 1000 and deviation 1:
# - given as (rows, channels), the layout of node features, the mean is summed row after row in float32: the error of
#   the result grows with the number of rows, to a hundredth of a deviation and more at 200000 rows;
# - the same numbers as (1, channels, rows) are normalized a hundred times as exactly, at any number of rows, as they
#   are by LayerNorm over the rows, and the running variance follows.
# torch_geometric.nn.BatchNorm hands its rows to nn.BatchNorm1d. Nothing warns. Exits with 1 when they do otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch_geometric==2.8.1
cat > "$folder/rows.py" <<'END'
import torch
from torch import nn
from torch_geometric.nn import BatchNorm

torch.set_num_threads(1)


def worst(y, exact):
    """The largest error, in deviations."""
    return (y.double() - exact).abs().max().item()


for rows in (1000, 20000, 200000):
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(0)) + 1000
    wide = x.double()
    exact = (wide - wide.mean(0)) / (wide.var(0, correction=0) + 1e-5).sqrt()
    as_rows = worst(nn.BatchNorm1d(64)(x), exact)
    of_pyg = worst(BatchNorm(64)(x), exact)
    as_channels = worst(nn.BatchNorm1d(64)(x.T[None].contiguous())[0].T, exact)
    print(f"# {rows} rows: {as_rows:.1e} as rows, {of_pyg:.1e} by PyG, {as_channels:.1e} as channels")
    print(rows, as_rows > 5 * as_channels, of_pyg == as_rows, as_rows > 1e-2, as_channels < 2e-4)
END
expected='1000 True True False True
20000 True True False True
200000 True True True True'
got=$("$folder/venv/bin/python" "$folder/rows.py" | tee /dev/stderr | grep -v '^#')
if [ "$got" != "$expected" ]; then
  echo "expected: $expected" >&2
  exit 1
fi
