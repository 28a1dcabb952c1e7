"""manifest.json: what an artifact is, what made it, what was proven of it and the hash of every file.

The manifest carries a hash of itself too, so that a flipped bit or a careless edit is noticed. That is
integrity, not authenticity: whoever can rewrite the folder can rewrite the hashes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from chronos_export.artifact.hashing import FileRecord
from chronos_export.errors import IntegrityError
from chronos_export.untrusted.files import Unusable, read_small

SCHEMA_VERSION = 1
NAME, CARD = "manifest.json", "README.md"
LARGEST = 2**24  # bytes of a manifest.json
MAKERS = ("chronos-export", "chronos-forecasting", "torch", "onnx", "onnxruntime", "polygraphy", "numpy")


@dataclass(frozen=True)
class Manifest:
    """Everything a reader of an artifact needs to know before opening a file of it.

    Args:
        checkpoint: source, revision, digest and licence of the model.
        config: The model's sizes and constants, as `Checkpoint.config`.
        dtype: What the graph computes in.
        profiles: The row counts engines are built for.
        engines: One entry an engine: its file and what a machine must have to run it.
        call_size: How the planner cuts a batch on the machine that made this.
        validation: What was proven, in the shape the artifact's README shows it.
        files: Path relative to the artifact -> what it must be. The manifest itself is not among them.
        created_by: Package -> version.
        schema_version: Of this format.
    """

    checkpoint: dict[str, Any]
    config: dict[str, Any]
    dtype: str
    profiles: list[int]
    engines: list[dict[str, Any]] = field(default_factory=list)
    call_size: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileRecord] = field(default_factory=dict)
    created_by: dict[str, str] = field(default_factory=lambda: versions())
    schema_version: int = SCHEMA_VERSION

    def write(self, folder: Path) -> None:
        """Write manifest.json to `folder`."""
        content = asdict(self)
        (folder / NAME).write_text(json.dumps({**content, "sha256": _hash_of(content)}, indent=1))

    @property
    def digest(self) -> str:
        """What names this artifact and no other, in hex: see `digest_of`."""
        return digest_of(json.dumps(asdict(self)).encode())


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.json of `folder`.

    Raises:
        IntegrityError: It is missing, damaged, or of a schema this version does not read.
    """
    return parse_manifest(manifest_text(folder), folder)


def manifest_text(folder: Path) -> bytes:
    """The content of manifest.json of `folder`.

    Raises:
        IntegrityError: It is missing, or not a plain file of a manifest's size.
    """
    try:
        return read_small(folder / NAME, LARGEST)
    except Unusable as error:
        raise IntegrityError(
            f"{folder / NAME} {error}: {folder} is not an artifact, or its publishing was tampered with",
            allowed="a folder that chronos-export published, copied with its links followed",
            fix="chronos-export --model SRC -o A_NEW_FOLDER",
        ) from error


def parse_manifest(text: bytes, folder: Path) -> Manifest:
    """The manifest of `folder` from what its manifest.json holds; raises as `read_manifest`."""
    file = folder / NAME
    try:
        content = json.loads(text)
        own_hash = content.pop("sha256", None)
        _check_schema(file, content)
        if own_hash != _hash_of(content):
            raise ValueError("it does not match the hash it carries")
        records = {_checked_name(name): FileRecord(**record) for name, record in content["files"].items()}
        manifest = Manifest(**{**content, "files": records})
        if set(content) != {field.name for field in fields(Manifest)}:
            raise ValueError("it lacks an entry")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{file} is truncated or altered: {error}",
            fix="chronos-export --model SRC -o A_NEW_FOLDER",
        ) from error
    return manifest


def digest_of(text: bytes) -> str:
    """The digest of an artifact: sha256 of its manifest, and so of all that its files are.

    Two things are left out: the manifest's hash of itself, and the README, in which the digest is printed.

    Args:
        text: A manifest.json that was read.
    """
    content = json.loads(text)
    content.pop("sha256", None)
    content["files"].pop(CARD, None)
    return _hash_of(content)


def versions() -> dict[str, str]:
    """The versions of the packages an artifact depends on, of those that are installed."""
    found = {}
    for package in MAKERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _hash_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_schema(file: Path, content: dict[str, Any]) -> None:
    schema = content.get("schema_version")
    if schema == SCHEMA_VERSION:
        return
    maker = content.get("created_by", {}).get("chronos-export", "an unknown version")
    newer = isinstance(schema, int) and schema > SCHEMA_VERSION
    raise IntegrityError(
        f"{file} has schema {schema!r}, written by chronos-export {maker}; "
        f"this is chronos-export {version('chronos-export')}",
        allowed=f"schema {SCHEMA_VERSION}",
        fix="install the chronos-export that wrote it, or export it again with this one"
        if newer
        else "export it again with this version",
    )


def _checked_name(name: str) -> str:
    """A name that stays inside the folder and is written in the one way it can be."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name or name in (".", NAME):
        raise ValueError(f"it names the file {name!r}, which is outside of it")
    return name
