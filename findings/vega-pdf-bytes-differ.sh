#!/usr/bin/env bash
# vl-convert-python 1.9.0.post1: the same chart gives other PDF bytes each time, within one process
# and of one length, where its marks have several opacities: each page lists its resources in random
# order. SVG and PNG are equal byte by byte. So a PDF under version control, or with a checksum,
# changes without a change of the figure. Exits with 1 when vl-convert does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet vl-convert-python==1.9.0.post1
cat > "$folder/chart.py" <<'END'
import vl_convert

rows = [{"x": x, "y": x * x, "name": f"norm {x}"} for x in range(6)]
chart = {
    "data": {"values": rows},
    "mark": "bar",
    "encoding": {
        "x": {"field": "x", "type": "quantitative"},
        "y": {"field": "y", "type": "quantitative"},
        "color": {"field": "name", "type": "nominal"},
        "opacity": {"field": "x", "type": "quantitative"},
    },
}
for kind in ("svg", "png", "pdf"):
    made = [getattr(vl_convert, f"vegalite_to_{kind}")(chart) for _ in range(8)]
    print(f"{kind}: {'one file' if len(set(made)) == 1 else 'different files'}, "
          f"{'one length' if len(set(map(len, made))) == 1 else 'different lengths'}")
END
expected='svg: one file, one length
png: one file, one length
pdf: different files, one length'
found=$("$folder/venv/bin/python" "$folder/chart.py")
echo "$found"
[ "$found" = "$expected" ]
