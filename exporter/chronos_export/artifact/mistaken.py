"""What was named where an artifact was meant, and what helps whoever named it."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from pathlib import Path

from chronos_export.artifact.manifest import NAME, read_manifest
from chronos_export.artifact.naming import default_output, is_hub_id
from chronos_export.errors import ChronosExportError, IntegrityError, UsageError

CHECKPOINT = ("config.json", "adapter_config.json")
SHOWN = 5
AN_ARTIFACT = "the folder of an artifact that chronos-export published"


def mistaken(folder: Path) -> ChronosExportError:
    """Return the error for a path that is no folder with a manifest.

    Args:
        folder: As it was given.
    """
    if not folder.exists():
        return _not_there(folder)
    if not folder.is_dir():
        return UsageError(f"{folder} is a file", allowed=AN_ARTIFACT, fix=f"name the folder: {folder.parent}")
    if (folder / NAME).is_symlink():
        return linked(folder, NAME)
    if any((folder / name).is_file() for name in CHECKPOINT):
        output = default_output(str(folder))
        return UsageError(
            f"{folder} is a checkpoint, not an artifact: it was not exported yet",
            allowed=AN_ARTIFACT,
            fix=shlex.join(["chronos-export", "--model", str(folder), "-o", str(output)]),
        )
    if inside := _artifacts_in(folder):
        return UsageError(
            f"{folder} is not an artifact, but holds {_listed(inside)}",
            allowed=AN_ARTIFACT,
            fix=_meant(inside[0]),
        )
    return IntegrityError(
        f"{folder} has no {NAME}: it is not an artifact, or its publishing was tampered with",
        allowed=AN_ARTIFACT,
        fix="chronos-export --model SRC -o A_NEW_FOLDER",
    )


def linked(folder: Path, name: str) -> IntegrityError:
    """Return the error for a file of an artifact that is a link, as in a cache of the hub or of DVC."""
    copy = folder.with_name(f"{folder.resolve().name}-copy")
    return IntegrityError(
        f"{folder / name} is a link, not a file of the artifact: what it leads to can change unseen",
        allowed="an artifact of plain files, as `hf download --local-dir` makes them too",
        fix=shlex.join(["cp", "-rL", str(folder), str(copy)]),
    )


def _not_there(folder: Path) -> UsageError:
    summary = f"there is no folder {folder}"
    if is_hub_id(str(folder)) and not folder.parent.exists():
        export = shlex.join(["chronos-export", "--model", str(folder), "-o", folder.name])
        return UsageError(summary, allowed=AN_ARTIFACT, fix=export)
    beside = _artifacts_in(folder.parent)
    if close := get_close_matches(folder.name, [path.name for path in beside], n=1):
        return UsageError(summary, allowed=AN_ARTIFACT, fix=_meant(folder.with_name(close[0])))
    if beside:
        return UsageError(summary, allowed=_listed(beside), fix="name one of these")
    return UsageError(
        summary, allowed=AN_ARTIFACT, fix=f"chronos-export --model SRC -o {shlex.quote(str(folder))}"
    )


def _artifacts_in(folder: Path) -> list[Path]:
    return [file.parent for file in sorted(folder.glob(f"[!.]*/{NAME}")) if _is_readable(file.parent)]


def _is_readable(folder: Path) -> bool:
    """Other programs have a manifest.json too."""
    try:
        read_manifest(folder)
    except IntegrityError:
        return False
    return True


def _listed(artifacts: list[Path]) -> str:
    more = f" and {len(artifacts) - SHOWN} more" if len(artifacts) > SHOWN else ""
    return ", ".join(str(path) for path in artifacts[:SHOWN]) + more


def _meant(path: Path) -> str:
    return f"did you mean {shlex.quote(str(path))} ?"
