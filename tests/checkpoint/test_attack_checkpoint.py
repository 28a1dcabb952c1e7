"""A checkpoint made by an attacker: nothing of it is executed, unpickled, imported or prompted for."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import IntegrityError, UsageError
from tests.helpers.checkpoints import edit_config, edit_weights, make_adapter, refusal

LEAVES_A_TRACE = """
import os
os.mkdir({trace!r})
from chronos.chronos2.config import Chronos2CoreConfig as Evil
"""


class Bomb:
    """Whoever unpickles this leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def with_code(folder: Path, trace: Path, **changes: object) -> Path:
    """A checkpoint with a Python file beside it and a config.json that asks for that to be run."""
    (folder / "evil.py").write_text(LEAVES_A_TRACE.format(trace=str(trace)))
    return edit_config(folder, auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}, **changes)


@pytest.mark.parametrize("model_type", [None, "evil", "t5"])
def test_code_of_a_checkpoint_is_never_run(mine: Path, tmp_path: Path, model_type: str | None) -> None:
    """Even where whoever runs us pipes `yes` into everything."""
    with_code(mine, tmp_path / "ran", model_type=model_type)
    program = f"from chronos_export.checkpoint.loading import load_checkpoint; load_checkpoint({str(mine)!r})"
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], input="y\n" * 9, env=environment, capture_output=True, text=True
    )
    assert not (tmp_path / "ran").exists()
    assert "[y/N]" not in done.stdout + done.stderr
    assert (done.returncode == 0) == (model_type == "t5")


@pytest.mark.parametrize("model_type", [None, "bert", "T5", 5])
def test_only_our_model_type(mine: Path, model_type: object) -> None:
    error = refusal(edit_config(mine, model_type=model_type))
    assert isinstance(error, UsageError)
    assert "model_type" in error.summary


def test_code_of_an_adapters_base_is_never_run(toy: Path, mine: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", mine)
    with_code(mine, tmp_path / "ran", model_type=None)
    assert isinstance(refusal(adapter), UsageError)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages that leave a trace when they are imported; returns where."""
    trace = tmp_path / "ran"
    for package in ("megatron", "evil", "lerobot", "diffusers"):
        (tmp_path / "packages" / package).mkdir(parents=True)
        text = LEAVES_A_TRACE.format(trace=str(trace))
        (tmp_path / "packages" / package / "__init__.py").write_text(text)
        (tmp_path / "packages" / package / "core.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    return trace


@pytest.mark.parametrize(
    "changes",
    [
        {"megatron_config": {"hidden_size": 1}, "megatron_core": "megatron.core"},
        {"auto_mapping": {"parent_library": "lerobot.core", "base_model_class": "Evil"}},
        {"auto_mapping": {"parent_library": "evil", "base_model_class": "Evil"}},
        {"task_type": "CAUSAL_LM", "auto_mapping": None},
        {"base_model_class": "evil.Evil"},
    ],
)
def test_an_adapter_imports_nothing(
    toy: Path, tmp_path: Path, planted: Path, changes: dict[str, object]
) -> None:
    adapter = make_adapter(tmp_path / "adapter", toy)
    digest = load_checkpoint(str(adapter)).digest
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    try:
        assert load_checkpoint(str(adapter)).digest == digest  # what would be imported is not looked at
    except IntegrityError as error:
        assert next(iter(changes)) in error.summary
    assert not planted.exists()
    assert not {"megatron", "evil", "lerobot", "diffusers"} & set(sys.modules)


YEARS = r"([\w.]+)*!"


@pytest.mark.parametrize(
    "changes",
    [
        {"rank_pattern": {YEARS: 2}},
        {"alpha_pattern": {YEARS: 2}},
        {"exclude_modules": YEARS},
        {"layers_to_transform": [0], "layers_pattern": YEARS},
    ],
)
def test_a_pattern_that_takes_years(toy: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    """peft matches modules by regular expressions that the adapter brings."""
    adapter = make_adapter(tmp_path / "adapter", toy)
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    error = refusal(adapter)
    assert isinstance(error, IntegrityError)
    assert list(changes)[-1] in error.summary


@pytest.mark.parametrize("size", [2**31, 10**12, 0, -1, 1.5, "8", True])
def test_an_adapter_of_impossible_rank(toy: Path, tmp_path: Path, size: object) -> None:
    adapter = make_adapter(tmp_path / "adapter", toy)
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"r": size}))
    assert isinstance(refusal(adapter), IntegrityError)


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model.bin", "../outside.bin"])
def test_config_cannot_name_a_pickle(mine: Path, tmp_path: Path, name: str) -> None:
    """transformers opens whatever `transformers_weights` names, and a pickle if it is called so."""
    (mine / name).write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    digest = load_checkpoint(str(mine)).digest
    assert load_checkpoint(str(edit_config(mine, transformers_weights=name))).digest == digest
    assert not (tmp_path / "opened").exists()


def test_config_cannot_name_other_weights(mine: Path) -> None:
    """What was checked is what is loaded: NaN in another file must not come in by a name in config.json."""
    digest = load_checkpoint(str(mine)).digest
    tensors = load_file(mine / "model.safetensors")
    tensors["shared.weight"] = torch.full_like(tensors["shared.weight"], torch.nan)
    save_file(tensors, mine / "other.safetensors", metadata={"format": "pt"})
    edit_config(mine, transformers_weights="other.safetensors")
    assert load_checkpoint(str(mine)).digest == digest


def test_weights_are_not_the_file_any_more(mine: Path) -> None:
    """Whoever writes to the file after the check changes nothing: the model is in memory of its own."""
    model = load_checkpoint(str(mine)).pipeline.model
    before = model.shared.weight.clone()
    with (mine / "model.safetensors").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 4000)
        file.write(b"\xff" * 4000)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert torch.equal(model.shared.weight, before)


@pytest.mark.parametrize("kind", [torch.int32, torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers(mine: Path, kind: torch.dtype) -> None:
    error = refusal(edit_weights(mine, {"shared.weight": torch.ones(2, 6, dtype=kind)}))
    assert isinstance(error, IntegrityError)
    assert "shared.weight" in error.summary
