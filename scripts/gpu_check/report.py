"""Results as a markdown page."""

from __future__ import annotations

from typing import Any

from .layer import OURS


def markdown(results: dict[str, Any]) -> str:
    """The page; sections that did not run are named with their reason."""
    parts = ["# Group attention on a GPU", _environment(results["environment"])]
    for name, section in results["sections"].items():
        parts.append(f"## {name}")
        if section.get("why"):
            parts.append(f"Not run: {section['why']}")
        elif "times" in section:
            parts.append(_times(section))
        else:
            parts += [_checks(section["records"])] if "records" in section else []
            parts += [_as_table(section["table"])] if section.get("table") else []
    return "\n\n".join(parts) + "\n"


def _environment(values: dict[str, Any]) -> str:
    return _table(("what", "value"), [(k, v) for k, v in values.items() if v is not None])


def _checks(records: list[dict[str, Any]]) -> str:
    """Every failure, and how many passed."""
    bad = [r for r in records if r["good"] is False]
    unknown = [r for r in records if r["good"] is None]
    lines = [f"{sum(r['good'] is True for r in records)} of {len(records)} passed."]
    lines += [f"- FAILED: {_line(r)}" for r in bad] + [f"- not checked: {_line(r)}" for r in unknown]
    return "\n".join(lines)


def _line(record: dict[str, Any]) -> str:
    return " ".join(str(v) for k, v in record.items() if k != "good" and v)


def _times(section: dict[str, Any]) -> str:
    """One row a type and length: ours, each peer, and ours over the best peer."""
    records = section["times"]
    names = list(dict.fromkeys(r["name"] for r in records))
    rows = []
    for dtype, length in dict.fromkeys((r["dtype"], r["segment"]) for r in records):
        ms = {r["name"]: r["ms"] for r in records if (r["dtype"], r["segment"]) == (dtype, length)}
        ours = next(r for r in records if (r["dtype"], r["segment"], r["name"]) == (dtype, length, OURS))
        peers = [v for k, v in ms.items() if k != OURS and v]
        best = f"{min(peers) / ms[OURS]:.2f}x" if peers else "-"
        cells = [f"{ms[n]:.3f}" if ms.get(n) else "-" for n in names]
        rows.append((dtype, length, *cells, f"{100 * ours['bandwidth_share']:.0f} %", best))
    header = ("type", "segment", *(f"{n}, ms" for n in names), "of copy bandwidth", "best peer / ours")
    rates = ", ".join(f"{k} {v / 1e12:.0f} TFLOP/s" for k, v in section["matmul"].items())
    missing = dict.fromkeys(
        f"- {r['name']} ({r['dtype']}, {r['segment']}): {r['why']}" for r in records if r.get("why")
    )
    measured = f"Copy {section['copy_bandwidth'] / 1e12:.2f} TB/s; matrix products {rates}."
    return "\n\n".join([measured, _table(header, rows), "\n".join(missing)]).rstrip()


def _as_table(records: list[dict[str, Any]]) -> str:
    def cell(value: Any) -> Any:
        return f"{value:.4g}" if isinstance(value, float) else value

    return _table(tuple(records[0]), [tuple(map(cell, record.values())) for record in records])


def _table(header: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
