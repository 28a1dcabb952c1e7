"""What the fields of a manifest may hold. What is printed, or pasted into a shell, is never free text."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

from chronos_export.untrusted.records import Between, Holds, Matches

VERSION = r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,63}"
MANIFEST = "manifest.json"
INSIDE = "files inside of the folder, with names that can be printed, and none outside"


def _is_inside(name: str) -> bool:
    """Whether a name stays inside the folder, on any system, and is written in the one way it can be."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or not name.isprintable():
        return False
    return not set("\\:") & set(name) and name not in (".", MANIFEST)


Version = Annotated[str, Matches(VERSION, "a version")]
Package = Annotated[str, Matches(r"[a-z0-9._-]+", "the name of a package")]
Sha256 = Annotated[str, Matches(r"[0-9a-f]{64}", "a sha256 in hex")]
FileName = Annotated[str, Holds(_is_inside, INSIDE)]
FilePath = Annotated[Path, Holds(lambda path: _is_inside(path.as_posix()), INSIDE)]
Bytes = Annotated[int, Between(0, 2**50)]
Rows = Annotated[int, Between(1, 2**31)]
Steps = Annotated[int, Between(1, 2**31)]
Count = Annotated[int, Between(0, 2**31)]
Seconds = Annotated[float, Between(0, 2**31)]
Capability = Annotated[str, Matches(r"[0-9]{1,2}\.[0-9]", "a compute capability such as 8.6")]
