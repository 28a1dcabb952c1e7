"""config.json of a checkpoint: is this Chronos-2, and if not, what is it?"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from chronos_export.artifact.manifest import NAME as MANIFEST
from chronos_export.artifact.manifest import read_manifest
from chronos_export.checkpoint.source import FETCH_AGAIN, NAMES, TRY_DEMO
from chronos_export.errors import IntegrityError, UsageError


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of the model in `folder`.

    Raises:
        UsageError: There is none, or it is not Chronos-2's.
        IntegrityError: It is not JSON.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise _no_checkpoint(folder)
    config = read_json(file)
    if config.get("architectures") != ["Chronos2Model"] or "chronos_config" not in config:
        raise UsageError(
            f"{folder} is {_kind(config)}, not Chronos-2",
            allowed="Chronos-2: amazon/chronos-2, autogluon/chronos-2-small or a finetune of one",
            fix=TRY_DEMO,
        )
    return config


def _no_checkpoint(folder: Path) -> UsageError:
    if not (folder / MANIFEST).is_file():
        return UsageError(f"{folder} has no config.json: it is not a checkpoint", allowed=NAMES, fix=TRY_DEMO)
    return UsageError(
        f"{folder} is an artifact, which is what an export makes; --model is what it was made from",
        allowed=NAMES,
        fix=shlex.join(["chronos-export", "--model", str(read_manifest(folder).checkpoint.get("source"))]),
    )


def _kind(config: dict[str, Any]) -> str:
    """What a foreign config.json describes, in a reader's words."""
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else "a model of no stated kind"
    if "ChronosBolt" in architecture:
        return f"Chronos-Bolt ({architecture})"
    if "chronos_config" in config:
        return f"the first Chronos ({architecture})"
    return f"{architecture} ({config['model_type']})" if "model_type" in config else architecture


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        IntegrityError: It is anything else.
    """
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise IntegrityError(f"{file} is not JSON: {error}", fix=FETCH_AGAIN) from error
    if not isinstance(content, dict):
        raise IntegrityError(f"{file} is not a JSON object", fix=FETCH_AGAIN)
    return content
