"""Count the lines of the package: `python scripts/count_lines.py [folder of a checkout]`."""

from __future__ import annotations

import sys
from pathlib import Path

APART = ("lab", "comparison", "report", "cli", "studies", "bench")
ENDINGS = (".py", ".cpp", ".h", ".inl")


def main(checkout: Path) -> None:
    """Print a row for each part, and the sums without and with the lab and what shows it."""
    package = checkout / "src/graphnorms"
    counts: dict[str, int] = {}
    for file in sorted(package.rglob("*")):
        if file.suffix in ENDINGS:
            first, *rest = file.relative_to(package).parts
            part = first if rest else "top"
            counts[part] = counts.get(part, 0) + len(file.read_bytes().splitlines())
    for part, lines in counts.items():
        print(f"{part:12}{lines:7}")
    library = sum(lines for part, lines in counts.items() if part not in APART)
    print(f"{'without ' + ', '.join(APART)}: {library}; in all: {sum(counts.values())}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]))
