#!/usr/bin/env bash
# torch 2.13.0: the table core_aten_decompositions(), with which models are traced by make_fx before
# they are compiled, decomposes aten.detach into a view. A graph that is differentiated after it was
# traced (as the loss of force training is) then has gradients where the model had stopped them:
# nothing is raised. Exits with 1 when torch does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
cat > "$folder/traced.py" <<'END'
import torch
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx


def model(x):
    return (x * x.detach()).sum()


x = torch.tensor([2.0, 3.0], requires_grad=True)
print("eager: ", torch.autograd.grad(model(x), x)[0].tolist())
for name, table in (("plain", None), ("core", dict(core_aten_decompositions()))):
    graph = make_fx(model, decomposition_table=table)(torch.ones(2))
    print(f"{name}: ", torch.autograd.grad(graph(x), x)[0].tolist())
END
expected='eager:  [2.0, 3.0]
plain:  [2.0, 3.0]
core:  [4.0, 6.0]'
found=$("$folder/venv/bin/python" -W ignore "$folder/traced.py")
echo "$found"
[ "$found" = "$expected" ]
