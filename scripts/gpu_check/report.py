"""Results as a markdown page: the machine, the aims, then every section."""

from __future__ import annotations

from typing import Any

from . import layer
from .aims import aims
from .setting import OURS, Record


def markdown(results: dict[str, Any]) -> str:
    """The page; sections that did not come to their end are named with their reason."""
    machine = [(k, v) for k, v in results["environment"].items() if v is not None]
    parts = ["# What was measured on a GPU", _table(("what", "value"), machine)]
    if not results["dry_run"]:
        verdicts = {True: "yes", False: "no", None: "-"}
        lines = [(aim.aim, aim.measured, verdicts[aim.met]) for aim in aims(results["sections"])]
        parts += ["## Aims", _table(("aim", "measured", "met"), lines)]
    for name, section in results["sections"].items():
        parts.append(f"## {name}")
        if section.get("why"):
            parts.append(f"Not all of it was run: {section['why']}")
        parts += _section(section["records"])
    return "\n\n".join(parts) + "\n"


def _section(records: list[Record]) -> list[str]:
    """How many checks passed and which did not, then the tables."""
    checks = [r for r in records if "check" in r]
    parts = [_checks(checks)] if checks else []
    for title in dict.fromkeys(r["table"] for r in records if "table" in r):
        rows = [r for r in records if r.get("table") == title]
        parts.append(_layers(rows) if title == layer.TABLE else _records(rows))
        missing = dict.fromkeys(f"- {_line(r)}" for r in rows if r.get("why"))
        parts += ["\n".join(missing)] if missing else []
    unmet = [f"- FAILED: {_line(r)}" for r in records if "table" in r and r.get("good") is False]
    return parts + (["\n".join(unmet)] if unmet else [])


def _checks(records: list[Record]) -> str:
    bad = [r for r in records if r["good"] is False]
    unknown = [r for r in records if r["good"] is None]
    lines = [f"{sum(r['good'] is True for r in records)} of {len(records)} passed."]
    lines += [f"- FAILED: {_line(r)}" for r in bad] + [f"- not checked: {_line(r)}" for r in unknown]
    return "\n".join(lines)


def _line(record: Record) -> str:
    return " ".join(str(v) for k, v in record.items() if k not in ("good", "table", "ms") and v)


def _layers(records: list[Record]) -> str:
    """One row a type and length: ours, each peer, and the best peer over ours."""
    names = list(dict.fromkeys(r["contender"] for r in records))
    rows = []
    for kind, length in dict.fromkeys((r["type"], r["segment"]) for r in records):
        found = {r["contender"]: r for r in records if (r["type"], r["segment"]) == (kind, length)}
        ms = {name: r["ms"] for name, r in found.items() if r["ms"]}
        ours = ms.get(OURS)
        peers = [value for name, value in ms.items() if name != OURS]
        best = f"{min(peers) / ours:.2f}x" if peers and ours else "-"
        cells = [f"{ms[name]:.3f}" if name in ms else "-" for name in names]
        share = found[OURS]["of copy bandwidth"]
        rows.append((kind, length, *cells, f"{share:.0%}", best))
    return _table(
        ("type", "segment", *(f"{n}, ms" for n in names), "of copy bandwidth", "best peer / ours"), rows
    )


def _records(records: list[Record]) -> str:
    names = [n for n in dict.fromkeys(key for r in records for key in r) if n not in ("table", "good", "why")]
    return _table(tuple(names), [tuple(_cell(r.get(name)) for name in names) for r in records])


def _cell(value: Any) -> Any:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else value


def _table(header: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
