"""The tables of docs/performance.md, from what was measured last.

    python -m scripts.benchmarks.tables

Each stands between two comments that name it, as <!-- aims --> and <!-- /aims -->, and is made of
benchmarks/cpu.json, benchmarks/large-groups/cpu.json and benchmarks/footprint.md.
"""

from __future__ import annotations

from pathlib import Path

from .aims import GPU_AIMS
from .records import read
from .report import GROWTH, HOST, STARTS, as_markdown, ratios

ROOT = Path(__file__).resolve().parents[2]
DOCS, BENCHMARKS = ROOT / "docs" / "performance.md", ROOT / "benchmarks"


def blocks(folder: Path) -> dict[str, str]:
    """Marker -> what stands in it."""
    full, large = (read(folder / f"{name}.json") for name in ("cpu", "large-groups/cpu"))
    report = as_markdown(full)
    return {
        "growth": section(report, GROWTH),
        "ratios": section(report, ratios(full)),
        "aims": section(report, "Aims"),
        "host": section(report, HOST),
        "starts": section(report, STARTS),
        "large-groups": section(as_markdown(large), ratios(large)),
        "footprint": (folder / "footprint.md").read_text(),
        "gpu-aims": "".join(f"- {name}\n" for name in GPU_AIMS),
    }


def section(report: str, title: str) -> str:
    """The table of a report under a title."""
    found = report.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return "".join(f"{line}\n" for line in found.splitlines() if line.startswith("|"))


def filled(text: str, contents: dict[str, str]) -> str:
    """`text` with every block of its own filled."""
    for marker, content in contents.items():
        begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->"
        count = text.count(begin)
        assert count == text.count(end) == 1, f"{count} blocks are named {marker}, not one"
        text = text[: text.index(begin)] + begin + content + text[text.index(end) :]
    return text


if __name__ == "__main__":
    DOCS.write_text(filled(DOCS.read_text(), blocks(BENCHMARKS)))
