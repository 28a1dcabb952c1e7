"""The tables of the README, from what was measured last.

    python -m scripts.readme_tables

Each stands between two comments that name it, as <!-- aims --> and <!-- /aims -->, and is copied from
benchmarks/cpu.md, which `chronos-export bench` wrote.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README, BENCH = ROOT / "README.md", ROOT / "benchmarks" / "cpu.md"
TABLES = {  # marker -> section of the report
    "growth": "Seconds a sample as the batch grows, two layers, groups of 20",
    "ratios": "Time over ours on onnxruntime",
    "aims": "Aims",
}


def filled(readme: str, report: str) -> str:
    """`readme` with the tables of `report`."""
    for marker, title in TABLES.items():
        block = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
        table = _table(report, title)
        readme, count = block.subn(lambda found, table=table: found[1] + table + found[2], readme)
        assert count == 1, f"README.md has {count} blocks named {marker}, not one"
    return readme


def _table(report: str, title: str) -> str:
    section = report.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return "".join(f"{line}\n" for line in section.splitlines() if line.startswith("|"))


if __name__ == "__main__":
    README.write_text(filled(README.read_text(), BENCH.read_text()))
