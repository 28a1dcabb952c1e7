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

from chronos_export.artifact.naming import BUNDLED, is_hub_id, located
from chronos_export.artifact.publishing import NO_ROOM
from chronos_export.errors import MachineError, UsageError
from chronos_export.progress import Report, Stage, ignore, stage

DEMO = Path(__file__).parent / "demo"
ADAPTER = "adapter_config.json"
CONFIGS = ["config.json", ADAPTER]
WANTED = [
    *CONFIGS,
    "*.safetensors",
    "*.safetensors.index.json",
    "*.md",
    "LICENSE*",
]
HUB_TIMEOUT = 5.0  # seconds until an unreachable hub counts as such

NAMES = "demo, a folder, or a hub id such as amazon/chronos-2"
TRY_DEMO = "chronos-export --model demo"
FETCH_AGAIN = "fetch or save the checkpoint again"


@dataclass(frozen=True)
class Place:
    """Where a checkpoint's files lie.

    Args:
        folder: An existing folder; what it holds has not been looked at.
        revision: The commit, if the files came from the hub.
        weights_bytes: Size of all safetensors files there are, here or on the hub.
    """

    folder: Path
    revision: str | None = None
    weights_bytes: int = 0


def locate(
    source: str, revision: str | None = None, report: Report = ignore, *, weights: bool = True
) -> Place:
    """Find the files of `source`, fetching them from the hub if need be.

    Args:
        source: `demo`, a folder, or a hub id.
        revision: A commit, tag or branch of a hub id; None for its main branch.
        report: Told of a download, from the threads that do it.
        weights: Whether the weights are fetched; without them a model on the hub costs a few kB.

    Raises:
        UsageError: No such folder, model or revision.
        MachineError: The hub cannot be reached and the model is not in its cache.
    """
    folder = DEMO if source == BUNDLED else located(source)
    if folder.is_dir():
        if revision is not None:
            raise UsageError(
                f"--revision {revision} was given, but {source} is not on the hub and has no revisions",
                allowed="a revision together with a hub id",
                fix="leave --revision out",
            )
        return Place(folder, weights_bytes=_weights_bytes(folder))
    if folder.exists():
        raise UsageError(
            f"{source} is a file, not a folder", allowed=NAMES, fix=f"chronos-export --model {folder.parent}"
        )
    if not is_hub_id(source):
        raise UsageError(f"there is no folder {source}", allowed=NAMES, fix=TRY_DEMO)
    with stage("fetch", report) as running:
        return _from_hub(source, revision, running, WANTED if weights else CONFIGS)


def _weights_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())


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


def _from_hub(model_id: str, revision: str | None, running: Stage, wanted: list[str]) -> Place:
    from huggingface_hub import HfApi, errors, snapshot_download

    bar = _bytes_to(running)
    try:
        info = HfApi().model_info(model_id, revision=revision, timeout=HUB_TIMEOUT, files_metadata=True)
        folder = snapshot_download(model_id, revision=revision, allow_patterns=wanted, tqdm_class=bar)
        sizes = (file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors"))
        return Place(Path(folder), Path(folder).name, sum(sizes))
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
        if getattr(error, "errno", None) in NO_ROOM:
            raise MachineError(
                f"the disk of the hub's cache is full, so {model_id} cannot be fetched: {error}",
                allowed="room for the weights in the cache, which HF_HOME places",
                fix="free some space, or set HF_HOME to a folder on another disk",
            ) from error
        return _from_cache(model_id, revision, error)


def _from_cache(model_id: str, revision: str | None, why: Exception) -> Place:
    from huggingface_hub import errors, snapshot_download

    try:
        cached = snapshot_download(
            model_id, revision=revision, allow_patterns=WANTED, local_files_only=True, max_workers=1
        )
        if size := _weights_bytes(folder := Path(cached)):  # --dry-run leaves a configuration alone
            return Place(folder, folder.name, size)
    except errors.LocalEntryNotFoundError:
        pass
    reason = f"{type(why).__name__}: {str(why).strip().partition(chr(10))[0]}"
    raise MachineError(
        f"{model_id} is not on this machine and the hub could not be asked for it ({reason})",
        allowed=NAMES,
        fix=f"{TRY_DEMO}, which needs no network",
    ) from why


def licence_of(folder: Path) -> str:
    """The licence a folder states: its model card's, else its LICENSE file's, else `unknown`."""
    for card in (folder / "README.md", folder / "MODEL_CARD.md"):
        front = re.match(r"---\n(.*?)\n---", _beginning(card), re.DOTALL)
        stated = front and re.search(r"^license:\s*[\"']?([\w.+-]{1,99})", front[1], re.MULTILINE)
        if stated:
            return stated[1]
    for file in sorted(folder.glob("LICENSE*")):
        text = _beginning(file)
        if "Apache License" in text:
            return "apache-2.0"
        if "MIT License" in text:
            return "mit"
        if text and file.name.isprintable():
            return f"see {file.name} of the checkpoint"
    return "unknown"


def _beginning(file: Path) -> str:
    """The first 64 kB of a text file, "" if it is none."""
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        return stream.read(2**16).decode(errors="replace")
