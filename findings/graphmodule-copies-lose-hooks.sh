#!/usr/bin/env bash
# torch 2.13.0: copy.deepcopy, and pickle, of a module traced by torch.fx drop the forward hooks of
# the traced module itself, and keep those of the modules inside; of every other nn.Module they keep
# both. AveragedModel, which copies what it averages, so averages a model without its hooks, and
# nothing says so. Exits with 1 when torch does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
cat > "$folder/hooks.py" <<'END'
import copy
import pickle

import torch
from torch import fx, nn
from torch.optim.swa_utils import AveragedModel

called = []


def outer(module, args, output):
    called.append("outer")


def inner(module, args, output):
    called.append("inner")


plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
for kind, model in (("Sequential", plain), ("GraphModule", fx.symbolic_trace(copy.deepcopy(plain)))):
    model.register_forward_hook(outer)
    model.get_submodule("0").register_forward_hook(inner)
    for way, other in (
        ("itself", model),
        ("deepcopy", copy.deepcopy(model)),
        ("pickle", pickle.loads(pickle.dumps(model))),
        ("AveragedModel", AveragedModel(model)),
    ):
        called.clear()
        other(torch.zeros(1, 2))
        print(f"{kind} {way}: {', '.join(called)}")
END
expected='Sequential itself: inner, outer
Sequential deepcopy: inner, outer
Sequential pickle: inner, outer
Sequential AveragedModel: inner, outer
GraphModule itself: inner, outer
GraphModule deepcopy: inner
GraphModule pickle: inner
GraphModule AveragedModel: inner'
found=$(cd "$folder" && "$folder/venv/bin/python" hooks.py 2>/dev/null)
echo "$found"
[ "$found" = "$expected" ]
