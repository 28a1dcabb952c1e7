"""config.json and adapter_config.json with anything in them: the model, or a refusal, and soon."""

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chronos_export.checkpoint.config import read_config
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import ChronosExportError, IntegrityError, UsageError
from chronos_export.model.rewrite import rewrite
from tests.helpers.checkpoints import edit_config, edit_weights, make_adapter, refusal
from tests.helpers.spoiling import spoil


def load_all(folder: Path) -> None:
    """As an export does, up to the first forecast."""
    pipeline = load_checkpoint(str(folder)).pipeline
    segmented = rewrite(pipeline.model)
    with torch.no_grad():
        segmented(torch.zeros(1, 20), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 16))


def spoiled(file: Path, random: np.random.Generator) -> Path:
    """The folder of a JSON file, after a change of it."""
    content = json.loads(file.with_suffix(".clean").read_text())
    spoil(content, random)
    file.write_text(json.dumps(content))
    return file.parent


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_mutated_configs(toy: Path, mine: Path, tmp_path: Path, name: str) -> None:
    folder = mine if name == "config.json" else make_adapter(tmp_path / "adapter", mine)
    (folder / name).with_suffix(".clean").write_bytes((folder / name).read_bytes())
    random, refused = np.random.default_rng(0), 0
    for _ in range(150):
        try:
            load_all(spoiled(folder / name, random))
        except (UsageError, IntegrityError) as error:
            refused += 1
            assert "Error:" not in error.summary or "KeyError" in error.summary, error
    assert refused > 40


EATS: dict[str, Any] = {
    "num_labels": 2**31,
    "num_layers": 10**9,
    "num_hidden_layers": 10**9,
    "d_model": 10**9,
    "d_ff": 2**20,
    "d_kv": 2**16,
    "num_heads": 2**16,
    "vocab_size": 2**40,
    "max_length": 2**40,
    "id2label": {"0": "a"},
    "chronos_config.context_length": 10**9,
    "chronos_config.max_output_patches": 10**9,
    "chronos_config.input_patch_size": 2**16,
    "chronos_config.input_patch_stride": 2**16,
    "chronos_config.time_encoding_scale": 10**30,
    "chronos_config.quantiles": [i / 10**6 for i in range(1, 10**6)],
}

LIMITED = """
import resource, sys
import torch
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import ChronosExportError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for folder in sys.argv[1:]:
    try:
        load_checkpoint(folder)
        print("loaded")
    except ChronosExportError as error:
        print("refused")
"""


def test_numbers_that_eat_the_machine(mine: Path, tmp_path: Path) -> None:
    """In 300 MB of memory and 20 s for all of them; what upstream does not need is not looked at."""
    clean = json.loads((mine / "config.json").read_text())
    folders = []
    for number, (key, value) in enumerate(EATS.items()):
        config = copy.deepcopy(clean)
        holder = config["chronos_config"] if "." in key else config
        holder[key.rpartition(".")[2]] = value
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        (folders[-1] / "model.safetensors").symlink_to(mine / "model.safetensors")
        (folders[-1] / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, folders)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = dict(zip(EATS, done.stdout.split(), strict=True))
    harmless = {"num_labels", "num_hidden_layers", "vocab_size", "max_length", "id2label"}
    harmless |= {"chronos_config.input_patch_stride"}
    assert answers == {key: "loaded" if key in harmless else "refused" for key in EATS}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("chronos_config.context_length", 0),
        ("chronos_config.quantiles", [0.1, float("nan")]),
        ("chronos_config.quantiles", [0.9, 0.5, 0.1]),
        ("chronos_config.quantiles", []),
        ("chronos_config.input_patch_size", "16"),
        ("chronos_config.use_arcsinh", "yes"),
        ("chronos_config.novelty", 1),
        ("d_kv", 7),
        ("d_model", True),
        ("num_layers", 2.0),
        ("layer_norm_epsilon", float("inf")),
        ("rope_theta", 0),
        ("is_gated_act", True),
    ],
)
def test_the_key_is_named(mine: Path, key: str, value: object) -> None:
    room, _, name = key.rpartition(".")
    config = json.loads((mine / "config.json").read_text())
    inner = {**config[room], name: value} if room else value
    error = refusal(edit_config(mine, **{room or name: inner}))
    assert isinstance(error, IntegrityError)
    assert f": {key}" in error.summary
    assert error.allowed


def test_layers_without_weights(mine: Path) -> None:
    error = refusal(edit_config(mine, num_layers=3))
    assert isinstance(error, IntegrityError)
    assert "num_layers 3" in error.summary


def test_files_of_any_size_are_not_read(mine: Path) -> None:
    with (mine / "config.json").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(IntegrityError, match="longer than any such file"):
        read_config(mine)


@pytest.mark.parametrize("kind", ["licence", "card"])
def test_a_licence_that_is_no_text(mine: Path, kind: str) -> None:
    """Read for one line of it, whatever it is."""
    if kind == "licence":
        (mine / "LICENSE").symlink_to("/dev/zero")
    else:
        (mine / "README.md").mkdir()
        (mine / "LICENSE\x1b[31m").write_text("do what you want")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    licence = load_checkpoint(str(mine)).licence
    assert licence.isprintable()
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_AS)


def test_half_of_a_pair(mine: Path) -> None:
    """Weights of a layer that config.json does not have, and none of one that it has."""
    with pytest.raises(ChronosExportError):
        load_checkpoint(str(edit_weights(mine, {"encoder.block.0.layer.0.layer_norm.weight": None})))
