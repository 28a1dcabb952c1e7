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
class Profile:
    """What one profile of an engine admits: 1 to `rows` rows of 1 to `context` time steps.

    Args:
        rows: The most rows of a call.
        context: The longest context, time steps.
        scratch_bytes: Memory of the GPU that its largest call takes besides weights, inputs and outputs; None
            where TensorRT did not tell.
    """

    rows: Rows
    context: Steps
    scratch_bytes: Bytes | None = None

    def admits(self, rows: int, context: int) -> bool:
        """Whether a call of so many rows and time steps fits."""
        return rows <= self.rows and context <= self.context

    def __str__(self) -> str:
        """Say it in the words of an error or a table."""
        scratch = f", {self.scratch_bytes / 1e9:.2f} GB of scratch" if self.scratch_bytes else ""
        return f"up to {self.rows} rows x {self.context} steps{scratch}"


@dataclass(frozen=True)
class EngineInfo:
    """A plan and all that must agree before it may be deserialized.

    Args:
        path: The plan file.
        graph: What it was built from: `graph_contract.GENERAL`, or UNIVARIATE for rows without groups.
        runtime: "tensorrt" or "tensorrt-rtx".
        attention: One of `engine.requirements.ATTENTIONS`; "none" for rows without groups.
        tensorrt_version: A plan opens in this version only.
        compute_capabilities: GPUs it runs on, like "8.6".
        driver: NVIDIA driver it was built under, like "580.65.06"; None where there was none.
        plugin_sha256: Of the plugin library it was built with; None for the twin in Python or no plugin.
        profiles: In the order of the plan.
        horizon: Longest horizon, time steps.
        memory: What the profiles were fitted to, bytes of the GPU.
        plugin_layers: Layers in the engine that are our plugin.
        bytes: Size of the plan.
        build_seconds: Wall time of the build.
        peak_rss_bytes: Most memory the building process held.
    """

    path: FilePath
    graph: Annotated[str, Matches("[a-z_]+\\.onnx", "a graph of the artifact")]
    runtime: Annotated[str, Matches("tensorrt|tensorrt-rtx")]
    attention: Annotated[str, Matches("[a-z]+", "a form of group attention")]
    tensorrt_version: Version
    compute_capabilities: tuple[Capability, ...]
    driver: Version | None
    plugin_sha256: Sha256 | None
    profiles: Annotated[tuple[Profile, ...], Between(1, 99)]
    horizon: Steps
    memory: Bytes
    plugin_layers: Count
    bytes: Bytes
    build_seconds: Seconds
    peak_rss_bytes: Bytes

    @property
    def context(self) -> int:
        """The longest context of any profile, time steps."""
        return max(profile.context for profile in self.profiles)

    def as_entry(self, folder: Path) -> dict[str, Any]:
        """An entry of the manifest of the artifact in `folder`."""
        listed = {
            "compute_capabilities": list(self.compute_capabilities),
            "profiles": [asdict(profile) for profile in self.profiles],
        }
        return {**asdict(self), **listed, "path": self.path.relative_to(folder).as_posix()}

    @classmethod
    def from_entry(cls, entry: dict[str, Any], folder: Path) -> EngineInfo:
        """The inverse of `as_entry`.

        Raises:
            RecordError: The entry is none of this version's.
        """
        info = read_record(cls, entry, complete=True)
        return replace(info, path=folder / info.path)
