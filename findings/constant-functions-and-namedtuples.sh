#!/usr/bin/env bash
# torch 2.13.0: a function marked with torch.compiler.assume_constant_result gets, under
# torch.compile, a NamedTuple argument that has lost its items: the compiled graph holds another
# constant than eager mode computes, with fullgraph=True and without a word. A plain tuple arrives
# whole. Exits with 1 when torch does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
cat > "$folder/constants.py" <<'END'
from typing import NamedTuple

import torch


class Pair(NamedTuple):
    left: int
    right: int


@torch.compiler.assume_constant_result
def items(pair):
    return len(pair)


def with_namedtuple(x):
    return x * items(Pair(2, 3))


def with_tuple(x):
    return x * items((2, 3))


for function in (with_tuple, with_namedtuple):
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    x = torch.ones(1)
    print(f"{function.__name__}: eager {function(x).item()}, compiled {compiled(x).item()}")
END
expected='with_tuple: eager 2.0, compiled 2.0
with_namedtuple: eager 2.0, compiled 0.0'
found=$("$folder/venv/bin/python" "$folder/constants.py" 2>/dev/null)
echo "$found"
[ "$found" = "$expected" ]
