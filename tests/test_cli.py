"""The command line as a user runs it: what it prints where, how it ends, and that it stops when told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chronos_export.artifact import open_artifact
from chronos_export.openvino_session import has_openvino
from chronos_export.trt_libraries import device_capability
from engines import needs_rtx

CLI = [sys.executable, "-m", "chronos_export.cli"]


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def events(stdout: str) -> list[dict[str, Any]]:
    """Every line of stdout, which must all be strict JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return [json.loads(line, parse_constant=refuse) for line in stdout.splitlines()]


@pytest.fixture(scope="session")
def exported(
    toy: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The toy checkpoint, exported under the default name in a folder of its own: the run, the artifact."""
    folder = tmp_path_factory.mktemp("exported")
    return run("--model", toy, "--batch", "100,2000", cwd=folder), folder / f"{toy.name}-b100-2000"


@pytest.fixture(scope="session")
def artifact(exported: tuple[subprocess.CompletedProcess[str], Path]) -> Path:
    return exported[1]


def test_export(exported: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """Piped: a line a stage on stderr, the result alone on stdout."""
    done, artifact = exported
    assert done.returncode == 0, done.stderr
    cases = open_artifact(artifact).manifest.validation["cases"]
    openvino = "validated" if has_openvino() else "not run"
    how_far = f"(onnxruntime validated, openvino {openvino})"
    assert done.stdout == f"{artifact.name}: {cases} cases forecast as upstream does {how_far}\n"
    if device_capability() is None:
        why = "no engine: this machine has no GPU (--target tensorrt-rtx builds ahead of time)"
        assert [line for line in done.stderr.splitlines() if "no engine" in line] == [why]
        assert open_artifact(artifact).manifest.engines == []
    stages = [line.split()[:2] for line in done.stderr.splitlines() if "%" in line]
    assert stages == [[name, "100%"] for name in ("start", "load", "export", "validate", "tune")]
    assert "\x1b" not in done.stderr
    assert [path.name for path in artifact.parent.iterdir()] == [artifact.name]
    assert open_artifact(artifact).manifest.profiles == [100, 2000]


def test_validate(artifact: Path) -> None:
    done = run("validate", artifact, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    *stages, result = events(done.stdout)
    assert {event["event"] for event in stages} == {"stage"}
    assert {event["stage"] for event in stages} == {"start", "load", "validate"}
    assert all(0 <= (event["fraction"] or 0) <= 1 and event["seconds"] >= 0 for event in stages)
    assert result["event"] == "result"
    assert result["validation"]["passed"] is True
    assert result["validation"]["cases"] == open_artifact(artifact).manifest.validation["cases"]


def test_inspect(artifact: Path) -> None:
    manifest = open_artifact(artifact).manifest
    text = run("inspect", artifact)
    assert (text.returncode, text.stderr) == (0, "")
    for said in (
        manifest.checkpoint["digest"],
        "100, 2000",
        "float32",
        f"torch {manifest.created_by['torch']}",
    ):
        assert said in text.stdout
    for arguments in (("inspect", artifact, "--json"), ("--json", "inspect", artifact)):
        (result,) = events(run(*arguments).stdout)
        assert (result["event"], result["profiles"]) == ("result", [100, 2000])
        assert result["files"]["model.onnx"]["bytes"] == (artifact / "model.onnx").stat().st_size


def test_light_commands_import_nothing_heavy(artifact: Path, toy: Path, tmp_path: Path) -> None:
    program = """
import sys
from chronos_export.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"torch", "transformers", "onnx", "onnxruntime", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    for arguments in (
        ["--help"],
        ["--batch", "abc"],
        ["--nonsense"],
        ["completion", "bash"],
        ["inspect", str(artifact)],
        ["validate", str(tmp_path / "nothing")],
        ["--model", str(toy), "--batch", "100", "--dry-run"],
        ["--batch", "100", "--dry-run"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, (arguments, done.stderr)


def test_help_tells_the_exit_codes() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for code, word in enumerate(("done", "accuracy", "usage", "environment", "build", "integrity")):
        assert f"  {code}    {word}" in done.stdout
    for command in ("validate", "inspect", "doctor", "completion"):
        assert run(command, "--help").returncode == 0
        assert command in done.stdout


def test_dry_run_asks_no_hub_and_leaves_nothing(toy: Path, tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    (local,) = events(run("--model", toy, "--batch", "20,5", "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (local["batch"], local["d_model"], local["from_hub"]) == ([5, 20], 6, False)
    assert local["weights_bytes"] == (toy / "model.safetensors").stat().st_size
    hub = run("--batch", 100, "--dry-run", cwd=tmp_path, **nowhere)
    assert (hub.returncode, hub.stderr) == (0, "")
    assert "chronos-2-b100" in hub.stdout
    assert not list(tmp_path.iterdir())


def test_dry_run_refuses_what_an_export_would(toy: Path, tmp_path: Path, artifact: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert run("--model", tmp_path, "--batch", 1, "--dry-run").returncode == 2
    refused = run("--model", toy, "--batch", 1, "--dry-run", "-o", artifact)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert run("--model", toy, "--batch", 1, "--dry-run", "-o", artifact, "--force").returncode == 0


def test_doctor(tmp_path: Path) -> None:
    done = run("doctor", "--json", cwd=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = events(done.stdout)
    assert found["packages"]["torch"]
    assert "CPUExecutionProvider" in found["providers"]
    assert found["missing"] == []
    assert not list(tmp_path.iterdir())


def test_completion(tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = run("completion", shell)
        assert (done.returncode, done.stderr) == (0, "")
        assert "_CHRONOS_EXPORT_COMPLETE" in done.stdout
    (tmp_path / "script").write_text(run("completion", "bash").stdout)
    subprocess.run(["bash", "-n", tmp_path / "script"], check=True)
    words = {
        "COMP_WORDS": "chronos-export ins",
        "COMP_CWORD": "1",
        "_CHRONOS_EXPORT_COMPLETE": "bash_complete",
    }
    assert run(**words).stdout.split() == ["plain,inspect"]


def test_an_error_as_json() -> None:
    done = run("--json", "--batch", "abc")
    (error,) = events(done.stdout)
    assert (error["event"], error["exit_code"], done.returncode) == ("error", 2, 2)
    assert "abc" in error["summary"]
    assert error["fix"] == "chronos-export --batch 100"
    assert done.stderr.startswith("error: ")


def test_an_unexpected_error_is_one_line() -> None:
    program = """
import sys
from chronos_export import request
from chronos_export.cli import main
request.parse_batch = lambda text: 1 / 0
main(sys.argv[1:])
"""

    def broken(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, "--batch", "100", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    short, long = broken(), broken("--verbose")
    assert (short.returncode, long.returncode) == (4, 4)
    assert short.stderr.splitlines()[0] == "error: ZeroDivisionError: division by zero"
    assert "--verbose" in short.stderr
    assert "Traceback" not in short.stderr
    assert "Traceback" in long.stderr


def test_a_reader_who_leaves(artifact: Path) -> None:
    """`chronos-export inspect ... | head -0` is no error."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*CLI, "inspect", artifact], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("stage", "how", "code"),
    [
        ("start", signal.SIGINT, 130),
        ("validate", signal.SIGINT, 130),
        ("validate", signal.SIGTERM, 143),
        pytest.param("engine", signal.SIGINT, 130, marks=needs_rtx),
    ],
)
def test_stops_promptly_and_leaves_nothing(
    toy: Path, tmp_path: Path, stage: str, how: signal.Signals, code: int
) -> None:
    engine = ("--target", "tensorrt-rtx") if stage == "engine" else ()
    process = subprocess.Popen(
        [*CLI, "--model", toy, "--batch", "100", "--json", "--keep-failed", *engine],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while (event := json.loads(process.stdout.readline()))["event"] != "stage" or event["stage"] != stage:
        assert event["event"] != "error", event
    process.send_signal(how)
    begin = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert '"result"' not in out
    assert not list(tmp_path.iterdir())
    assert time.monotonic() - begin < 15  # seconds on a busy machine; it is about one on an idle one


CHATTER = """
import os, sys
from chronos_export.console import Console
from chronos_export.progress import Event
console = Console(as_json=True, is_verbose="verbose" in sys.argv)
with console.libraries():
    print("python chatter")
    os.write(1, b"native chatter\\n")
    console.report(Event("export", 1.0, 1.0))
console.result({"done": True}, "")
"""


def test_stdout_is_ours_whatever_libraries_print() -> None:
    for flag, chatter in (("", []), ("verbose", ["native chatter", "python chatter"])):
        done = subprocess.run([sys.executable, "-c", CHATTER, flag], capture_output=True, text=True)
        assert [event["event"] for event in events(done.stdout)] == ["stage", "result"]
        assert sorted(done.stderr.splitlines()) == chatter
