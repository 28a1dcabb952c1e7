"""Loading: what is asked for is what is read, every weight of it, and nothing else is opened."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from chronos import Chronos2Pipeline
from safetensors.torch import load_file, save_file

from checkpoints import edit_config, edit_weights, make_adapter, make_checkpoint, make_model
from chronos_export.checkpoint import load_checkpoint, load_reference
from chronos_export.errors import ChronosExportError, IntegrityError, UsageError
from chronos_export.quiet import quiet
from hub import COMMIT, serve

CALL = """
import sys
from chronos_export.errors import ChronosExportError
from chronos_export.{module} import {function}
try:
    found = {function}(*sys.argv[1:])
    print({shown})
except ChronosExportError as error:
    print(error)
    sys.exit(error.exit_code)
"""
LOAD = CALL.format(
    module="checkpoint", function="load_checkpoint", shown="found.revision, found.digest, found.licence"
)
LOCATE = CALL.format(module="source", function="locate", shown="found.revision")


@pytest.fixture
def mine(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy checkpoint, free to be spoiled."""
    return Path(shutil.copytree(toy, tmp_path / "mine"))


def refusal(source: Path | str, revision: str | None = None) -> ChronosExportError:
    with pytest.raises(ChronosExportError) as caught:
        load_checkpoint(str(source), revision)
    return caught.value


def forecast(pipeline: Chronos2Pipeline) -> torch.Tensor:
    context = torch.randn(4, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return pipeline.model(context=context, group_ids=torch.tensor([0, 0, 1, 1])).quantile_preds


@pytest.mark.parametrize("size", ["toy", "small", "quantiles13"])
def test_loads_what_was_saved(size: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(make_checkpoint(tmp_path, size)))
    saved = make_model(size)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(checkpoint.pipeline.model.state_dict()[name], tensor), name
    assert not checkpoint.pipeline.model.training
    assert checkpoint.config["d_model"] == saved.config.d_model
    assert checkpoint.config["chronos_config"]["quantiles"] == saved.config.chronos_config["quantiles"]
    assert json.loads(json.dumps(checkpoint.config)) == checkpoint.config
    assert (checkpoint.revision, checkpoint.licence) == (None, "unknown")


def test_half_precision_weights_are_loaded_as_float32(mine: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in load_file(mine / "model.safetensors").items()}
    edit_config(edit_weights(mine, half), dtype="bfloat16")
    model = load_checkpoint(str(mine)).pipeline.model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.shared.weight, half["shared.weight"].float())


def test_reference_shares_nothing(toy: Path) -> None:
    checkpoint = load_checkpoint(str(toy))
    before = forecast(checkpoint.pipeline)
    reference = load_reference(checkpoint)
    with torch.no_grad():
        for parameter in checkpoint.pipeline.model.parameters():
            parameter.zero_()
    assert torch.equal(forecast(reference), before)


def test_reference_notices_a_change(mine: Path) -> None:
    checkpoint = load_checkpoint(str(mine))
    edit_weights(mine, {"shared.weight": torch.zeros(2, 6)})
    with pytest.raises(IntegrityError, match="has changed"):
        load_reference(checkpoint)


def test_digest_is_of_the_model_not_of_its_files(mine: Path, tmp_path: Path) -> None:
    digest = load_checkpoint(str(mine)).digest
    tensors = load_file(mine / "model.safetensors")
    names = sorted(tensors, reverse=True)
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    for shard, chosen in {"a.safetensors": names[::2], "b.safetensors": names[1::2]}.items():
        save_file({name: tensors[name] for name in chosen}, sharded / shard, metadata={"format": "pt"})
    weight_map = {name: f"{'ab'[i % 2]}.safetensors" for i, name in enumerate(names)}
    (sharded / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    config = json.loads((mine / "config.json").read_text()) | {"transformers_version": "9.9"}
    (sharded / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert load_checkpoint(str(sharded)).digest == digest


def test_digest_changes_with_any_weight_or_constant(mine: Path) -> None:
    digests = {load_checkpoint(str(mine)).digest}
    tensors = load_file(mine / "model.safetensors")
    for name, tensor in tensors.items():
        changed = tensor.clone()
        changed.view(-1)[-1] += 1e-3
        digests.add(load_checkpoint(str(edit_weights(mine, {name: changed}))).digest)
        edit_weights(mine, {name: tensor})
    digests.add(load_checkpoint(str(edit_config(mine, rope_theta=500.0))).digest)
    assert len(digests) == len(tensors) + 2


def test_adapter_is_merged_as_upstream_merges_it(adapter: Path, toy: Path) -> None:
    checkpoint = load_checkpoint(str(adapter))
    with quiet():
        upstream = Chronos2Pipeline.from_pretrained(adapter)
    assert type(checkpoint.pipeline.model) is type(upstream.model)
    assert torch.equal(forecast(checkpoint.pipeline), forecast(upstream))
    assert torch.equal(forecast(load_reference(checkpoint)), forecast(upstream))
    assert not torch.allclose(forecast(upstream), forecast(load_checkpoint(str(toy)).pipeline), atol=1e-2)


def test_adapter_beside_its_base(tmp_path: Path) -> None:
    """A base folder named relative to the adapter is found from any working directory."""
    base = make_checkpoint(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base)
    digest = load_checkpoint(str(adapter)).digest
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(base), "../base"))
    assert load_checkpoint(str(adapter)).digest == digest


