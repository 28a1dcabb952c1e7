"""config.json of a checkpoint: is this Chronos-2, and if not, what is it?"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from chronos_export.artifact.manifest import NAME as MANIFEST
from chronos_export.artifact.manifest import read_manifest
from chronos_export.artifact.model_config import Activation, ModelConfig
from chronos_export.checkpoint.source import FETCH_AGAIN, NAMES, TRY_DEMO
from chronos_export.errors import IntegrityError, UsageError
from chronos_export.untrusted.records import Between, RecordError, parse_object, read_record

Share = Annotated[float, Between(0, 1)]
MODEL_TYPE = "t5"  # what upstream calls Chronos-2
LARGEST_JSON = 2**24  # bytes


@dataclass(frozen=True)
class CheckpointConfig(ModelConfig):
    """What is handed on to upstream, whose config class takes anything and keeps it."""

    dropout_rate: Share = 0.1
    feed_forward_proj: Activation = "relu"
    is_gated_act: Literal[False] = False


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json of the model in `folder` says of it: the entries of `CheckpointConfig` that it has.

    All else in it is dropped, for transformers would act on it: run code, open other files, make room for
    `num_labels`.

    Raises:
        UsageError: There is none, or it is not Chronos-2's.
        IntegrityError: It is not JSON, or an entry is not what it may be.
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
    if config.get("model_type") != MODEL_TYPE:
        raise UsageError(
            f"{file} has model_type {config.get('model_type')!r}, which is not Chronos-2's",
            allowed=f'"{MODEL_TYPE}", as upstream saves it; code beside a checkpoint is never run',
            fix=TRY_DEMO,
        )
    known = {field.name: config[field.name] for field in fields(CheckpointConfig) if field.name in config}
    try:
        read_record(CheckpointConfig, known)
    except RecordError as error:
        raise not_ours(file, error) from error
    return known


def _no_checkpoint(folder: Path) -> UsageError:
    if not (folder / MANIFEST).is_file():
        return UsageError(f"{folder} has no config.json: it is not a checkpoint", allowed=NAMES, fix=TRY_DEMO)
    return UsageError(
        f"{folder} is an artifact, which is what an export makes; --model is what it was made from",
        allowed=NAMES,
        fix=shlex.join(["chronos-export", "--model", read_manifest(folder).checkpoint.source]),
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
        IntegrityError: It is anything else, or larger than any such file.
    """
    with file.open("rb") as stream:
        text = stream.read(LARGEST_JSON + 1)
    try:
        if len(text) > LARGEST_JSON:
            raise RecordError("", "is longer than any such file", f"at most {LARGEST_JSON} bytes")
        return parse_object(text)
    except RecordError as error:
        raise not_ours(file, error) from error


def not_ours(file: Path, error: RecordError) -> IntegrityError:
    """The error with which a JSON file of a checkpoint is refused."""
    return IntegrityError(
        f"{file}: {error.key or 'it'} {error.problem}", allowed=error.allowed, fix=FETCH_AGAIN
    )
