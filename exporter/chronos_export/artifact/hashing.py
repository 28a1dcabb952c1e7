"""What a file is: its hash and its size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from chronos_export.artifact.fields import Bytes, Sha256
from chronos_export.untrusted.files import BLOCK


@dataclass(frozen=True)
class FileRecord:
    """What a file must be: its sha256 in hex, and its size in bytes."""

    sha256: Sha256
    bytes: Bytes


def hash_file(file: Path) -> FileRecord:
    """Read a file and say what it is."""
    digest, size, block = hashlib.sha256(), 0, memoryview(bytearray(BLOCK))
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(block):
            digest.update(block[:count])
            size += count
    return FileRecord(digest.hexdigest(), size)
