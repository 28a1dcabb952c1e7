"""A model's name -> upstream's pipeline, every weight accounted for.

Upstream's class is built from entries that were checked and weights that are in memory: that this is
Chronos-2, that the weights are safetensors and finite, and that they are exactly the ones the model takes.
Upstream's `from_pretrained` never sees the folder: it runs code, opens pickles and asks the hub where a file
in it says so.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig

from chronos_export.checkpoint import adapter
from chronos_export.checkpoint.config import CheckpointConfig, read_config
from chronos_export.checkpoint.quiet import quiet
from chronos_export.checkpoint.source import FETCH_AGAIN, licence_of, locate
from chronos_export.checkpoint.weights import Shapes, opened, shapes_of, weight_files
from chronos_export.errors import IntegrityError
from chronos_export.progress import Report, ignore

BLOCK = re.compile(r"encoder\.block\.(\d+)\.")
CONFIG_KEYS = (
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "layer_norm_epsilon",
    "dense_act_fn",
    "rope_theta",
    "chronos_config",
)


@dataclass(frozen=True)
class Checkpoint:
    """A checked upstream model.

    Args:
        source: As it was asked for: `demo`, a folder or a hub id.
        revision: The commit it was taken from, if it came from the hub.
        digest: sha256 of `config` and of every float32 weight (an adapter's merged in): the same model gives
            the same digest, however its files are cut, named or ordered.
        licence: As the checkpoint states it, else `unknown`.
        config: What defines the model: sizes, constants and upstream's `chronos_config`.
        pipeline: float32, in eval mode, on the CPU.
        files: Where it lies.
    """

    source: str
    revision: str | None
    digest: str
    licence: str
    config: dict[str, Any]
    pipeline: Chronos2Pipeline
    files: Files


@dataclass(frozen=True)
class Files:
    """The folder of a checkpoint and, if that is a LoRA adapter, the folder of the model it adapts."""

    folder: Path
    base: Path | None = None


def load_checkpoint(source: str, revision: str | None = None, report: Report = ignore) -> Checkpoint:
    """Load a Chronos-2 checkpoint: full, or a LoRA adapter merged into its base.

    Args:
        source: `demo`, a folder or a hub id.
        revision: A commit, tag or branch of a hub id.
        report: Told of a download.

    Raises:
        UsageError: No such model, not Chronos-2, or pickled weights.
        MachineError: The hub is out of reach, or `peft` is missing for an adapter.
        IntegrityError: The files are truncated or altered, or weights are missing, unknown or not finite.
    """
    place = locate(source, revision, report)
    files = Files(place.folder, adapter.base_of(place.folder, report))
    pipeline = _open(files)
    config = _defining(pipeline.model.config)
    return Checkpoint(
        source=source,
        revision=place.revision,
        digest=_digest(config, pipeline.model),
        licence=_licence(files),
        config=config,
        pipeline=pipeline,
        files=files,
    )


def load_reference(checkpoint: Checkpoint) -> Chronos2Pipeline:
    """Load the untouched upstream pipeline once more; it shares nothing with `checkpoint.pipeline`.

    Raises:
        IntegrityError: The files have changed since `checkpoint` was loaded.
    """
    pipeline = _open(checkpoint.files)
    if _digest(_defining(pipeline.model.config), pipeline.model) != checkpoint.digest:
        raise IntegrityError(
            f"{checkpoint.files.folder} has changed since it was first read", fix="start again"
        )
    return pipeline


def _open(files: Files) -> Chronos2Pipeline:
    """Upstream's pipeline, in float32, in memory that belongs to no file."""
    config = read_config(files.base or files.folder)
    with opened(weight_files(files.base or files.folder)) as weights:
        _check_layers(config, weights.shapes)
        skeleton = _skeleton(config)
        tensors = weights.read(shapes_of(skeleton.state_dict()))
    with quiet():
        model = Chronos2Model.from_pretrained(
            None, config=_upstream_config(config), state_dict=tensors, dtype=torch.float32
        )
    if files.base is not None:
        model = adapter.merge(files.folder, skeleton, model)
    return Chronos2Pipeline(model=model.eval())


def _check_layers(config: dict[str, Any], shapes: Shapes) -> None:
    """Hold the one size that costs something before there are weights against those that are there."""
    said = config.get("num_layers", CheckpointConfig.num_layers)
    held = len({match[1] for name in shapes if (match := BLOCK.match(name))})
    if said > held:
        raise IntegrityError(
            f"config.json says num_layers {said}, and the weights are those of {held} layers", fix=FETCH_AGAIN
        )


def _upstream_config(config: dict[str, Any]) -> Chronos2CoreConfig:
    return Chronos2CoreConfig(**copy.deepcopy(config))  # upstream completes what it is given


def _skeleton(config: dict[str, Any]) -> Chronos2Model:
    """Upstream's model with shapes and no memory behind them."""
    try:
        with torch.device("meta"):
            return Chronos2Model(_upstream_config(config))
    except Exception as error:  # upstream asserts on what it does not support
        raise IntegrityError(
            f"upstream cannot build a model from this config.json: {type(error).__name__}: {error}",
            allowed="the config.json upstream saved beside these weights",
        ) from error


def _defining(config: Chronos2CoreConfig) -> dict[str, Any]:
    return {key: getattr(config, key) for key in CONFIG_KEYS}


def _digest(config: dict[str, Any], model: Chronos2Model) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(json.dumps([name, list(tensor.shape)]).encode())
        digest.update(tensor.detach().contiguous().numpy().data)
    return digest.hexdigest()


def _licence(files: Files) -> str:
    stated = [licence_of(folder) for folder in (files.folder, files.base) if folder is not None]
    return next((licence for licence in stated if licence != "unknown"), "unknown")
