#!/usr/bin/env bash
# torch_geometric 2.8.1 reading a folder in TU format:
# - an edge that is listed twice (as all of IMDB-BINARY's are) is merged by adding up its features,
#   so that a one-hot edge label becomes 2;
# - graphs at the end without an edge are lost, and their targets go to the graphs before them.
# Nothing is raised. Exits with 1 when it does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch_geometric==2.8.1
mkdir "$folder/repeats" "$folder/edgeless"
cd "$folder"
printf '1, 2\n2, 1\n1, 2\n2, 1\n3, 4\n4, 3\n' > repeats/DS_A.txt
printf '0\n0\n0\n0\n0\n0\n' > repeats/DS_edge_labels.txt
printf '1\n1\n2\n2\n' > repeats/DS_graph_indicator.txt
printf '0\n1\n' > repeats/DS_graph_labels.txt
printf '1, 2\n2, 1\n' > edgeless/DS_A.txt
printf '1\n1\n2\n' > edgeless/DS_graph_indicator.txt
printf '0\n1\n' > edgeless/DS_graph_labels.txt
cat > read.py <<'END'
from torch_geometric.io import read_tu_data

data, _, _ = read_tu_data("repeats", "DS")
print("features of two repeated edges and two others:", data.edge_attr.flatten().tolist())
data, slices, _ = read_tu_data("edgeless", "DS")
print("two graphs, the second without edges:", len(slices["edge_index"]) - 1, "read")
END
expected='features of two repeated edges and two others: [2.0, 2.0, 1.0, 1.0]
two graphs, the second without edges: 1 read'
found=$("$folder/venv/bin/python" -W ignore read.py)
echo "$found"
[ "$found" = "$expected" ]
