#!/usr/bin/env bash
# torch 2.13.0 on a CPU: SGD with momentum and fused=True cannot step a parameter whose first gradient
# comes later than that of another parameter: a branch of a model that some batches do not use, such as
# the weights of an edge type that the first minibatch lacks. The step raises a TypeError about None, as
# the momentum of the newcomer is not there yet. Without fused, the newcomer starts with its gradient as
# momentum; Adam with fused=True steps it as well. It is enough that every parameter gets a gradient, of
# zeros, in the first step.
# Exits with 1 when torch does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
cat > "$folder/late.py" <<'END'
import torch

ways = {
    "SGD": lambda both: torch.optim.SGD(both, 0.1, momentum=0.9, fused=False),
    "SGD, fused": lambda both: torch.optim.SGD(both, 0.1, momentum=0.9, fused=True),
    "Adam, fused": lambda both: torch.optim.Adam(both, 0.1, fused=True),
}
for name, make in ways.items():
    used, late = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = make([used, late])
    try:
        used.grad = torch.ones(1)
        optimizer.step()
        late.grad = torch.ones(1)
        optimizer.step()
        print(f"{name}: {used.item():.2f}, {late.item():.2f}")
    except TypeError as error:
        print(f"{name}: TypeError: {error}")
END
expected='SGD: 0.71, 0.90
SGD, fused: TypeError: expected Tensor as element 1 in argument 2, but got NoneType
Adam, fused: 0.80, 0.90'
found=$(cd "$folder" && "$folder/venv/bin/python" late.py 2>/dev/null)
echo "$found"
[ "$found" = "$expected" ]
