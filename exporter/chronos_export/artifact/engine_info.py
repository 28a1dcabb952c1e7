"""What an engine is and what it was built for: beside the plan, and as an entry of the manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from chronos_export.artifact.manifest import NAME as MANIFEST
from chronos_export.artifact.manifest import read_manifest
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.errors import IntegrityError


@dataclass(frozen=True)
class EngineInfo:
    """A plan and all that must agree before it may be deserialized.

    Args:
        path: The plan file.
        runtime: "tensorrt" or "tensorrt-rtx".
        attention: One of `engine.requirements.ATTENTIONS`.
        tensorrt_version: A plan opens in this version only.
        compute_capabilities: GPUs it runs on, like "8.6".
        driver: NVIDIA driver it was built under, like "580.65.06"; None where there was none.
        plugin_sha256: Of the plugin library it was built with; None for the twin in Python or no plugin.
        profiles: Rows of each optimization profile, in profile order.
        context: Longest context, time steps.
        horizon: Longest horizon, time steps.
        plugin_layers: Layers in the engine that are our plugin.
        bytes: Size of the plan.
        build_seconds: Wall time of the build.
        peak_rss_bytes: Most memory the building process held.
    """

    path: Path
    runtime: str
    attention: str
    tensorrt_version: str
    compute_capabilities: tuple[str, ...]
    driver: str | None
    plugin_sha256: str | None
    profiles: tuple[int, ...]
    context: int
    horizon: int
    plugin_layers: int
    bytes: int
    build_seconds: float
    peak_rss_bytes: int

    def as_entry(self, folder: Path) -> dict[str, Any]:
        """An entry of the manifest of the artifact in `folder`."""
        listed = {"compute_capabilities": list(self.compute_capabilities), "profiles": list(self.profiles)}
        return {**asdict(self), **listed, "path": self.path.relative_to(folder).as_posix()}

    @classmethod
    def from_entry(cls, entry: dict[str, Any], folder: Path) -> EngineInfo:
        """The inverse of `as_entry`.

        Raises:
            IntegrityError: The entry is none of this version's.
        """
        names = {field.name for field in fields(cls)}
        if differing := entry.keys() ^ names:
            raise IntegrityError(
                f"an engine's entry in {folder / MANIFEST} lacks, or adds, {', '.join(sorted(differing))}",
                allowed=", ".join(sorted(names)),
                fix=rebuild_command(folder, read_manifest(folder)),
            )
        return cls(
            **entry
            | {
                "path": folder / entry["path"],
                "compute_capabilities": tuple(entry["compute_capabilities"]),
                "profiles": tuple(entry["profiles"]),
            }
        )
