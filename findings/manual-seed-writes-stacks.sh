#!/usr/bin/env bash
# torch 2.13.0 on a machine without an accelerator: every torch.manual_seed writes the whole call
# stack down as text three times, for the devices of CUDA, MTIA and XPU that are not there, in case
# one is initialized later. A seed costs microseconds; this costs more the deeper the call is: a test
# that seeds under pytest, or a trial that seeds within a framework, pays milliseconds for it.
# torch.default_generator.manual_seed gives the CPU the same numbers and writes nothing down.
# Exits with 1 when torch does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
cat > "$folder/seed.py" <<'END'
import time
import traceback

import torch

written = 0
plain = traceback.format_stack


def counted(*arguments, **keywords):
    global written
    written += 1
    return plain(*arguments, **keywords)


def at(depth, function):
    """Call a function that many calls deep."""
    return at(depth - 1, function) if depth else function()


def microseconds(seed, depth):
    """The least of 50 calls."""

    def once():
        start = time.perf_counter()
        seed(0)
        return time.perf_counter() - start

    return min(at(depth, once) for _ in range(50)) * 1e6


ways = {"torch.manual_seed": torch.manual_seed,
        "default_generator": torch.default_generator.manual_seed}
for way, seed in ways.items():
    traceback.format_stack, written = counted, 0
    seed(0)
    traceback.format_stack = plain
    numbers = [round(x, 4) for x in torch.rand(2).tolist()]
    print(f"{way}: {numbers}, stacks written: {written}")
shallow, deep = (microseconds(torch.manual_seed, depth) for depth in (0, 100))
bare = microseconds(torch.default_generator.manual_seed, 100)
print(f"100 calls deep it costs more than 5 times as much: {deep > 5 * shallow}, "
      f"and more than 20 times the generator's: {deep > 20 * bare}")
END
expected='torch.manual_seed: [0.4963, 0.7682], stacks written: 3
default_generator: [0.4963, 0.7682], stacks written: 0
100 calls deep it costs more than 5 times as much: True, and more than 20 times the generator'"'"'s: True'
found=$(cd "$folder" && "$folder/venv/bin/python" seed.py 2>/dev/null)
echo "$found"
[ "$found" = "$expected" ]
