"""A published artifact: the names of its graphs, and opening it.

Every file is what the manifest says before any of them is used.
"""

from __future__ import annotations

import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path

from chronos_export.errors import AccuracyWarning, IntegrityError, UsageError
from chronos_export.manifest import FileRecord, Manifest, hash_file, read_manifest
from chronos_export.rebuild import rebuild_command

GENERAL, UNIVARIATE, WEIGHTS = "model.onnx", "univariate.onnx", "weights.bin"


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

    def warn_if_not_proven(self) -> None:
        """Warn of an artifact whose validation failed and was accepted."""
        if self.manifest.validation.get("passed") is False:
            sentence = self.manifest.validation.get("sentence")
            warnings.warn(f"{self.path} {sentence}", AccuracyWarning, stacklevel=2)


def open_artifact(path: Path | str) -> Artifact:
    """Verify an artifact and return it; nothing but the manifest is interpreted.

    Args:
        path: A folder that `chronos-export` published.

    Raises:
        UsageError: There is no such folder.
        IntegrityError: A file is missing, altered or not a plain file, or the schema is another.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"{path} is a file" if folder.exists() else f"there is no folder {path}",
            allowed="the folder of an artifact that chronos-export published",
            fix=_how_to_have(folder),
        )
    artifact = Artifact(folder, read_manifest(folder))
    for name, record in artifact.manifest.files.items():
        _verify(artifact, name, record)
    return artifact


def _how_to_have(folder: Path) -> str:
    """What helps someone who named `folder`, which is none: perhaps a file, perhaps a model on the hub."""
    from chronos_export.source import is_hub_id

    if folder.exists():
        return f"name the folder: {folder.parent}"
    on_the_hub = is_hub_id(str(folder)) and not folder.parent.exists()
    model, output = (str(folder), folder.name) if on_the_hub else ("demo", str(folder))
    return shlex.join(["chronos-export", "--model", model, "--batch", "100", "-o", output])


def _verify(artifact: Artifact, name: str, record: FileRecord) -> None:
    file = artifact.path / name
    if not file.is_file():
        _refuse(artifact, f"{file} is missing")
    if file.resolve() != artifact.path.resolve() / name:
        _refuse(artifact, f"{file} is a link, not a file of the artifact")
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
