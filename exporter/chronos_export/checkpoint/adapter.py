"""LoRA adapters: which model they adapt, whether they fit it, and merging them.

peft would import what adapter_config.json names and match modules by the regular expressions in it. So it
gets a configuration of our making, from the entries that decide what a LoRA adapter computes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import nn

from chronos_export.checkpoint.config import not_ours, read_json
from chronos_export.checkpoint.quiet import quiet
from chronos_export.checkpoint.source import Place, locate
from chronos_export.checkpoint.weights import opened, shapes_of, weight_files
from chronos_export.errors import IntegrityError, UsageError
from chronos_export.machine.packages import require
from chronos_export.progress import Report, ignore
from chronos_export.untrusted.records import PRINTABLE, Between, Matches, RecordError, read_record

CONFIG = "adapter_config.json"
ADAPTED = re.compile(r"base_model\.model\.(.+)\.lora_(?:embedding_)?A(?:\.weight)?")
# What peft writes that does not change what a trained adapter computes, or that is read elsewhere.
WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}

Module = Annotated[str, Matches(r"[\w.]+", "the name of a module, not a pattern")]
Rank = Annotated[int, Between(1, 2**12)]
Alpha = Annotated[float, Between(0, 1e6)]


@dataclass(frozen=True)
class Lora:
    """The entries of adapter_config.json that decide what a LoRA adapter computes; defaults are peft's.

    A pattern in `target_modules` is not matched: what the adapter has weights for is what it adapts. The keys
    of `rank_pattern` and `alpha_pattern` would be patterns for peft; here they are names.
    """

    r: Rank = 8
    lora_alpha: Alpha = 8
    target_modules: list[Module] | str | None = None
    exclude_modules: list[Module] | None = None
    modules_to_save: list[Module] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[Module] | Module | None = None
    rank_pattern: dict[Module, Rank] = field(default_factory=dict)
    alpha_pattern: dict[Module, Alpha] = field(default_factory=dict)
    bias: Literal["none", "all", "lora_only"] = "none"
    lora_bias: bool = False
    fan_in_fan_out: bool = False
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: Literal[True, False, "gaussian"] = True  # others change the model that is adapted


@dataclass(frozen=True)
class Base:
    """The entries of adapter_config.json that say what is adapted."""

    base_model_name_or_path: Annotated[str, PRINTABLE, Matches(".+", "the name of a model")]
    revision: Annotated[str, PRINTABLE] | None = None


BASE = {entry.name for entry in fields(Base)}


def base_of(folder: Path, report: Report = ignore) -> Path | None:
    """The folder of the model that the adapter in `folder` adapts; None if `folder` is a full model.

    Raises:
        UsageError: It is an adapter of another kind, or of another adapter.
        IntegrityError: Its configuration does not name a model.
    """
    if not (folder / CONFIG).is_file():
        return None
    config = read_json(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise UsageError(
            f"{folder} is an adapter of type {config.get('peft_type')}", allowed="LORA, or a full checkpoint"
        )
    try:
        adapted = read_record(Base, {name: config[name] for name in BASE & config.keys()})
    except RecordError as error:
        raise not_ours(folder / CONFIG, error) from error
    name, beside = adapted.base_model_name_or_path, folder / adapted.base_model_name_or_path
    base = Place(beside) if os.path.isdir(beside) else locate(name, adapted.revision, report)  # noqa: PTH112
    if (base.folder / CONFIG).exists():
        raise UsageError(
            f"{folder} adapts {name}, itself an adapter", allowed="an adapter of a full checkpoint"
        )
    return base.folder


def merge(folder: Path, skeleton: nn.Module, base: nn.Module) -> nn.Module:
    """Merge an adapter into the model it adapts.

    Args:
        folder: The adapter.
        skeleton: The model it adapts, on the meta device; altered by this.
        base: The same with its weights; altered by this.

    Raises:
        MachineError: peft is not installed.
        UsageError: It has biases that cannot be merged.
        IntegrityError: The configuration is not a LoRA adapter's of this model, or a weight is missing,
            unknown, mis-shaped or not finite.
    """
    require(f"the LoRA adapter {folder}", ["peft"])
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    lora = read_lora(folder / CONFIG)
    with opened(weight_files(folder, "adapter_model")) as weights, quiet():
        names = weights.shapes.keys()
        try:
            adapted = get_peft_model(skeleton, _for_peft(lora, names))
            expected = shapes_of(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        except Exception as error:  # peft has many ways to say so
            raise IntegrityError(
                f"{folder / CONFIG} does not fit Chronos-2: {type(error).__name__}: {error}",
                allowed="the adapter_config.json peft saved beside these weights",
            ) from error
        _require_mergeable(folder, adapted)
        tensors = weights.read(expected)
        adapted = get_peft_model(base, _for_peft(lora, names))
        set_peft_model_state_dict(adapted, tensors)
        merged: nn.Module = adapted.merge_and_unload()
    return merged


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


def read_lora(file: Path) -> Lora:
    """The entries of an adapter_config.json that matter.

    Raises:
        IntegrityError: One of them is not what it may be, or an unknown one is set.
    """
    content = read_json(file)
    names = {entry.name for entry in fields(Lora)}
    try:
        for name in sorted(content.keys() - names - WITHOUT_EFFECT):
            if content[name]:
                raise RecordError(name, "is set", f"plain LoRA: {', '.join(sorted(names))}")
        return read_record(Lora, {name: content[name] for name in names & content.keys()})
    except RecordError as error:
        raise not_ours(file, error) from error


def _for_peft(lora: Lora, weights: Iterable[str]) -> Any:
    """peft's own configuration, with nothing in it that it would import, fetch or search for."""
    from peft import LoraConfig

    targets: object = lora.target_modules
    if isinstance(targets, str):
        targets = sorted({adapted[1] for name in weights if (adapted := ADAPTED.fullmatch(name))})
    return LoraConfig(**{**asdict(lora), "target_modules": targets})
