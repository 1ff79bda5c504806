#!/usr/bin/env bash
# torch 2.13.0 on the CPU keeps no memory between training steps: tensors above 32 MiB go back to the system when they
# are freed, and the next step is handed cleared pages, one fault for every 4 KiB that it writes. A step of GIN from
# torch_geometric 2.8.1 on a minibatch like one of REDDIT-BINARY (128 graphs of about 430 nodes, 192 channels) has some
# hundred thousand page faults. With three variables of glibc, which make malloc keep what it is given back, the same
# process has next to none, and the same loss. How much time that is depends on the machine; it is printed.
# Linux with glibc. Exits with 1 when it does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch_geometric==2.8.1
cat > "$folder/steps.py" <<'END'
import resource
import time

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GIN, global_add_pool

torch.set_num_threads(1)
torch.manual_seed(0)


def tree(nodes):
    """A tree in which early nodes have most of the edges."""
    child = torch.arange(1, nodes)
    parent = (child * torch.rand(nodes - 1) ** 6).long()
    edges = torch.stack((torch.cat((child, parent)), torch.cat((parent, child))))
    return Data(x=torch.ones(nodes, 1), edge_index=edges, y=nodes % 2)


batch = Batch.from_data_list([tree(n) for n in torch.randint(215, 645, (128,)).tolist()])
model = GIN(1, 192, num_layers=2, out_channels=2, norm="BatchNorm")
seconds, faults = [], []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    begin = time.perf_counter()
    model.zero_grad()
    pooled = global_add_pool(model(batch.x, batch.edge_index), batch.batch, size=128)
    loss = torch.nn.functional.cross_entropy(pooled, batch.y)
    loss.backward()
    seconds.append(time.perf_counter() - begin)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(f"# {min(seconds[4:]):.2f} s and {max(faults[4:])} page faults a step")
print(min(faults[4:]) > 50_000, max(faults[4:]) < 1000, loss.item())
END
plain=$("$folder/venv/bin/python" "$folder/steps.py" | tee /dev/stderr | grep -v '^#')
kept=$(MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456 \
  "$folder/venv/bin/python" "$folder/steps.py" | tee /dev/stderr | grep -v '^#')
if [ "${plain% *}" != "True False" ] || [ "${kept% *}" != "False True" ] || [ "${plain##* }" != "${kept##* }" ]; then
  echo "expected many page faults without the variables, few with them, and the same loss" >&2
  exit 1
fi
