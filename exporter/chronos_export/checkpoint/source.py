"""A model's name -> the folder on this machine that holds its files.

A name is `demo` (bundled), a folder, or a hub id `owner/name`. A folder wins over a hub id of the same
name, as it does upstream. From the hub come only the files named in `WANTED`: never a pickle, never code.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from chronos_export.artifact.naming import is_hub_id
from chronos_export.errors import MachineError, UsageError
from chronos_export.progress import Report, Stage, ignore, stage

DEMO = Path(__file__).parent / "demo"
WANTED = [
    "config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.md",
    "LICENSE*",
]
HUB_TIMEOUT = 5.0  # seconds until an unreachable hub counts as such

NAMES = "demo, a folder, or a hub id such as amazon/chronos-2"
TRY_DEMO = "chronos-export --model demo --batch 100"
FETCH_AGAIN = "fetch or save the checkpoint again"


@dataclass(frozen=True)
class Place:
    """Where a checkpoint's files lie.

    Args:
        folder: An existing folder; what it holds has not been looked at.
        revision: The commit, if the files came from the hub.
    """

    folder: Path
    revision: str | None = None


def locate(source: str, revision: str | None = None, report: Report = ignore) -> Place:
    """Find the files of `source`, fetching them from the hub if need be.

    Args:
        source: `demo`, a folder, or a hub id.
        revision: A commit, tag or branch of a hub id; None for its main branch.
        report: Told of a download, from the threads that do it.

    Raises:
        UsageError: No such folder, model or revision.
        MachineError: The hub cannot be reached and the model is not in its cache.
    """
    folder = DEMO if source == "demo" else Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UsageError(
                f"--revision {revision} was given, but {source} is not on the hub and has no revisions",
                allowed="a revision together with a hub id",
                fix="leave --revision out",
            )
        return Place(folder)
    if folder.exists():
        raise UsageError(
            f"{source} is a file, not a folder", allowed=NAMES, fix=f"chronos-export --model {folder.parent}"
        )
    if not is_hub_id(source):
        raise UsageError(f"there is no folder {source}", allowed=NAMES, fix=TRY_DEMO)
    with stage("fetch", report) as running:
        return _from_hub(source, revision, running)


def _bytes_to(running: Stage) -> type[tqdm]:
    """A progress bar that draws nothing and tells `running` how much has come; before hub 1.3, in files."""
    counts_bytes = False

    class Bytes(tqdm):  # type: ignore[misc]  # tqdm has no types
        def __init__(self, *args: object, **kwargs: object) -> None:
            kwargs.pop("name", None)  # of a kind of bars, known to the hub's own class alone
            super().__init__(*args, **{**kwargs, "file": io.StringIO(), "disable": False})

        def display(self, *args: object, **kwargs: object) -> None:
            nonlocal counts_bytes
            counts_bytes |= self.unit == "B"
            if self.total and self.unit == "B":
                running.step(self.n / self.total, f"{self.total / 1e6:.0f} MB from the hub")
            elif self.total and not counts_bytes:
                running.step(self.n / self.total, f"{self.total} files from the hub")

    return Bytes


def _from_hub(model_id: str, revision: str | None, running: Stage) -> Place:
    from huggingface_hub import HfApi, errors, snapshot_download

    bar = _bytes_to(running)
    try:
        HfApi().model_info(model_id, revision=revision, timeout=HUB_TIMEOUT)  # is anyone there?
        folder = snapshot_download(model_id, revision=revision, allow_patterns=WANTED, tqdm_class=bar)
        return Place(Path(folder), Path(folder).name)
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{model_id} is gated: its owner must grant access", allowed=NAMES, fix="hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"there is neither a folder {model_id} nor such a model on the hub (or it is private)",
            allowed=NAMES,
            fix=f"{TRY_DEMO}, or for a private model: hf auth login",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(
            f"{model_id} has no revision {revision}",
            allowed="a commit, tag or branch of that model",
            fix="leave --revision out for the main branch",
        ) from error
    except Exception as error:  # whatever the network does, a cached copy will do
        return _from_cache(model_id, revision, error)


def _from_cache(model_id: str, revision: str | None, why: Exception) -> Place:
    from huggingface_hub import errors, snapshot_download

    try:
        cached = snapshot_download(
            model_id, revision=revision, allow_patterns=WANTED, local_files_only=True, max_workers=1
        )
    except errors.LocalEntryNotFoundError:
        reason = f"{type(why).__name__}: {str(why).strip().partition(chr(10))[0]}"
        raise MachineError(
            f"{model_id} is not on this machine and the hub could not be asked for it ({reason})",
            allowed=NAMES,
            fix=f"{TRY_DEMO}, which needs no network",
        ) from why
    return Place(Path(cached), Path(cached).name)


def licence_of(folder: Path) -> str:
    """The licence a folder states: its model card's, else its LICENSE file's, else `unknown`."""
    for card in (folder / "README.md", folder / "MODEL_CARD.md"):
        if card.is_file():
            front = re.match(r"---\n(.*?)\n---", card.read_text(errors="replace"), re.DOTALL)
            stated = front and re.search(r"^license:\s*[\"']?([\w.+-]+)", front[1], re.MULTILINE)
            if stated:
                return stated[1]
    for file in sorted(folder.glob("LICENSE*")):
        text = file.read_text(errors="replace")
        if "Apache License" in text:
            return "apache-2.0"
        return "mit" if "MIT License" in text else f"see {file.name} of the checkpoint"
    return "unknown"
