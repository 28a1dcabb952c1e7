"""What artifacts and models are called, and where what someone named lies."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chronos_export.errors import MachineError, UsageError

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
FOLDER = "./"  # begins the name of a folder, which no hub id begins with
BUNDLED = "demo"
LONGEST_PID = 2**22
NOT_A_NAME = {errno.ENAMETOOLONG: "its name is too long", errno.ELOOP: "its links lead in a circle"}


def is_hub_id(source: str) -> bool:
    """Return whether `source` can only be a model on the hub."""
    try:
        return HUB_ID.fullmatch(source) is not None and not Path(source).exists()
    except OSError:  # too long a name, say; not one of the hub's either
        return False


def recorded_source(source: str) -> str:
    """Return what an artifact says of its model's place: `demo`, a hub id, or of a folder its name alone."""
    if source == BUNDLED or is_hub_id(source):
        return source
    return FOLDER + Path(source).expanduser().resolve().name


def find_source(recorded: str, artifact: Path) -> str | None:
    """Return where the model of an artifact is: a folder is looked for beside the artifact and here.

    Args:
        recorded: As `recorded_source` gave it.
        artifact: Its folder.
    """
    if not recorded.startswith(FOLDER):
        return recorded
    places = (artifact.absolute().parent / recorded, Path(recorded))
    return next((str(place) for place in places if place.is_dir()), None)


def default_output(source: str, batch: tuple[int, ...] = ()) -> Path:
    """Return the folder for an export.

    `amazon/chronos-2` gives `chronos-2`, and with (100,) `chronos-2-b100`. A checkpoint in the working folder
    is not in the way of its own export: `./mine` gives `mine-exported`.
    """
    if source == BUNDLED or is_hub_id(source):
        name = source.rpartition("/")[2]
    else:
        model = located(source)
        name = model.name if batch or model.parent != Path.cwd() else f"{model.name}-exported"
    return Path(f"{name}-b{'-'.join(str(rows) for rows in batch)}" if batch else name)


def at_home(path: Path | str) -> Path:
    """Return a path with the `~` at its beginning replaced, if there is one.

    Raises:
        UsageError: It is the home of nobody.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{text} cannot be found: there is no user {text.partition('/')[0].removeprefix('~')}",
            allowed="~ for your own home, ~user for another's",
            fix=f"./{text}, if it is a folder of that name",
        ) from error


def located(path: Path | str) -> Path:
    """Return where `path` lies: absolute, `~` and links followed. Nothing need be there.

    Raises:
        UsageError: No file here can be called so.
    """
    text = os.fspath(path)
    _require_text(text)
    with _said_of(text):
        found = Path(os.path.realpath(at_home(text)))
        _require_text(str(found))
        _touch(found)
    return found


def destination(path: Path | str) -> Path:
    """Return where an artifact is to be published.

    Raises:
        UsageError: As `located`, or the name leaves no room for the longer one it has while it is built.
    """
    target = located(path)
    with _said_of(path):
        _touch(target.with_name(f".{target.name}.staging.{LONGEST_PID}"))  # what it is called meanwhile
    return target


def _touch(place: Path) -> None:
    """Look at a path, which need not lead anywhere."""
    with suppress(FileNotFoundError, NotADirectoryError):
        place.stat()


@contextmanager
def _said_of(given: Path | str) -> Iterator[None]:
    """Say why a path cannot be looked at."""
    try:
        yield
    except OSError as error:
        if error.errno in NOT_A_NAME:
            raise UsageError(
                f"{given} cannot be used: {NOT_A_NAME[error.errno]}", allowed="the name of a file or folder"
            ) from error
        raise MachineError(
            f"{given} cannot be reached: {error.strerror}",
            allowed="a path that you may enter",
            fix=f"ls -ld {shlex.quote(str(Path(given).parent))}",
        ) from error


def _require_text(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise _not_text(name) from error
    if "\0" in name:
        raise UsageError(f"{name!r} is not the name of a file", allowed="names without a NUL")


def _not_text(text: str) -> UsageError:
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return UsageError(
            f"{text!r} is not the name of a file: its bytes are not UTF-8", allowed="names in UTF-8"
        )
    return UsageError(
        f"{text!r} has characters that the {encoding} of this locale lacks",
        allowed="names in ASCII, or any in a locale of UTF-8",
        fix="export LC_ALL=C.UTF-8",
    )
