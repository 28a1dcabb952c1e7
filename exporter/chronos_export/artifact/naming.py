"""What artifacts and models are called."""

from __future__ import annotations

import re
from pathlib import Path

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
FOLDER = "./"  # begins the name of a folder, which no hub id begins with


def is_hub_id(source: str) -> bool:
    """Return whether `source` can only be a model on the hub."""
    return HUB_ID.fullmatch(source) is not None and not Path(source).exists()


def default_output(source: str, batch: tuple[int, ...]) -> Path:
    """Return the folder for an export: `amazon/chronos-2` and (100,) give `chronos-2-b100`."""
    name = source if is_hub_id(source) else Path(source).expanduser().resolve().name
    return Path(f"{name.rpartition('/')[2]}-b{'-'.join(str(rows) for rows in batch)}")


def recorded_source(source: str) -> str:
    """Return what an artifact says of its model's place: `demo`, a hub id, or of a folder its name alone."""
    if source == "demo" or is_hub_id(source):
        return source
    return FOLDER + Path(source).expanduser().resolve().name


def find_source(recorded: str, artifact: Path) -> str | None:
    """Return where the model of an artifact is: a folder is looked for beside the artifact and here.

    Args:
        recorded: As `recorded_source` gave it.
        artifact: Its folder.
    """
    if not recorded.startswith(FOLDER):
        return recorded
    places = (artifact.absolute().parent / recorded, Path(recorded))
    return next((str(place) for place in places if place.is_dir()), None)
