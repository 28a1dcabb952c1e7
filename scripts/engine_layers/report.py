"""What was read of an engine: as an object, as lines, and as the tables of a document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .devices import DEVICES, Device
from .pricing import KINDS, Cost
from .reading import Engine

FIRST = DEVICES[0]  # the aims are for this one


def as_dict(engine: Engine) -> dict[str, Any]:
    """Return everything that was read; times in ms, sizes in bytes."""
    counted = {kind: sum(cost.kind == kind for cost in engine.costs) for kind in KINDS}
    return {
        "dtype": engine.dtype,
        "layers": engine.blocks,
        "univariate": engine.univariate,
        "call": asdict(engine.call),
        "tensorrt_version": engine.tensorrt_version,
        "kernels": len(engine.costs),
        "kernels_per_block": engine.kernels_of_block(),
        "kinds": counted,
        "plugins": counted["plugin"],
        "fused_time_attention": counted["attention"],
        "copies": len(engine.copies),
        "scratch_bytes": engine.scratch_bytes,
        "plan_bytes": engine.bytes,
        "predicted_share": engine.share(FIRST),
        "predicted": {device.name: _predicted(engine, device) for device in DEVICES},
        "list": [_layer(cost, engine.dtype) for cost in engine.costs],
    }


def _predicted(engine: Engine, device: Device) -> dict[str, Any]:
    return {
        "block_ms": 1e3 * engine.block_seconds(device),
        "call_ms": 1e3 * engine.seconds(device),
        "share": engine.share(device),
        "block_ms_by_kind": {kind: 1e3 * engine.block_seconds(device, kind) for kind in KINDS},
        "source": device.source,
    }


def _layer(cost: Cost, dtype: str) -> dict[str, Any]:
    return {
        "name": cost.layer.name,
        "kind": cost.kind,
        "block": cost.block,
        "bytes": cost.bytes,
        "flops": cost.flops,
        "ms": {device.name: 1e3 * cost.seconds(device, dtype) for device in DEVICES},
    }


def as_lines(engine: Engine) -> list[str]:
    """Return one line a layer and a summary."""
    lines = [
        f"{cost.kind:<10}{'' if cost.block is None else cost.block:>3}"
        f"{cost.bytes / 1e6:>10.1f} MB{cost.flops / 1e9:>9.1f} GF"
        f"{1e3 * cost.seconds(FIRST, engine.dtype):>8.3f} ms  {cost.layer.name[:70]}"
        for cost in engine.costs
    ]
    found = as_dict(engine)
    lines.append(
        f"{found['kernels']} kernels, {found['kernels_per_block']} a block; {found['copies']} copies;"
        f" scratch {engine.scratch_bytes / 1e9:.2f} GB; {1e3 * engine.block_seconds(FIRST):.2f} ms a block on"
        f" {FIRST.name}, {engine.share(FIRST):.0%} of the matrix rate"
    )
    return lines


def fill(document: str, engines: Sequence[Engine]) -> str:
    """Return a document with its tables, each between <!-- name --> and <!-- /name -->, made anew."""
    for name, table in (("kernels", _kernels), ("times", _times), ("kinds", _kinds)):
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = "".join(f"{line}\n" for line in table(engines))
        document, count = block.subn(lambda found, text=text: found[1] + text + found[2], document)  # type: ignore[misc]
        assert count == 1, f"the document has {count} blocks named {name}, not one"
    return document


def _kernels(engines: Sequence[Engine]) -> list[str]:
    rows = [
        (
            engine.dtype,
            len(engine.costs),
            engine.kernels_of_block(),
            len(engine.copies),
            f"{engine.scratch_bytes / 1e9:.2f} GB",
        )
        for engine in engines
    ]
    return _table(("dtype", "kernels", "of a block", "copies", "scratch"), rows)


def _times(engines: Sequence[Engine]) -> list[str]:
    rows = [
        (
            engine.dtype,
            *(f"{1e3 * engine.seconds(device):.0f} ms, {engine.share(device):.0%}" for device in DEVICES),
        )
        for engine in engines
    ]
    return _table(("dtype, *predicted*", *(device.name for device in DEVICES)), rows)


def _kinds(engines: Sequence[Engine]) -> list[str]:
    rows = [
        (
            engine.dtype,
            *(f"{1e3 * engine.block_seconds(FIRST, kind):.2f}" for kind in KINDS),
            f"{1e3 * engine.block_seconds(FIRST):.2f}",
        )
        for engine in engines
    ]
    return _table((f"{FIRST.name}, ms of a block, *predicted*", *KINDS, "all"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
