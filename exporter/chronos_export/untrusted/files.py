"""Files that others may change: opened once, and looked at in memory of our own.

A link is not followed, and what is no plain file (a pipe, a device) is not waited for.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

BLOCK = 2**22  # bytes: after every block, a thread that hashes waits for those that import
FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
    FLAGS |= getattr(os, _name, 0)  # no system has all of them


class Unusable(Exception):  # noqa: N818 (it is a reason, of which each caller makes an error)
    """Why a file cannot be read, as the end of a sentence that begins with its name."""


@contextmanager
def plain_file(file: Path) -> Iterator[BinaryIO]:
    """A file opened for reading, unbuffered.

    Raises:
        Unusable: It is missing, a link, no plain file, or may not be read.
    """
    try:
        if not hasattr(os, "O_NOFOLLOW") and file.is_symlink():
            raise OSError(errno.ELOOP, "a link")
        handle = os.open(file, FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unusable("is missing") from error
    except OSError as error:
        is_link = error.errno in (errno.ELOOP, errno.EMLINK)
        why = "is a link, not a file of the artifact" if is_link else f"cannot be read: {error.strerror}"
        raise Unusable(why) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unusable("is not a file")
    with os.fdopen(handle, "rb", buffering=0) as stream:
        yield stream


class KeptFile:
    """A file that stays the one it is when its name is given to another one, or to none.

    Args:
        stream: From `plain_file`; it may be closed later.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._handle = os.dup(stream.fileno())
        weakref.finalize(self, os.close, self._handle)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open it for reading, unbuffered."""
        with os.fdopen(self._handle, "rb", buffering=0, closefd=False) as stream:
            yield stream


def read_small(file: Path, most: int) -> bytes:
    """All of a file of at most `most` bytes.

    Raises:
        Unusable: See `plain_file`, or it is longer.
    """
    with plain_file(file) as stream:
        text = stream.read(most + 1)
    if len(text) > most:
        raise Unusable(f"has more than {most} bytes")
    return text


def read_verified(stream: BinaryIO, size: int, sha256: str, *, keep: bool = True) -> memoryview:
    """The bytes of a file, if they are the ones they should be.

    Args:
        stream: From `plain_file`; read from the beginning to the end, once, wherever it stands.
        size: In bytes.
        sha256: In hex.
        keep: Whether to return them; else nothing is kept of more than a block.

    Raises:
        Unusable: It is of another size or content.
    """
    found = os.fstat(stream.fileno()).st_size
    if found != size:
        raise Unusable(f"has {found} bytes, not the {size} that were published")
    # Unlike a bytearray, a map of no file is not filled with zeros first.
    content = memoryview(mmap.mmap(-1, size) if keep and size else bytearray(min(size, BLOCK)))
    digest, done = hashlib.sha256(), 0
    while done < size:
        begin = done if keep else 0
        block = content[begin : begin + min(BLOCK, size - done)]
        count = _read_at(stream, block, done)
        if not count:
            break
        digest.update(block[:count])
        done += count
    if digest.hexdigest() != sha256:
        raise Unusable("has been altered: its sha256 is not the one in the manifest")
    return content.toreadonly()


def _read_at(stream: BinaryIO, block: memoryview, offset: int) -> int:
    """Fill a block from a place in a file, without moving where it stands, which forks share."""
    if hasattr(os, "preadv"):
        return os.preadv(stream.fileno(), [block], offset)
    stream.seek(offset)
    return int(stream.readinto(block))  # type: ignore[attr-defined]  # it is unbuffered
