"""A manifest forged by whoever owns the folder, its own hash right: it is read, or refused by its key."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from chronos_export.artifact.card import write_card
from chronos_export.artifact.manifest import NAME, CallSize, read_manifest
from chronos_export.artifact.reading import open_artifact
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.cli.main import cli
from chronos_export.errors import BuildError, ChronosExportError, IntegrityError
from chronos_export.runtime.batching import Limits
from tests.helpers.published import MANIFEST, edit_manifest, make
from tests.helpers.spoiling import spoil

ENGINE = {
    "path": "model.onnx",
    "graph": "model.onnx",
    "runtime": "tensorrt-rtx",
    "attention": "plugin",
    "tensorrt_version": "1.7.1",
    "compute_capabilities": ["8.6"],
    "driver": None,
    "plugin_sha256": "0" * 64,
    "profiles": [{"rows": 100, "context": 512, "scratch_bytes": None}],
    "horizon": 64,
    "memory": 2**33,
    "plugin_layers": 2,
    "bytes": 1000,
    "build_seconds": 1.5,
    "peak_rss_bytes": 1000,
}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return edit_manifest(make(tmp_path / "artifact"), lambda content: content.update(engines=[ENGINE]))


def use(artifact: Path) -> None:
    """What is done with a manifest before any file of an artifact is."""
    opened = open_artifact(artifact)
    rebuild_command(artifact, opened.manifest, "tensorrt")
    write_card(artifact.parent, opened.manifest)
    Limits(**asdict(opened.manifest.call_size))
    done = CliRunner().invoke(cli, ["inspect", str(artifact)])
    assert done.exception is None or isinstance(done.exception, SystemExit | ChronosExportError), (
        done.exception
    )


def test_mutated_manifests(artifact: Path) -> None:
    text, random, refused = (artifact / NAME).read_text(), np.random.default_rng(0), 0
    for _ in range(600):
        (artifact / NAME).write_text(text)
        edit_manifest(artifact, lambda content: spoil(content, random))
        try:
            use(artifact)
        except IntegrityError as error:
            refused += 1
            assert NAME in error.summary or "that were published" in error.summary  # another size of a file
            assert str(error).replace("\n", "").isprintable()
            assert "artifact\n  " not in error.summary
    assert refused > 300


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config.chronos_config.quantiles[1]", float("nan")),
        ("config.chronos_config.quantiles", [0.9, 0.1]),
        ("config.chronos_config.context_length", 0),
        ("config.chronos_config.context_length", 10**9),
        ("config.chronos_config", {}),
        ("config.d_kv", 63),
        ("call_size.tokens", 0),
        ("call_size.padding", -1),
        ("profiles[0]", 0),
        ("profiles[0]", True),
        ("dtype", "float8"),
        ("dtype", ["float32"]),
        ("checkpoint.source", "./../../secret"),
        ("checkpoint.source", "a b; touch c"),
        ("checkpoint.source", "/etc"),
        ("checkpoint.revision", "--upload-pack=touch"),
        ("checkpoint.digest", "d" * 63),
        ("engines[0].path", "../engine.plan"),
        ("engines[0].compute_capabilities[0]", "8.6; touch x"),
        ("engines[0].tensorrt_version", "1; touch x"),
        ("engines[0].profiles", []),
        ("engines[0].profiles[0].rows", 0),
        ("engines[0].graph", "../model.onnx"),
        ("created_by.torch", "2.13'; touch x; '"),
        ("files", []),
    ],
)
def test_the_key_is_named(artifact: Path, key: str, value: Any) -> None:
    def put(content: dict[str, Any]) -> None:
        *path, last = [
            int(part) if part.isdigit() else part
            for part in key.replace("]", "").replace("[", ".").split(".")
        ]
        for part in path:
            content = content[part]
        content[last] = value

    edit_manifest(artifact, put)
    with pytest.raises(IntegrityError) as error:
        open_artifact(artifact)
    assert f": {key}" in error.value.summary
    assert error.value.allowed


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 5000, "{" * 9, '{"a": ' + "9" * 10**6 + "}", "\xff", "{}" * 9]
)
def test_json_that_eats_the_reader(artifact: Path, text: str) -> None:
    (artifact / NAME).write_text(text)
    begin = time.process_time()
    with pytest.raises(IntegrityError, match=NAME.replace(".", r"\.")):
        open_artifact(artifact)
    assert time.process_time() - begin < 2


def test_a_manifest_of_any_size_is_not_read(artifact: Path) -> None:
    with (artifact / NAME).open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(IntegrityError, match="more than"):
        open_artifact(artifact)


def test_what_no_reader_would_take_is_not_published(tmp_path: Path) -> None:
    for changes in ({"dtype": "float8"}, {"profiles": [0]}, {"engines": [{**ENGINE, "path": "/etc/passwd"}]}):
        with pytest.raises(BuildError, match=next(iter(changes))):
            replace(MANIFEST, **changes).write(tmp_path)
        assert not (tmp_path / NAME).exists()


def test_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    replace(MANIFEST, validation={"limit": float("inf"), "rows": [float("nan"), 1.0]}).write(tmp_path)
    assert read_manifest(tmp_path).validation == {"limit": None, "rows": [None, 1.0]}
    json.loads((tmp_path / NAME).read_text(), parse_constant=lambda name: pytest.fail(name))


def test_defaults_are_those_of_the_batching() -> None:
    assert asdict(Limits()).items() >= asdict(CallSize()).items()