def test_adapter_weights_are_accounted_for(tmp_path: Path, toy: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", toy)
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    first = sorted(tensors)[0]
    for spoiled, complaint in {
        "missing": {n: t for n, t in tensors.items() if n != first},
        "unknown": {**tensors, "base_model.model.nonsense": torch.zeros(1)},
        "not finite": {**tensors, first: torch.full_like(tensors[first], torch.nan)},
    }.items():
        save_file(complaint, file, metadata={"format": "pt"})
        error = refusal(adapter)
        assert isinstance(error, IntegrityError), spoiled
        assert ("nonsense" if spoiled == "unknown" else first) in error.summary


def test_an_adapter_of_another_kind_is_refused(mine: Path) -> None:
    (mine / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    assert "IA3" in refusal(mine).summary


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# Model\nlicense: mit\n", "apache-2.0"),
        ("# Mine", "unknown"),
    ],
)
def test_licence_is_the_cards(mine: Path, card: str, licence: str) -> None:
    (mine / "README.md").write_text(card)
    assert load_checkpoint(str(mine)).licence == licence


def test_licence_file(mine: Path) -> None:
    (mine / "LICENSE").write_text("                 Apache License\n          Version 2.0, January 2004\n")
    assert load_checkpoint(str(mine)).licence == "apache-2.0"


