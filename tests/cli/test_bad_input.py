"""What can be wrong with what is asked for or found: one readable message, its exit code, nothing touched."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from chronos_export.cli.main import main
from tests.helpers.checkpoints import edit_config, edit_weights
from tests.helpers.hub import serve
from tests.helpers.published import edit_manifest, make


@pytest.fixture(autouse=True)
def in_an_empty_folder(own_signals: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths end here."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


Refuse = Callable[..., str]


@pytest.fixture
def refuse(capfd: pytest.CaptureFixture[str]) -> Refuse:
    """Run the command line; it must end with `code`, one message and no trace. Returns the message."""

    def run(code: int, *arguments: object) -> str:
        before = tree(Path.cwd())
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments), "--quiet"])
        out, err = capfd.readouterr()
        assert (caught.value.code, out) == (code, ""), err
        check_message(err)
        assert tree(Path.cwd()) == before
        return err

    return run


def check_message(err: str) -> None:
    assert err.startswith("error: ")
    assert err.count("error:") == 1
    assert "Traceback" not in err
    assert "  fix: " in err or "  allowed: " in err


def tree(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(file): file.read_bytes() if file.is_file() else b"" for file in folder.rglob("*")}


def without_config(folder: Path) -> Path:
    (folder / "config.json").unlink()
    return folder


def pickled(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps([1]))
    weights.unlink()
    return folder


def truncated(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def with_nan(folder: Path) -> Path:
    return edit_weights(folder, {"shared.weight": torch.full((2, 6), torch.nan)})


def with_another_activation(folder: Path) -> Path:
    return edit_config(folder, dense_act_fn="gelu_new")


def another_model(folder: Path) -> Path:
    return edit_config(folder, architectures=["LlamaForCausalLM"], model_type="llama", chronos_config=None)


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (without_config, 2, "config.json"),
        (pickled, 2, "pytorch_model.bin"),
        (truncated, 5, "truncated"),
        (with_nan, 5, "shared.weight"),
        (with_another_activation, 2, "activation 'gelu_new', which cannot be exported"),
        (another_model, 2, "LlamaForCausalLM (llama), not Chronos-2"),
    ],
)
def test_checkpoint(mine: Path, refuse: Refuse, spoil: Callable[[Path], Path], code: int, said: str) -> None:
    assert said in refuse(code, "--model", spoil(mine))


def test_unknown_model(refuse: Refuse, toy: Path, tmp_path: Path) -> None:
    assert "--model demo" in refuse(2, "--model", "no-such-folder")
    with serve({"me/toy": toy}) as (endpoint, _):
        assert "me/other" in on_a_hub(2, endpoint, tmp_path, "me/other")
    assert "--model demo" in on_a_hub(3, "http://127.0.0.1:9", tmp_path, "amazon/chronos-2")


def on_a_hub(code: int, endpoint: str, tmp_path: Path, model: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "chronos_export", "--model", model, "--quiet"],
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    check_message(done.stderr)
    assert not list(Path.cwd().iterdir())
    return done.stderr


@pytest.mark.parametrize("batch", ["0", "abc", "100,100", "-5", ""])
def test_batch(refuse: Refuse, batch: str) -> None:
    assert "100,2000" in refuse(2, "--model", "demo", f"--batch={batch}")


def test_unknown_options(refuse: Refuse) -> None:
    assert "--bach" in refuse(2, "--bach", 100)
    assert "nonsense" in refuse(2, "nonsense")
    assert "ARTIFACT" in refuse(2, "validate")
    assert "fix: chronos-export validate --help" in refuse(2, "validate")


def test_a_group_without_its_command(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plugin"])
    said = "error: plugin needs a command\n  allowed: build\n  fix: chronos-export plugin build\n"
    assert (ended.value.code, *capfd.readouterr()) == (2, "", said)


def test_output(refuse: Refuse, toy: Path) -> None:
    artifact = make(Path.cwd() / "artifact")
    work = Path.cwd() / "thesis"
    work.mkdir()
    (work / "thesis.tex").write_text("years of work")
    ask = ("--model", toy, "-o")
    assert "--force" in refuse(2, *ask, artifact)
    assert "not an artifact" in refuse(2, *ask, work, "--force")
    assert "is a file" in refuse(2, *ask, work / "thesis.tex")
    assert "mkdir" in refuse(2, *ask, "no/such/folder")


def test_output_not_writable(refuse: Refuse, toy: Path) -> None:
    """As a user who may not write there, since root may write anywhere."""
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        copy = shutil.copytree(toy, Path(folder).parent / f"{Path(folder).name}-toy")
        try:
            os.chdir("/")
            for path in (copy, *copy.iterdir()):
                path.chmod(0o755)
            if me == 0:
                os.seteuid(65534)
            with pytest.raises(SystemExit) as caught:
                main(["--model", str(copy), "-o", f"{folder}/artifact", "--quiet"])
        finally:
            if me == 0:
                os.seteuid(0)
            shutil.rmtree(copy)
        assert caught.value.code == 3
        assert not list(Path(folder).iterdir())
        Path(folder).chmod(0o755)


def test_disk_full(toy: Path, tmp_path: Path) -> None:
    """A real export onto a disk of 64 kB, in a namespace of our own where that is allowed."""
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path / 'here'}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk; test_publish_disk covers the handling")
    inside = f'{mount} && cd {tmp_path}/here && "$@"; status=$?; ls -A {tmp_path}/here; exit $status'
    export = [sys.executable, "-m", "chronos_export", "--model", str(toy), "--quiet"]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, "sh", *export], capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    check_message(done.stderr)
    assert "full" in done.stderr


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("command", ["validate", "inspect"])
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
@pytest.mark.parametrize("spoil", [flip, halve, Path.unlink])
def test_damaged_artifact(refuse: Refuse, command: str, name: str, spoil: Callable[[Path], None]) -> None:
    artifact = make(Path.cwd() / "artifact")
    spoil(artifact / name)
    assert name in refuse(5, command, artifact)


def test_artifact_of_a_newer_schema(refuse: Refuse) -> None:
    artifact = make(Path.cwd() / "artifact")
    content = json.loads((artifact / "manifest.json").read_text()) | {"schema_version": 99}
    (artifact / "manifest.json").write_text(json.dumps(content))
    for command in ("validate", "inspect"):
        assert "the chronos-export that wrote it" in refuse(5, command, artifact)


def test_no_artifact(refuse: Refuse) -> None:
    assert "no folder" in refuse(2, "validate", "nowhere")
    assert "--model demo" not in refuse(2, "validate", "nowhere")
    assert "manifest.json" in refuse(5, "inspect", ".")


def test_a_checkpoint_that_is_no_longer_the_one(refuse: Refuse, mine: Path) -> None:
    """`validate` compares with the checkpoint the artifact was made from, and with no other."""
    artifact = make(mine.parent / "artifact")
    edit_manifest(artifact, lambda content: content["checkpoint"].update(source=f"./{mine.name}"))
    assert "digest" in refuse(5, "validate", artifact)
