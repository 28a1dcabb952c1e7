"""Opening a published artifact.

Every file is what the manifest says before any of it is used, and what is used is the memory that was hashed:
nothing opens a file of an artifact a second time unless it is hashed again.
"""

from __future__ import annotations

import re
import shlex
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from chronos_export.artifact.manifest import NAME, Manifest, digest_of, manifest_text, parse_manifest
from chronos_export.artifact.mistaken import linked, mistaken
from chronos_export.artifact.naming import at_home, located
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.errors import AccuracyWarning, IntegrityError, UsageError
from chronos_export.untrusted.files import KeptFile, Unusable, plain_file, read_verified

T = TypeVar("T")

DIGEST = re.compile(r"[0-9a-fA-F]{64}")
ATTEMPTS = 10  # at an artifact that is replaced again and again
PAUSE = 0.02  # seconds, in which whoever replaces one in two steps takes the second


@dataclass(frozen=True)
class Artifact:
    """A published folder that has been verified.

    Args:
        path: The folder, as it was named.
        manifest: What is in it.
        digest: What names it and no other; see `manifest.digest_of`.
        folder: The folder, wherever the process goes.
        streams: Its files, all opened at once, while `with_artifact` lasts; empty later.
    """

    path: Path
    manifest: Manifest
    digest: str
    folder: Path
    streams: dict[str, BinaryIO] = field(default_factory=dict, compare=False, repr=False)

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

    def read(self, name: str) -> memoryview:
        """The content of a file of the manifest, in memory of our own, verified.

        Raises:
            IntegrityError: It is not in the manifest, or no longer what the manifest says.
        """
        return self._verified(name, keep=True)

    def verify(self, name: str) -> None:
        """As `read`, without keeping what was read."""
        self._verified(name, keep=False)

    def _verified(self, name: str, *, keep: bool) -> memoryview:
        self.file(name)
        return self._read_from(name, self._opened(name), keep=keep)

    def keep(self, name: str) -> Callable[[], memoryview]:
        """Return what reads a file as `read` does, later too, even where the folder has been replaced."""
        with self._opened(name) as stream:
            kept = KeptFile(stream)
        return lambda: self._read_from(name, kept.opened(), keep=True)

    def _read_from(self, name: str, opened: AbstractContextManager[BinaryIO], *, keep: bool) -> memoryview:
        record = self.manifest.files[name]
        try:
            with opened as stream:
                return read_verified(stream, record.bytes, record.sha256, keep=keep)
        except Unusable as error:
            raise self._refusal(name, error) from error

    def _refusal(self, name: str, why: Unusable) -> IntegrityError:
        if (self.folder / name).resolve() != self.folder.resolve() / name:
            return linked(self.path, name)
        return IntegrityError(
            f"{self.path / name} {why}",
            allowed="the files as they were published",
            fix=rebuild_command(self.path, self.manifest),
        )

    @contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        if name in self.streams:
            yield self.streams[name]
            return
        if (self.folder / name).parent.resolve() != self.folder.resolve() / Path(name).parent:
            raise Unusable("is behind a link, not a file of the artifact")
        with plain_file(self.folder / name) as stream:
            yield stream

    def _require(self, digest: str | None) -> None:
        """Refuse to be another artifact than the one that is wanted."""
        if digest is not None and digest.lower() != self.digest:
            raise IntegrityError(
                f"{self.path} is another artifact than the one asked for: its digest is {self.digest}",
                allowed=digest,
                fix=f"{shlex.join(['chronos-export', 'inspect', str(self.path)])}, to see what it is",
            )

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold all files open: they stay these files when the folder is replaced and removed."""
        with ExitStack() as stack:
            stack.callback(self.streams.clear)
            for name in self.manifest.files:
                try:
                    self.streams[name] = stack.enter_context(self._opened(name))
                except Unusable as error:
                    raise self._refusal(name, error) from error
            yield


Later = Callable[[Artifact], Collection[str]]


def open_artifact(path: Path | str) -> Artifact:
    """Verify an artifact and return it; nothing but the manifest is interpreted. See `with_artifact`."""
    return with_artifact(path, lambda artifact: artifact)


def with_artifact(
    path: Path | str,
    use: Callable[[Artifact], T],
    later: Later = lambda artifact: (),
    digest: str | None = None,
) -> T:
    """Verify an artifact and use it: where it is replaced meanwhile, the old one or the new one, whole.

    Args:
        path: A folder that `chronos-export` published.
        use: Given the artifact. Called again with the new one if a file was no longer the old one's.
        later: Names the files that `use` will `read`, and that are verified only then.
        digest: Of the artifact that is wanted; any will do if None.

    Raises:
        UsageError: There is no such folder, it is something else (a checkpoint, a folder of artifacts), or
            `digest` is none.
        IntegrityError: A file is missing, altered or not a plain file, or schema or artifact are others.
    """
    located(path)
    folder = at_home(path)
    _require_digest(digest)
    for attempt in range(ATTEMPTS):
        place, text = _place(folder), None
        try:
            _require_manifest(folder)
            text = manifest_text(folder)
            artifact = Artifact(folder, parse_manifest(text, folder), digest_of(text), folder.absolute())
            artifact._require(digest)
            with artifact._held():
                read_later = later(artifact)
                for name in artifact.manifest.files:
                    if name not in read_later:
                        artifact.verify(name)
                return use(artifact)
        except IntegrityError:
            if attempt == ATTEMPTS - 1 or (_place(folder), _text_now(folder)) == (place, text):
                raise
    raise AssertionError("unreachable")


def _require_digest(digest: object) -> None:
    if digest is not None and not (isinstance(digest, str) and DIGEST.fullmatch(digest)):
        raise UsageError(
            f"digest is {digest!r}",
            allowed="64 hexadecimal digits, as export, inspect and the artifact's README print them",
            fix="chronos-export inspect ARTIFACT",
        )


def _place(folder: Path) -> tuple[int, int] | None:
    """Tell a folder from any other that has its name later, even one with the same manifest."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _text_now(folder: Path) -> bytes | None:
    try:
        return manifest_text(folder)
    except IntegrityError:
        return None


def _require_manifest(folder: Path) -> None:
    """Refuse what is no artifact's folder, but not one that is just being replaced; see replacing.py."""
    if not folder.is_dir() and folder.with_name(f".{folder.name}.old").is_dir():
        time.sleep(PAUSE)
    file = folder / NAME
    if not file.exists() or file.is_symlink():
        raise mistaken(folder)
