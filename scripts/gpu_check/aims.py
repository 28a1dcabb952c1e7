"""The GPU aims, each with what was measured of it, or why nothing was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import layer, small_batch, whole_model
from .setting import GROUP, OURS, Record

FEW, MANY, LAYERS = 400, 2000, 12
SPEEDUPS = {"float32": (3.5, 1.4), "tf32": (15.0, 2.0), "bfloat16": (30.0, 2.0), "float16": (30.0, 2.0)}
NARROW = ("bfloat16", "float16")
LAYER_MS = {"float32": 0.8, "tf32": 0.8, "bfloat16": 0.4, "float16": 0.4}
WHOLE, PEAK, PER_GROUP = whole_model.TABLE, whole_model.PEAK, "ms a group of 20"


@dataclass(frozen=True)
class Aim:
    """One line of the table; `met` is None where it was not measured."""

    aim: str
    measured: str
    met: bool | None


def aims(sections: Mapping[str, Mapping[str, Any]]) -> list[Aim]:
    """Every GPU aim, in the order of the table.

    Args:
        sections: As `apart.run_apart` gives them, by name; a section has the name of its table.
    """
    found = _Found(sections)
    return [
        *(_at_the_same_rows(found, mode, rows) for mode in SPEEDUPS for rows in (MANY, FEW)),
        *(_at_its_own_best(found, mode) for mode in SPEEDUPS),
        *(_of_the_rate(found, mode) for mode in SPEEDUPS),
        *(_share_of_attention(found, mode) for mode in NARROW),
        *(_flat(found, mode) for mode in SPEEDUPS),
        *(_linear(found, mode) for mode in SPEEDUPS),
        *(_small(found, mode) for mode in small_batch.MODES),
        *(_layer(found, mode) for mode in LAYER_MS),
        *(_ahead(found, mode) for mode in LAYER_MS),
    ]


class _Found:
    """The records of all sections."""

    def __init__(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        self._sections = sections
        self._records = [r for section in sections.values() for r in section["records"]]

    def of(self, table: str, **values: Any) -> list[Record]:
        """Records of a table that were measured, with these values."""
        return [r for r in self._all(table, values) if r.get("ms")]

    def ours(self, table: str, **values: Any) -> Record | None:
        return _fastest(r for r in self.of(table, **values) if r["contender"].startswith("ours"))

    def not_measured(self, aim: str, table: str, **values: Any) -> Aim:
        """An aim that lacks a number of this table, and why."""
        reasons = [f"{r['contender']}: {r['why']}" for r in self._all(table, values) if r.get("why")]
        section = self._sections.get(table, {"why": "not run"})
        reasons += [section["why"]] if section.get("why") else []
        return Aim(aim, f"not measured ({'; '.join(dict.fromkeys(reasons))})", None)

    def _all(self, table: str, values: Mapping[str, Any]) -> list[Record]:
        tabled = [r for r in self._records if r.get("table") == table]
        return [r for r in tabled if all(r.get(key) == value for key, value in values.items())]


def _fastest(records: Iterable[Record], key: str = "ms") -> Record | None:
    return min(records, key=lambda r: float(r[key]), default=None)


def _said(record: Record, key: str = "ms") -> str:
    return f"{record['contender']} {record[key]:.3g} ms"


def _at_the_same_rows(found: _Found, mode: str, rows: int) -> Aim:
    least = SPEEDUPS[mode][0]
    aim = f"{mode}: {least}x upstream at the same {rows} rows"
    ours = found.ours(WHOLE, type=mode, rows=rows)
    theirs = _fastest(found.of(WHOLE, type=mode, rows=rows, contender="upstream"))
    if ours is None or theirs is None:
        return found.not_measured(aim, WHOLE, type=mode, rows=rows)
    ratio = theirs["ms"] / ours["ms"]
    return Aim(aim, f"{ratio:.2f}x: {_said(theirs)}, {_said(ours)}", ratio >= least)


def _at_its_own_best(found: _Found, mode: str) -> Aim:
    least = SPEEDUPS[mode][1]
    aim = f"{mode}: {least}x upstream at its own best batch, a group of 20"
    ours = found.ours(WHOLE, type=mode, rows=MANY)
    theirs = _fastest(found.of(WHOLE, type=mode, contender="upstream"), PER_GROUP)
    if ours is None or theirs is None:
        return found.not_measured(aim, WHOLE, type=mode)
    ratio = theirs[PER_GROUP] / ours[PER_GROUP]
    best = f"{_said(theirs, PER_GROUP)} in calls of {theirs['rows']} rows"
    return Aim(aim, f"{ratio:.2f}x: {best}, {_said(ours, PER_GROUP)}", ratio >= least)


def _of_the_rate(found: _Found, mode: str) -> Aim:
    aim = f"{mode}: 75 % of the matrix-product rate, {MANY} rows"
    ours = found.ours(WHOLE, type=mode, rows=MANY)
    if ours is None:
        return found.not_measured(aim, WHOLE, type=mode, rows=MANY)
    return Aim(aim, f"{ours['of the rate']:.0%}: {_said(ours)}", ours["of the rate"] >= 0.75)


def _share_of_attention(found: _Found, mode: str) -> Aim:
    aim = f"{mode}: group attention at most 6 % of the time, {MANY} rows"
    ours = found.ours(WHOLE, type=mode, rows=MANY)
    if ours is None:
        return found.not_measured(aim, WHOLE, type=mode, rows=MANY)
    kernel = found.ours(layer.TABLE, type=mode, segment=GROUP)
    if kernel is None:
        return found.not_measured(aim, layer.TABLE, type=mode)
    share = LAYERS * kernel["ms"] / ours["ms"]
    return Aim(aim, f"{share:.1%}: {LAYERS} x {kernel['ms']:.3f} ms of {_said(ours)}", share <= 0.06)


def _flat(found: _Found, mode: str) -> Aim:
    aim = f"{mode}: a group of 20 among {MANY} rows takes at most 1.02x what it takes among {FEW}"
    few, many = (found.ours(WHOLE, type=mode, rows=rows) for rows in (FEW, MANY))
    if few is None or many is None:
        return found.not_measured(aim, WHOLE, type=mode)
    ratio = many[PER_GROUP] / few[PER_GROUP]
    return Aim(aim, f"{ratio:.3f}x: {few[PER_GROUP]:.3g} and {many[PER_GROUP]:.3g} ms", ratio <= 1.02)


def _linear(found: _Found, mode: str) -> Aim:
    """A constant part, such as narrow copies of weights, only makes the growth smaller."""
    aim = f"{mode}: peak memory at {MANY} rows at most {MANY // FEW} x 1.02 times that at {FEW}"
    every = [r for r in found.of(WHOLE, type=mode) if r["contender"].startswith("ours") and r.get(PEAK)]
    many = _fastest(r for r in every if r["rows"] == MANY)
    few = _fastest(r for r in every if many and (r["rows"], r["contender"]) == (FEW, many["contender"]))
    if few is None or many is None:
        return found.not_measured(aim, WHOLE, type=mode)
    ratio = many[PEAK] / few[PEAK]
    sides = f"{many['contender']} {few[PEAK]:.0f} and {many[PEAK]:.0f} MB"
    return Aim(aim, f"{ratio:.2f}x: {sides}", ratio <= 1.02 * MANY / FEW)


def _small(found: _Found, mode: str) -> Aim:
    aim = f"{mode}: 20 rows in one CUDA graph ahead of torch.compile"
    every = found.of(small_batch.TABLE, type=mode)
    ours = _fastest(r for r in every if small_batch.CAPTURED in r["contender"])
    theirs = _fastest(r for r in every if small_batch.COMPILED in r["contender"])
    if ours is None or theirs is None:
        return found.not_measured(aim, small_batch.TABLE, type=mode)
    ratio = theirs["ms"] / ours["ms"]
    return Aim(aim, f"{ratio:.2f}x: {_said(theirs)}, {_said(ours)}", ratio > 1)


def _layer(found: _Found, mode: str) -> Aim:
    most = LAYER_MS[mode]
    aim = f"{mode}: a layer's group attention in {most} ms, at 70 % of the copy bandwidth"
    ours = found.ours(layer.TABLE, type=mode, segment=GROUP)
    if ours is None:
        return found.not_measured(aim, layer.TABLE, type=mode)
    share = ours["of copy bandwidth"]
    return Aim(aim, f"{ours['ms']:.3f} ms, {share:.0%}", ours["ms"] <= most and share >= 0.7)


def _ahead(found: _Found, mode: str) -> Aim:
    aim = f"{mode}: a layer never slower than the best peer, at any segment length"
    ratios = {}
    for ours in found.of(layer.TABLE, type=mode, contender=OURS):
        every = found.of(layer.TABLE, type=mode, segment=ours["segment"])
        best = _fastest(r for r in every if r["contender"] != OURS)
        if best:
            ratios[ours["segment"]] = best["ms"] / ours["ms"]
    if not ratios:
        return found.not_measured(aim, layer.TABLE, type=mode)
    shown = ", ".join(f"{length}: {ratio:.2f}x" for length, ratio in sorted(ratios.items()))
    return Aim(aim, shown, min(ratios.values()) >= 1)
