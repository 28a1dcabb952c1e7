"""Publishing an artifact: built beside its destination, renamed into place once.

Whenever the process dies, the destination is the old artifact, the new one or nothing; never a mixture.
One lock a destination keeps builds apart. What earlier builds left under staging names is stale once the lock
is ours, and is removed.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from chronos_export import interruption
from chronos_export.artifact.card import write_card
from chronos_export.artifact.hashing import hash_file
from chronos_export.artifact.manifest import CARD, Manifest
from chronos_export.artifact.replacing import put_in_place, recover, require_replaceable, sync
from chronos_export.errors import BuildError, ChronosExportError, MachineError, UsageError, causes
from chronos_export.progress import Report, ignore, stage

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass
class Staging:
    """A folder that becomes the artifact if the block that fills it ends without an error.

    Args:
        folder: Put the files here.
        manifest: Set this before the block ends; the hashes of the files are added for you.
    """

    folder: Path
    manifest: Manifest | None = None


@contextmanager
def publish(
    destination: Path | str, *, overwrite: bool = False, keep_failed: bool = False, report: Report = ignore
) -> Iterator[Staging]:
    """Give a staging folder; publish it at `destination` when the block ends, drop it when it raises.

    Args:
        destination: Must not exist, unless `overwrite` and it is an artifact. Its parent must exist.
        overwrite: Replace an artifact that is there.
        keep_failed: When the block raises, keep what it made as `<destination>.failed`, or `.failed-2` and so
            on where that is taken.
        report: Told while files are hashed and written to the disk.

    Raises:
        UsageError: The destination exists, is a file, has no parent, or is being built by another process.
        MachineError: The destination cannot be written, or the disk is full.
    """
    target = Path(os.path.realpath(Path(destination).expanduser()))
    check_destination(target, overwrite)
    folder, is_published = target.with_name(f".{target.name}.staging.{os.getpid()}"), False
    try:
        with _lock(target):
            for stale in _stagings(target):
                _remove(stale)
            recover(target, folder)
            _remove(folder)
            check_destination(target, overwrite)
            try:
                folder.mkdir()
                staging = Staging(folder)
                yield staging
                with stage("publish", report):
                    _finish(staging)
                check_destination(target, overwrite)
                with interruption.deferred():  # from here on it is published, old files removed and all
                    put_in_place(folder, target)
                    _remove(folder)
                    is_published = True
            except KeyboardInterrupt as stop:
                if not is_published:
                    stop.add_note("nothing was published")
                raise
            except Exception:
                if keep_failed and folder.is_dir() and interruption.exit_code() is None:
                    folder.rename(_unused(target, "failed"))
                raise
            finally:
                _remove(folder)
    except Exception as error:
        if _is_disk_full(error):
            raise _disk_full(target) from error
        raise


def check_destination(target: Path, overwrite: bool) -> None:
    """Refuse a destination that must not be written.

    Raises:
        UsageError: It exists and is not an artifact to replace, or its parent is not a folder.
        MachineError: Its parent cannot be written.
    """
    if not target.parent.is_dir():
        raise UsageError(
            f"{target.parent} is not a folder, so nothing can be published in it",
            allowed="-o inside an existing folder",
            fix=f"mkdir -p {target.parent}",
        )
    if not os.access(target.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise _not_writable(target, "permission denied")
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(
            f"{target} exists and is a file", allowed="a new folder", fix=f"-o {target}.artifact"
        )
    if not overwrite:
        raise UsageError(
            f"{target} exists", allowed="a new folder, or --force to replace an artifact", fix="--force"
        )
    require_replaceable(target, shown=target)


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold `.<name>.lock` beside the target, removed on the way out; a dead holder's lock is free."""
    file = target.with_name(f".{target.name}.lock")
    lock = FileLock(file, timeout=0.2)
    try:
        lock.acquire(poll_interval=0.05)
    except Timeout as error:
        holder = next((_builder(folder) for folder in _stagings(target)), "another process")
        raise UsageError(
            f"{target} is being built by {holder}",
            allowed="one build of an artifact at a time",
            fix=f"wait for {holder}, or choose another -o",
        ) from error
    except OSError as error:
        if file.is_symlink():  # whoever may write here would have us open a file of their choice
            raise UsageError(f"{file} is a link, which is not followed", fix=f"rm {file}") from error
        raise _not_writable(target, str(error.strerror)) from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.release()


def _stagings(target: Path) -> list[Path]:
    """The folders of builds of `target`, dead or alive."""
    name = re.compile(rf"\.{re.escape(target.name)}\.staging\.[0-9]+")
    return [path for path in sorted(target.parent.iterdir()) if name.fullmatch(path.name)]


def _builder(folder: Path) -> str:
    return f"process {folder.name.rpartition('.')[2]}"


def _finish(staging: Staging) -> None:
    """Write the README and the manifest, and see all of it onto the disk."""
    if staging.manifest is None:
        raise BuildError("nothing to publish: the build ended without a manifest")
    files = sorted(file for file in staging.folder.rglob("*") if file.is_file())
    records = {file.relative_to(staging.folder).as_posix(): hash_file(file) for file in files}
    manifest = replace(staging.manifest, files=records)
    card = write_card(staging.folder, manifest)
    replace(manifest, files={**records, CARD: hash_file(card)}).write(staging.folder)
    for path in (*staging.folder.rglob("*"), staging.folder):
        sync(path)


def _unused(target: Path, ending: str) -> Path:
    """`<target>.<ending>`, with a number if there is such a file already."""
    numbered = (f".{ending}" if number == 1 else f".{ending}-{number}" for number in itertools.count(1))
    paths = (target.with_name(target.name + name) for name in numbered)
    return next(path for path in paths if not os.path.lexists(path))


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _not_writable(target: Path, why: str) -> MachineError:
    return MachineError(
        f"{target.parent} cannot be written: {why}",
        allowed="-o in a folder that you may write to",
        fix=f"chmod u+w {target.parent}, or choose another -o",
    )


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, through whatever wrapped it."""
    for cause in takewhile(lambda cause: not isinstance(cause, ChronosExportError), causes(error)):
        if getattr(cause, "errno", None) in NO_ROOM or "No space left on device" in str(cause):
            return True
    return False


def _disk_full(target: Path) -> MachineError:
    free = shutil.disk_usage(target.parent).free
    return MachineError(
        f"the disk of {target.parent} is full: more is needed, {free / 1e6:.1f} MB are free",
        allowed="room for the whole artifact beside the one it replaces",
        fix="free some space, or choose -o on another disk",
    )
