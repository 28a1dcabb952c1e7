"""What artifacts and models are called."""

from __future__ import annotations

import re
from pathlib import Path

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_hub_id(source: str) -> bool:
    """Return whether `source` can only be a model on the hub."""
    return HUB_ID.fullmatch(source) is not None and not Path(source).exists()


def default_output(source: str, batch: tuple[int, ...]) -> Path:
    """Return the folder for an export: `amazon/chronos-2` and (100,) give `chronos-2-b100`."""
    name = source if is_hub_id(source) else Path(source).expanduser().resolve().name
    return Path(f"{name.rpartition('/')[2]}-b{'-'.join(str(rows) for rows in batch)}")