class Bomb:
    """Whoever unpickles this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickle_is_refused_and_never_opened(mine: Path, tmp_path: Path, name: str) -> None:
    (mine / "model.safetensors").unlink()
    (mine / name).write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    error = refusal(mine)
    assert isinstance(error, UsageError)
    assert name in error.summary
    assert "safetensors" in error.allowed
    assert not (tmp_path / "opened").exists()


def test_pickle_beside_safetensors_is_left_alone(mine: Path, tmp_path: Path) -> None:
    (mine / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    load_checkpoint(str(mine))
    assert not (tmp_path / "opened").exists()


def test_folder_without_config(mine: Path) -> None:
    (mine / "config.json").unlink()
    error = refusal(mine)
    assert isinstance(error, UsageError)
    assert "config.json" in error.summary


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["ChronosBoltModelForForecasting"]}, "Chronos-Bolt"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "first Chronos"),
        ({"architectures": ["T5ForConditionalGeneration"], "chronos_config": None}, "T5ForConditional"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "chronos_config": None}, "llama"),
        ({"architectures": None, "chronos_config": None}, "no stated kind"),
    ],
)
def test_another_model_is_named(mine: Path, changes: dict[str, object], said: str) -> None:
    error = refusal(edit_config(mine, **changes))
    assert isinstance(error, UsageError)
    assert said in error.summary
    assert "not Chronos-2" in error.summary


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"architectures": ["Chronos2Model"], "chronos_config": {}}']
)
def test_spoiled_config(mine: Path, text: str) -> None:
    (mine / "config.json").write_text(text)
    assert isinstance(refusal(mine), IntegrityError)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"encoder.block.1.layer.1.self_attention.o.weight": None}, "layer.1.self_attention.o.weight"),
        ({"encoder.block.7.layer.0.self_attention.q.weight": torch.zeros(16, 6)}, "block.7"),
        ({"shared.weight": torch.zeros(2, 7)}, "shared.weight"),
        ({"encoder.final_layer_norm.weight": torch.full((6,), torch.nan)}, "final_layer_norm"),
        ({"encoder.final_layer_norm.weight": torch.full((6,), -torch.inf)}, "final_layer_norm"),
    ],
    ids=["missing", "unknown", "mis-shaped", "NaN", "infinite"],
)
def test_every_weight_is_accounted_for(mine: Path, changes: dict[str, torch.Tensor], named: str) -> None:
    error = refusal(edit_weights(mine, changes))
    assert isinstance(error, IntegrityError)
    assert named in error.summary


def test_a_weight_in_two_shards(mine: Path) -> None:
    tensors = load_file(mine / "model.safetensors")
    (mine / "model.safetensors").unlink()
    for shard in ("a.safetensors", "b.safetensors"):
        save_file(tensors, mine / shard, metadata={"format": "pt"})
    weight_map = {name: f"{'ab'[i % 2]}.safetensors" for i, name in enumerate(tensors)}
    (mine / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert "again in b.safetensors" in refusal(mine).summary


@pytest.mark.parametrize("shard", ["gone.safetensors", "../toy/model.safetensors", "/etc/passwd", 7])
def test_index_names_only_files_beside_it(mine: Path, shard: object) -> None:
    (mine / "model.safetensors").unlink()
    (mine / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"shared.weight": shard}}))
    error = refusal(mine)
    assert isinstance(error, IntegrityError)
    assert repr(shard) in error.summary


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_weights(mine: Path, kept: int) -> None:
    file = mine / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    error = refusal(mine)
    assert isinstance(error, IntegrityError)
    assert "truncated" in error.summary


def test_git_lfs_pointer(mine: Path) -> None:
    (mine / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    error = refusal(mine)
    assert "LFS" in error.summary
    assert "lfs pull" in error.fix


@pytest.mark.parametrize("source", ["no-such-folder", "./a/b", "/nowhere/at/all", "", "a/b/c", "demo2"])
def test_unknown_names_cost_no_network(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    error = refusal(source)
    assert isinstance(error, UsageError)
    assert "--model demo" in error.fix


def test_a_file_is_not_a_checkpoint(mine: Path) -> None:
    assert "is a file" in refusal(mine / "model.safetensors").summary


def test_a_folder_has_no_revision(mine: Path) -> None:
    assert "revision" in refusal(mine, "v1").summary


def run_apart(
    program: str, endpoint: str, cache: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run in a fresh process whose hub is `endpoint` and whose cache is `cache`."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_hub_model(toy: Path, tmp_path: Path) -> None:
    """Pinned by commit, tag or branch; no pickle is fetched; later runs need no hub."""
    model = Path(shutil.copytree(toy, tmp_path / "model"))
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (model / "pytorch_model.bin").write_bytes(b"never fetched")
    cache = tmp_path / "cache"
    with serve({"me/toy": model}) as (endpoint, asked):
        loaded = run_apart(LOAD, endpoint, cache, "me/toy")
        pinned = [run_apart(LOCATE, endpoint, cache, "me/toy", revision) for revision in ("v1", COMMIT)]
        unknown = run_apart(LOCATE, endpoint, cache, "me/other")
        unpinned = run_apart(LOCATE, endpoint, cache, "me/toy", "v2")
    offline = run_apart(LOCATE, endpoint, cache, "me/toy")
    forced = run_apart(LOCATE, "http://hub.invalid", cache, "me/toy", COMMIT, HF_HUB_OFFLINE="1")

    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert loaded.stdout.split() == [COMMIT, load_checkpoint(str(toy)).digest, "apache-2.0"]
    assert not any("pytorch_model" in path for path in asked)
    for done in (*pinned, offline, forced):
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, COMMIT, "")
    for done, said in ((unknown, "me/other"), (unpinned, "no revision v2")):
        assert (done.returncode, done.stderr) == (2, "")
        assert said in done.stdout
    assert "--model demo" in unknown.stdout


def test_adapter_of_a_hub_model(toy: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", toy)
    digest = load_checkpoint(str(adapter)).digest
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(toy), "me/toy"))
    with serve({"me/toy": toy}) as (endpoint, _):
        done = run_apart(LOAD, endpoint, tmp_path / "cache", str(adapter))
    assert (done.returncode, done.stdout.split()[1:2], done.stderr) == (0, [digest], "")


def test_a_download_is_reported(toy: Path, tmp_path: Path) -> None:
    program = """
import sys
from chronos_export.source import locate
locate(*sys.argv[1:], report=lambda event: print(event.stage, event.fraction, event.message))
"""
    with serve({"me/toy": toy}) as (endpoint, _):
        done = run_apart(program, endpoint, tmp_path / "cache", "me/toy")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert (lines[0].split(), lines[-1].split()) == (["fetch", "None"], ["fetch", "1.0"])
    assert any("MB from the hub" in line for line in lines)


def test_hub_out_of_reach(tmp_path: Path) -> None:
    """Refused, silent (it takes the connection and never answers) and unheard of: seconds, not minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for endpoint in (
            "http://127.0.0.1:9",
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            "http://hub.invalid",
        ):
            begin = time.monotonic()
            done = run_apart(LOCATE, endpoint, tmp_path, "amazon/chronos-2")
            assert (done.returncode, done.stderr) == (3, ""), endpoint
            assert "--model demo" in done.stdout
            assert time.monotonic() - begin < 20  # 8 s of waiting for the hub, the rest for a busy machine
