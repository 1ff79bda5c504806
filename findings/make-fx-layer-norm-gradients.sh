#!/usr/bin/env bash
# torch 2.13.0: a force (a gradient with create_graph=True) traced by make_fx with
# core_aten_decompositions() and then differentiated: behind nn.LayerNorm and batch_norm in training
# the gradients of everything upstream are off by percents, and nothing is raised. The decomposed
# backward reads the mean and rstd that the forward returned, which autograd takes for constants.
# RMSNorm and GroupNorm are right. Exits with 1 when torch does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
cat > "$folder/force.py" <<'END'
import torch
import torch.nn.functional as F
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x, w, b, v = torch.randn(5, 6), torch.randn(6), torch.randn(6), torch.randn(6)
norms = {
    "layer_norm": lambda x: F.layer_norm(x, (6,), w, b),
    "batch_norm": lambda x: F.batch_norm(x, None, None, w, b, True),
    "rms_norm": lambda x: F.rms_norm(x, (6,), w),
    "group_norm": lambda x: F.group_norm(x, 2, w, b),
}


def force_of(norm):
    def force(x):
        energy = (torch.tanh(norm(x)) * v).sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0]

    return force


def gradient(force):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(force(leaf).square().sum(), leaf)[0]


for name, norm in norms.items():
    force = force_of(norm)
    table = dict(core_aten_decompositions())
    traced = make_fx(force, decomposition_table=table)(x.clone().requires_grad_())
    true, found = gradient(force), gradient(traced)
    off = float((found - true).abs().max() / true.abs().max())
    print(f"{name}: {'wrong' if off > 0.01 else 'right' if off < 1e-9 else off}")
END
expected='layer_norm: wrong
batch_norm: wrong
rms_norm: right
group_norm: right'
found=$("$folder/venv/bin/python" -W ignore "$folder/force.py")
echo "$found"
[ "$found" = "$expected" ]
