"""Opening a published artifact.

Every file is what the manifest says before any of them is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chronos_export.artifact.hashing import FileRecord, hash_file
from chronos_export.artifact.manifest import NAME, Manifest, read_manifest
from chronos_export.artifact.mistaken import linked, mistaken
from chronos_export.artifact.naming import at_home, located
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.errors import IntegrityError


@dataclass(frozen=True)
class Artifact:
    """A published folder that has been verified.

    Args:
        path: The folder.
        manifest: What is in it.
    """

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of a file of the manifest.

        Args:
            name: Relative to the artifact: `model.onnx`.

        Raises:
            IntegrityError: The manifest has no such file, so nobody has vouched for it.
        """
        if name not in self.manifest.files:
            raise IntegrityError(
                f"{name} is not in the manifest of {self.path}, so it is not opened",
                allowed=", ".join(self.manifest.files),
            )
        return self.path / name


def open_artifact(path: Path | str) -> Artifact:
    """Verify an artifact and return it; nothing but the manifest is interpreted.

    Args:
        path: A folder that `chronos-export` published.

    Raises:
        UsageError: There is no such folder, or it is something else: a checkpoint, a folder of artifacts.
        IntegrityError: A file is missing, altered or not a plain file, or the schema is another.
    """
    located(path)
    folder = at_home(path)
    if not (folder / NAME).is_file() or (folder / NAME).is_symlink():
        raise mistaken(folder)
    artifact = Artifact(folder, read_manifest(folder))
    for name, record in artifact.manifest.files.items():
        _verify(artifact, name, record)
    return artifact


def _verify(artifact: Artifact, name: str, record: FileRecord) -> None:
    file = artifact.path / name
    if not file.is_file():
        _refuse(artifact, f"{file} is missing")
    if file.resolve() != artifact.path.resolve() / name:
        raise linked(artifact.path, name)
    size = file.stat().st_size
    if size != record.bytes:
        _refuse(artifact, f"{file} has {size} bytes, not the {record.bytes} that were published")
    if hash_file(file).sha256 != record.sha256:
        _refuse(artifact, f"{file} has been altered: its sha256 is not the one in the manifest")


def _refuse(artifact: Artifact, summary: str) -> None:
    raise IntegrityError(
        summary,
        allowed="the files as they were published",
        fix=rebuild_command(artifact.path, artifact.manifest),
    )
