"""What the command line asks for, checked before anything heavy is imported."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from pathlib import Path
from typing import Any

from chronos_export.artifact.naming import is_hub_id
from chronos_export.artifact.publishing import check_destination
from chronos_export.checkpoint.config import read_config
from chronos_export.checkpoint.source import locate
from chronos_export.errors import UsageError

SIZES = ("d_model", "num_layers", "num_heads", "d_kv", "d_ff")
BATCHES = "row counts from 1 up, each once: 100 or 100,2000"


def parse_batch(text: str) -> tuple[int, ...]:
    """`100,2000` -> (100, 2000).

    Raises:
        UsageError: Anything else.
    """
    pieces = [piece.strip() for piece in text.split(",")]
    fix = "chronos-export --batch 100"
    for piece in pieces:
        if not re.fullmatch(r"[0-9]{1,9}", piece):
            raise UsageError(f"--batch {text}: {piece!r} is not a row count", allowed=BATCHES, fix=fix)
        if int(piece) == 0:
            raise UsageError(f"--batch {text}: a batch of 0 rows forecasts nothing", allowed=BATCHES, fix=fix)
    rows = tuple(sorted(int(piece) for piece in pieces))
    for one, next_one in itertools.pairwise(rows):
        if one == next_one:
            raise UsageError(f"--batch {text}: {one} is given twice", allowed=BATCHES, fix=fix)
    return rows


def preview(
    source: str, revision: str | None, batch: tuple[int, ...], output: Path, force: bool
) -> dict[str, Any]:
    """What an export would do, as far as that can be told without a download and without loading weights.

    Raises:
        UsageError: It would be refused.
    """
    check_destination(Path(os.path.realpath(output.expanduser())), force)
    plan: dict[str, Any] = {
        "source": source,
        "revision": revision,
        "batch": list(batch),
        "output": str(output),
        "replaces": output.exists(),
        "disk_free_bytes": shutil.disk_usage(output.expanduser().resolve().parent).free,
    }
    if is_hub_id(source):
        return {**plan, "from_hub": True}
    folder = locate(source, revision).folder
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    plan = {**plan, "from_hub": False, "weights_bytes": weights}
    if (folder / "adapter_config.json").is_file():
        return {**plan, "adapter": True}
    config = read_config(folder)
    return {**plan, "adapter": False, **{name: config.get(name) for name in SIZES}}
