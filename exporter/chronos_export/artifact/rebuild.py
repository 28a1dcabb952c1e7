"""The command that exports an artifact anew."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from chronos_export.artifact.manifest import Manifest
from chronos_export.artifact.naming import find_source
from chronos_export.graph_contract import EMBEDDINGS
from chronos_export.machine.gpu import device_capability


def rebuild_command(path: Path, manifest: Manifest, runtime: str | None = None) -> str:
    """What mends the artifact in `path`, ready for a shell.

    Args:
        path: Its folder.
        manifest: What was in it.
        runtime: Of an engine to build for this machine; None exports what was there, for the same GPUs.
    """
    source = manifest.checkpoint.source
    wanted = runtime or next((engine.get("runtime") for engine in manifest.engines), None)
    entry: dict[str, Any] = next((e for e in manifest.engines if e.get("runtime") == wanted), {})
    gpus = [device_capability()] if runtime else entry.get("compute_capabilities", [])
    options = {
        "--model": find_source(source, path) or source,
        "--revision": manifest.checkpoint.revision,
        "--batch": ",".join(str(rows) for rows in manifest.profiles) or (runtime and "100"),
        "--dtype": manifest.dtype,
        "--runtime": wanted,
        "--attention": entry.get("attention"),
        "--context": max((profile["context"] for profile in entry.get("profiles", [])), default=None),
        "--horizon": entry.get("horizon"),
        "--memory": _in_units(entry.get("memory")),
        "--compute-capability": ",".join(filter(None, gpus)) if wanted == "tensorrt-rtx" else None,
        "-o": path,
    }
    given = [part for name, value in options.items() if value for part in (name, str(value))]
    given += ["--embeddings"] if EMBEDDINGS in manifest.files else []
    return shlex.join(["chronos-export", *given, "--force"])


def _in_units(size: int | None) -> str | None:
    """A number of bytes as `--memory` takes it, exactly."""
    if size is None or size % 2**20:
        return None if size is None else str(size)
    return f"{size // 2**30}GiB" if size % 2**30 == 0 else f"{size // 2**20}MiB"
