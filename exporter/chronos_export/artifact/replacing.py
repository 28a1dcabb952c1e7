"""Putting a finished folder where another one may be: nothing is removed that was not published by us.

Two names are exchanged in one step where the kernel can. Elsewhere the old folder waits under `.<name>.old`
until the new one is in place, and whoever publishes next puts it back if that never came.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from chronos_export.artifact.manifest import NAME, read_manifest
from chronos_export.errors import IntegrityError, UsageError

AT_FDCWD = -100
RENAME_EXCHANGE = 2


def put_in_place(folder: Path, target: Path) -> None:
    """Rename a folder to `target`. An artifact that was there ends up under the folder's name, to be removed.

    Raises:
        UsageError: What is there is not an artifact; then it stays.
    """
    if not os.path.lexists(target):
        folder.rename(target)
        sync(target.parent)
        return
    aside = folder if _exchange(folder, target) else _in_two_steps(folder, target)
    sync(target.parent)
    try:
        require_replaceable(aside, shown=target)  # it was before, but nobody kept others from writing to it
    except UsageError:
        if aside == folder:
            _exchange(folder, target)
        else:
            target.rename(folder)
            aside.rename(target)
        raise
    if aside != folder:
        aside.rename(folder)


def recover(target: Path, stale: Path) -> None:
    """Put back what a process that died in `put_in_place` had moved aside; to be called under the lock.

    Args:
        target: Where it was to be published.
        stale: A free name, for what is to be removed.

    Raises:
        UsageError: There is something in the way that is not an artifact.
    """
    aside = _aside(target)
    if not os.path.lexists(aside):
        return
    if not os.path.lexists(target):
        aside.rename(target)
    elif foreign := _foreign(aside):
        raise UsageError(
            f"{aside} is what an earlier build moved aside, and it is not an artifact: {foreign}",
            fix=f"move {aside} elsewhere",
        )
    else:
        aside.rename(stale)


def require_replaceable(folder: Path, shown: Path) -> None:
    """Refuse to replace what chronos-export did not publish, or what has more in it by now.

    Args:
        folder: A folder, empty or not.
        shown: What errors call it.

    Raises:
        UsageError: It is a link, or it holds a file or folder that its manifest does not list.
    """
    if foreign := _foreign(folder):
        raise UsageError(
            f"{shown} exists and is not an artifact, so --force will not replace it: {foreign}",
            allowed="a new folder, or an artifact to replace, with no files but its own",
            fix=f"-o {shown}-new",
        )


def _foreign(folder: Path) -> str:
    """What keeps a folder from being an artifact and nothing else, or ""."""
    if folder.is_symlink():
        return "it is a link"
    if not any(folder.iterdir()):
        return ""
    try:
        ours = {NAME, *read_manifest(folder).files}
    except IntegrityError as error:
        return error.summary
    folders = {parent.as_posix() for name in ours for parent in Path(name).parents}
    for path, inner, files in os.walk(folder):
        here = Path(path).relative_to(folder)
        for name in (*files, *(name for name in inner if Path(path, name).is_symlink())):
            if (here / name).as_posix() not in ours:
                return f"{NAME} does not list {(here / name).as_posix()}"
        for name in inner:
            if (here / name).as_posix() not in folders:
                return f"{NAME} does not list {(here / name).as_posix()}"
    return ""


def _in_two_steps(folder: Path, target: Path) -> Path:
    """What `_exchange` does, with a moment in between in which there is nothing at `target`."""
    aside = _aside(target)
    target.rename(aside)
    try:
        folder.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    return aside


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step, where the kernel and the file system can (Linux >= 3.15)."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def sync(path: Path) -> None:
    """See a file or the entries of a folder onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
