#!/usr/bin/env bash
# torch 2.13.0: a process group that is there when torch.distributed.nn is first imported, as any
# optimizer does, is never let go: its functions have `group=group.WORLD` among their defaults.
# destroy_process_group() then ends neither the group nor its threads. What that leads to is told
# in docs/distributed.md; here is only what is kept. Exits with 1 when torch does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
cat > "$folder/kept.py" <<'END'
import sys
import weakref

import torch.distributed as dist

if sys.argv[1] == "before":
    import torch.distributed.nn
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
if sys.argv[1] == "after":
    import torch.distributed.nn
group = weakref.ref(dist.group.WORLD)
dist.destroy_process_group()
print(f"imported {sys.argv[1]} the group was there:", "kept" if group() else "gone")
END
expected='imported before the group was there: gone
imported after the group was there: kept'
found=$(for when in before after; do
    GLOO_SOCKET_IFNAME=lo "$folder/venv/bin/python" "$folder/kept.py" "$when" 2>/dev/null
done)
echo "$found"
[ "$found" = "$expected" ]
