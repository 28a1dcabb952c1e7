r"""TensorRT's timing cache on disk: locked, written whole, and never trusted blindly.

chronos-export timing cache 1\n
{"target": ..., "version": ..., "sha256": ...}\n
<the bytes TensorRT serialized>
"""

from __future__ import annotations

import fcntl
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

_MAGIC = b"chronos-export timing cache 1"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`, waiting for whoever holds it now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(path: Path, target: str, version: str) -> tuple[bytes, str]:
    """The cache in `path`, or why there is none.

    Args:
        path: May be missing.
        target: "tensorrt" or "tensorrt-rtx".
        version: Of TensorRT; a cache of any other version is foreign.

    Returns:
        The bytes for TensorRT, and "". Or no bytes, and the reason for which the file is ignored, which is
        "" as well if there is no file.
    """
    try:
        magic, header, blob = path.read_bytes().split(b"\n", 2)
        made_by = json.loads(header)
        found = (str(made_by["target"]), str(made_by["version"]))
        intact = magic == _MAGIC and made_by["sha256"] == sha256(blob).hexdigest()
    except FileNotFoundError:
        return b"", ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return b"", f"timing cache {path} ignored: it cannot be read ({error})"
    if not intact:
        return b"", f"timing cache {path} ignored: it is corrupt"
    if found != (target, version):
        return b"", f"timing cache {path} ignored: made by {' '.join(found)}, this is {target} {version}"
    return blob, ""


def write(path: Path, target: str, version: str, blob: bytes) -> None:
    """Replace `path` in one step."""
    header = json.dumps({"target": target, "version": version, "sha256": sha256(blob).hexdigest()})
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(b"\n".join((_MAGIC, header.encode(), blob)))
    Path(file.name).replace(path)
