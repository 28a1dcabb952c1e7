"""What an engine is and what it was built for: beside the plan, and as an entry of the manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from chronos_export.artifact.fields import (
    Bytes,
    Capability,
    Count,
    FilePath,
    Rows,
    Seconds,
    Sha256,
    Steps,
    Version,
)
from chronos_export.untrusted.records import Between, Matches, read_record


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

    path: FilePath
    runtime: Annotated[str, Matches("tensorrt|tensorrt-rtx")]
    attention: Annotated[str, Matches("[a-z]+", "a form of group attention")]
    tensorrt_version: Version
    compute_capabilities: tuple[Capability, ...]
    driver: Version | None
    plugin_sha256: Sha256 | None
    profiles: Annotated[tuple[Rows, ...], Between(1, 99)]
    context: Steps
    horizon: Steps
    plugin_layers: Count
    bytes: Bytes
    build_seconds: Seconds
    peak_rss_bytes: Bytes

    def as_entry(self, folder: Path) -> dict[str, Any]:
        """An entry of the manifest of the artifact in `folder`."""
        listed = {"compute_capabilities": list(self.compute_capabilities), "profiles": list(self.profiles)}
        return {**asdict(self), **listed, "path": self.path.relative_to(folder).as_posix()}

    @classmethod
    def from_entry(cls, entry: dict[str, Any], folder: Path) -> EngineInfo:
        """The inverse of `as_entry`.

        Raises:
            RecordError: The entry is none of this version's.
        """
        info = read_record(cls, entry, complete=True)
        return replace(info, path=folder / info.path)
