"""LoRA adapters: which model they adapt, whether they fit it, and how upstream is made to merge them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from chronos_export.checkpoint.config import read_json
from chronos_export.checkpoint.quiet import quiet
from chronos_export.checkpoint.source import Place, locate
from chronos_export.checkpoint.weights import check_weights, shapes_of, weight_files
from chronos_export.errors import IntegrityError, MachineError, UsageError
from chronos_export.progress import Report, ignore

CONFIG = "adapter_config.json"


def base_of(folder: Path, report: Report = ignore) -> Path | None:
    """The folder of the model that the adapter in `folder` adapts; None if `folder` is a full model.

    Raises:
        UsageError: It is an adapter of another kind, or of another adapter.
    """
    if not (folder / CONFIG).is_file():
        return None
    config = read_json(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise UsageError(
            f"{folder} is an adapter of type {config.get('peft_type')}", allowed="LORA, or a full checkpoint"
        )
    name = str(config.get("base_model_name_or_path"))
    beside = folder / name
    base = Place(beside) if beside.is_dir() else locate(name, config.get("revision"), report)
    if (base.folder / CONFIG).exists():
        raise UsageError(
            f"{folder} adapts {name}, itself an adapter", allowed="an adapter of a full checkpoint"
        )
    return base.folder


def check(folder: Path, base: nn.Module) -> None:
    """Hold an adapter's weights against those its config makes peft add to `base`.

    Args:
        folder: The adapter.
        base: The model it adapts, on the meta device; altered by this.

    Raises:
        MachineError: peft is not installed.
        UsageError: It has biases that cannot be merged.
        IntegrityError: A weight is missing, unknown, mis-shaped or not finite.
    """
    try:
        from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
    except ImportError as error:
        raise MachineError(f"{folder} is a LoRA adapter, which needs peft", fix="pip install peft") from error
    try:
        with quiet():
            adapted = get_peft_model(base, PeftConfig.from_pretrained(str(folder)))
            expected = get_peft_model_state_dict(adapted)
    except Exception as error:
        raise IntegrityError(
            f"{folder / CONFIG} does not fit Chronos-2: {type(error).__name__}: {error}",
            allowed="the adapter_config.json peft saved beside these weights",
        ) from error
    _require_mergeable(folder, adapted)
    check_weights(weight_files(folder, "adapter_model"), shapes_of(expected))


def _require_mergeable(folder: Path, adapted: nn.Module) -> None:
    """peft can train a bias beside a layer that has none; merged, there is no place for it."""
    for name, module in adapted.named_modules():
        if (
            any(getattr(module, "lora_bias", {}).values())
            and getattr(module.get_base_layer(), "bias", None) is None
        ):
            raise UsageError(
                f"{folder} cannot be merged: it trained a bias (lora_bias) for {name}, which has none",
                allowed="a LoRA adapter trained with lora_bias=False",
                fix="train it again with LoraConfig(lora_bias=False)",
            )


@contextmanager
def pinned(folder: Path, base: Path) -> Iterator[Path]:
    """A copy of an adapter whose config names its base by the folder that was checked."""
    config = {**read_json(folder / CONFIG), "base_model_name_or_path": str(base.resolve()), "revision": None}
    with tempfile.TemporaryDirectory(prefix="chronos-export-") as temporary:
        Path(temporary, CONFIG).write_text(json.dumps(config))
        for file in weight_files(folder, "adapter_model"):
            Path(temporary, file.name).symlink_to(file.resolve())
        yield Path(temporary)
