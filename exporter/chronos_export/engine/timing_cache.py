r"""TensorRT's timing cache: what a build reads and adds. On disk locked, written whole, never just trusted.

chronos-export timing cache 1\n
{"runtime": ..., "version": ..., "sha256": ...}\n
<the bytes TensorRT serialized>
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

_MAGIC = b"chronos-export timing cache 1"


class TimingCache:
    """Timings carried from build to build. TensorRT-RTX measures nothing when it builds, so has none.

    Args:
        config: The IBuilderConfig that is given what is on disk.
        file: Where it is, or None.
        runtime: "tensorrt" or "tensorrt-rtx".
        version: Of TensorRT.
        warn: Told why a cache is not used or not written; no build ends for that.
    """

    def __init__(
        self, config: Any, file: str | None, runtime: str, version: str, warn: Callable[[str], None]
    ) -> None:
        self._config, self._warn = config, warn
        self._target, self._version = runtime, version
        self._path = Path(file) if file and runtime == "tensorrt" else None
        if file and not self._path:
            warn(f"timing cache not used: {runtime} measures nothing when it builds")
        if self._path:
            blob, problem = self._read(self._path)
            if not config.set_timing_cache(config.create_timing_cache(blob), ignore_mismatch=False):
                problem = f"timing cache {self._path} ignored: made for another GPU"
                config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
            if problem:
                warn(problem)

    def _read(self, path: Path) -> tuple[bytes, str]:
        try:
            with locked(path):
                return read(path, self._target, self._version)
        except OSError as error:
            return b"", f"timing cache {path} ignored: {error.strerror}"

    def save(self) -> None:
        """Add what was measured to what others have saved meanwhile. The plan does not depend on it."""
        if not self._path:
            return
        cache = self._config.get_timing_cache()
        try:
            with locked(self._path):
                blob, _ = read(self._path, self._target, self._version)
                cache.combine(self._config.create_timing_cache(blob), ignore_mismatch=False)
                write(self._path, self._target, self._version, bytes(cache.serialize()))
        except OSError as error:
            self._warn(f"timing cache {self._path} not written: {error.strerror}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`, waiting for whoever holds it now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):  # a link in its place is not followed
        yield


def read(path: Path, runtime: str, version: str) -> tuple[bytes, str]:
    """The cache in `path`, or why there is none.

    Args:
        path: May be missing.
        runtime: "tensorrt" or "tensorrt-rtx".
        version: Of TensorRT; a cache of any other version is foreign.

    Returns:
        The bytes for TensorRT, and "". Or no bytes, and the reason for which the file is ignored, which is
        "" as well if there is no file.
    """
    try:
        magic, header, blob = path.read_bytes().split(b"\n", 2)
        made_by = json.loads(header)
        found = (str(made_by["runtime"]), str(made_by["version"]))
        intact = magic == _MAGIC and made_by["sha256"] == sha256(blob).hexdigest()
    except FileNotFoundError:
        return b"", ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return b"", f"timing cache {path} ignored: it cannot be read ({error})"
    if not intact:
        return b"", f"timing cache {path} ignored: it is corrupt"
    if found != (runtime, version):
        return b"", f"timing cache {path} ignored: made by {' '.join(found)}, this is {runtime} {version}"
    return blob, ""


def write(path: Path, runtime: str, version: str, blob: bytes) -> None:
    """Replace `path` in one step."""
    header = json.dumps({"runtime": runtime, "version": version, "sha256": sha256(blob).hexdigest()})
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(b"\n".join((_MAGIC, header.encode(), blob)))
    Path(file.name).replace(path)
