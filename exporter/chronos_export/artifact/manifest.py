"""manifest.json: what an artifact is, what made it, what was proven of it and the hash of every file.

The manifest carries a hash of itself too, so that a flipped bit or a careless edit is noticed. That is
integrity, not authenticity: whoever can rewrite the folder can rewrite the hashes.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.fields import (
    MANIFEST,
    VERSION,
    Count,
    FileName,
    Package,
    Rows,
    Sha256,
    Version,
)
from chronos_export.artifact.hashing import FileRecord
from chronos_export.artifact.model_config import ModelConfig
from chronos_export.errors import BuildError, IntegrityError
from chronos_export.untrusted.files import Unusable, read_small
from chronos_export.untrusted.records import (
    PRINTABLE,
    Between,
    Matches,
    RecordError,
    finite,
    parse_object,
    read_record,
    short,
)

SCHEMA_VERSION = 1
NAME, CARD = MANIFEST, "README.md"
LARGEST = 2**24  # bytes of a manifest.json
MAKERS = ("chronos-export", "chronos-forecasting", "torch", "onnx", "onnxruntime", "polygraphy", "numpy")


@dataclass(frozen=True)
class MadeFrom:
    """The model of an artifact.

    Args:
        source: `demo`, a hub id, or `./` and the name of a folder.
        revision: The commit, if it came from the hub.
        digest: See `Checkpoint.digest`.
        licence: As the checkpoint states it, else `unknown`.
    """

    source: Annotated[
        str, PRINTABLE, Matches(r"demo|[\w-][\w.-]*/[\w-][\w.-]*|\./[^/]+", "demo, a hub id, ./name")
    ]
    revision: Annotated[str, Matches(r"[\w./-]+", "a commit, tag or branch")] | None
    digest: Sha256
    licence: Annotated[str, PRINTABLE]


@dataclass(frozen=True)
class CallSize:
    """How a batch is cut on the machine that made an artifact; see `runtime.batching.Limits`."""

    tokens: Annotated[int, Between(1, 2**31)] = 800
    padding: Annotated[float, Between(0, 1)] = 0.1
    least: Count = 0
    shared: Annotated[float, Between(1e-3, 1e3)] = 1.0


@dataclass(frozen=True)
class Manifest:
    """Everything a reader of an artifact needs to know before opening a file of it.

    Args:
        checkpoint: The model.
        config: Its sizes and constants.
        dtype: What the graph computes in.
        profiles: The row counts engines are built for.
        engines: One entry an engine: its file and what a machine must have to run it.
        call_size: How the planner cuts a batch on the machine that made this.
        validation: What was proven, in the shape the artifact's README shows it.
        files: Path relative to the artifact -> what it must be. The manifest itself is not among them.
        created_by: Package -> version.
        schema_version: Of this format.
    """

    checkpoint: MadeFrom
    config: ModelConfig
    dtype: Annotated[str, Matches("float32|tf32|float16|bfloat16|int8")]
    profiles: list[Rows]
    engines: list[dict[str, Any]] = field(default_factory=list)
    call_size: CallSize = CallSize()
    validation: dict[str, Any] = field(default_factory=dict)
    files: dict[FileName, FileRecord] = field(default_factory=dict)
    created_by: dict[Package, Version] = field(default_factory=lambda: versions())
    schema_version: Annotated[int, Between(SCHEMA_VERSION, SCHEMA_VERSION)] = SCHEMA_VERSION

    def write(self, folder: Path) -> None:
        """Write manifest.json to `folder`.

        Raises:
            BuildError: No reader would take it.
        """
        content = self._as_json()
        try:
            _read(content)
        except RecordError as error:
            raise BuildError(f"nothing to publish: {error.key} of its manifest {error.problem}") from error
        (folder / NAME).write_text(json.dumps({**content, "sha256": _hash_of(content)}, indent=1))

    @property
    def digest(self) -> str:
        """What names this artifact and no other, in hex: see `digest_of`."""
        return digest_of(json.dumps(self._as_json()).encode())

    def _as_json(self) -> dict[str, Any]:
        content: dict[str, Any] = finite(asdict(self))
        return content


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
        content = parse_object(text)
        own_hash = content.pop("sha256", None)
        _check_schema(file, content)
        if own_hash != _hash_of(content):
            raise RecordError("", "does not match the hash it carries", "a manifest as it was published")
        return _read(content)
    except RecordError as error:
        raise IntegrityError(
            f"{file} is truncated or altered: {error.key or 'it'} {error.problem}",
            allowed=error.allowed,
            fix="chronos-export --model SRC -o A_NEW_FOLDER",
        ) from error


def _read(content: dict[str, Any]) -> Manifest:
    manifest = read_record(Manifest, content, complete=True)
    for number, entry in enumerate(manifest.engines):
        read_record(EngineInfo, entry, f"engines[{number}]", complete=True)
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
    created_by = content.get("created_by")
    maker = created_by.get("chronos-export") if isinstance(created_by, dict) else None
    if not (isinstance(maker, str) and re.fullmatch(VERSION, maker)):
        maker = "of an unknown version"
    newer = isinstance(schema, int) and schema > SCHEMA_VERSION
    raise IntegrityError(
        f"{file} has schema {short(schema)}, written by chronos-export {maker}; "
        f"this is chronos-export {version('chronos-export')}",
        allowed=f"schema {SCHEMA_VERSION}",
        fix="install the chronos-export that wrote it, or export it again with this one"
        if newer
        else "export it again with this version",
    )
