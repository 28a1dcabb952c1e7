"""The command line as a user runs it: what it prints where, how it ends, and that it stops when told."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chronos_export.artifact.reading import open_artifact
from chronos_export.cli.lines import proof_lines
from chronos_export.machine.gpu import device_capability
from chronos_export.machine.packages import is_installed
from tests.helpers.checkpoints import edit_config
from tests.helpers.engines import needs_rtx, without_tensorrt
from tests.helpers.hub import COMMIT, serve
from tests.helpers.published import make

STAGES = ["start", "load", "export", "open", "reference", "validate", "tune", "publish", "verify", "total"]
CLI = [sys.executable, "-m", "chronos_export"]


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
    digest = open_artifact(artifact).digest
    openvino = "validated" if is_installed("openvino") else "not run"
    how_far = f"(onnxruntime validated, openvino {openvino})"
    said = f"{cases} cases forecast as upstream does {how_far}"
    assert done.stdout == f"{artifact.name}: {said}\ndigest {digest}\n"
    if device_capability() is None:
        why = "no engine, so --batch had no effect: this machine has no GPU"
        (said,) = [line for line in done.stderr.splitlines() if "no engine" in line]
        assert said == f"{why} (--runtime tensorrt-rtx --batch 100 builds ahead of time)"
        assert open_artifact(artifact).manifest.engines == []
        assert open_artifact(artifact).manifest.profiles == []
    stages = [line.split()[:2] for line in done.stderr.splitlines() if "100%" in line]
    assert stages == [[name, "100%"] for name in STAGES]
    assert "\x1b" not in done.stderr
    assert [path.name for path in artifact.parent.iterdir()] == [artifact.name]


def test_validate(artifact: Path, toy: Path) -> None:
    done = run("validate", artifact, "--model", toy, "--json")
    assert done.returncode == 0
    assert all(" of the series' spread, " in line for line in done.stderr.splitlines()), done.stderr
    *stages, result = events(done.stdout)
    assert {event["event"] for event in stages} == {"stage"}
    assert {event["stage"] for event in stages} == {"total", "start", "load", "open", "reference", "validate"}
    assert all(0 <= (event["fraction"] or 0) <= 1 and event["seconds"] >= 0 for event in stages)
    assert result["event"] == "result"
    assert result["validation"]["passed"] is True
    assert result["validation"]["cases"] == open_artifact(artifact).manifest.validation["cases"]


def test_inspect(artifact: Path, tmp_path: Path) -> None:
    manifest = open_artifact(artifact).manifest
    text = run("inspect", artifact)
    assert (text.returncode, text.stderr) == (0, "")
    for said in (
        manifest.checkpoint.digest,
        f"digest            {open_artifact(artifact).digest}",
        "float32",
        f"torch {manifest.created_by['torch']}",
    ):
        assert said in text.stdout
    for arguments in (("inspect", artifact, "--json"), ("--json", "inspect", artifact)):
        (result,) = events(run(*arguments).stdout)
        assert (result["event"], result["profiles"]) == ("result", [])
        assert result["digest"] == open_artifact(artifact).digest
        assert result["files"]["model.onnx"]["bytes"] == (artifact / "model.onnx").stat().st_size
    assert "profiles" not in text.stdout
    assert re.search("profiles +100, 2000\n", run("inspect", make(tmp_path / "of an engine")).stdout)


def test_light_commands_import_nothing_heavy(artifact: Path, toy: Path, tmp_path: Path) -> None:
    program = """
import sys
from chronos_export.cli.lines import proof_lines
from chronos_export.cli.main import main
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
        ["--model", str(toy), "--dry-run"],
        ["export", "--model", str(toy), "--runtime", "tensorrt-rtx", "--batch", "3", "--dry-run"],
        ["--model", str(toy), "--runtime", "tensorrt"],
        ["--model", str(toy), "-o", "no/such/folder"],
        ["--model", "nobody/nothing"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (arguments, done.stderr)


def test_help_tells_the_exit_codes() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for code, word in enumerate(("done", "accuracy", "usage", "environment", "build", "integrity")):
        assert f"  {code}    {word}" in done.stdout
    for code, word in ((129, "the terminal"), (130, "interrupted"), (143, "terminated")):
        assert f"  {code}  {word}" in done.stdout
    sections = ["Model", "Engine (optional, for NVIDIA GPUs)", "Output", "Options", "Commands"]
    headings = [line[:-1] for line in done.stdout.splitlines() if re.fullmatch(r"\w.*:", line)]
    assert headings == sections
    for option, section in (
        ("--dtype", 0),
        ("--batch", 1),
        ("--attention", 1),
        ("--force", 2),
        ("--json", 3),
    ):
        here = done.stdout.index(f"\n{sections[section]}:"), done.stdout.index(f"\n{sections[section + 1]}:")
        assert here[0] < done.stdout.index(option, done.stdout.index("\nModel:")) < here[1]
    for command in ("export", "validate", "inspect", "doctor", "completion"):
        assert run(command, "--help").returncode == 0
        assert command in done.stdout


def test_dry_run_leaves_nothing(toy: Path, tmp_path: Path) -> None:
    (local,) = events(run("--model", toy, "--batch", "20,5", "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (local["batch"], local["d_model"], local["from_hub"]) == ([5, 20], 6, False)
    assert local["weights_bytes"] == (toy / "model.safetensors").stat().st_size
    assert not list(tmp_path.iterdir())


def test_dry_run_asks_the_hub_and_fetches_no_weights(toy: Path, tmp_path: Path) -> None:
    """Afterwards the cache does not pass for the model."""
    (tmp_path / "here").mkdir()

    def dry(endpoint: str, *options: str) -> subprocess.CompletedProcess[str]:
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache")}
        return run("--model", "me/toy", "--dry-run", *options, cwd=tmp_path / "here", **hub)

    with serve({"me/toy": toy}) as (endpoint, asked):
        found = dry(endpoint, "--json")
        no_such = dry(endpoint, "--revision", "v9")
    *_, shown = events(found.stdout)
    assert (shown["output"], shown["revision"], shown["d_model"]) == ("toy", COMMIT, 6)
    assert shown["weights_bytes"] == (toy / "model.safetensors").stat().st_size
    assert not any("safetensors" in path for path in asked)
    assert (no_such.returncode, "no revision v9" in no_such.stderr) == (2, True)
    unreachable = dry("http://127.0.0.1:9")
    assert (unreachable.returncode, unreachable.stdout) == (3, "")
    assert "the hub could not be asked" in unreachable.stderr
    assert not list((tmp_path / "here").iterdir())


REFUSED = {
    "another model": (2, ["--model", "chronos-bolt"]),
    "no weights folder": (2, ["--model", "nothing"]),
    "no such folder": (2, ["-o", "no/such/folder"]),
    "is there": (2, ["-o", "chronos-bolt"]),
    "a runtime without its package": (3, ["--runtime", "tensorrt", "--batch", "3"]),
    "a compute capability": (2, ["--runtime", "tensorrt-rtx", "--batch", "3", "--compute-capability", "9.0"]),
    "a horizon": (2, ["--runtime", "tensorrt-rtx", "--batch", "3", "--horizon", "9999"]),
    "an engine without row counts": (2, ["--runtime", "tensorrt-rtx"]),
    "an option without effect": (2, ["--runtime", "onnxruntime", "--context", "64"]),
    "tf32": (2, ["--runtime", "onnxruntime", "--dtype", "tf32"]),
    "an unreachable hub": (3, ["--model", "me/toy"]),
}


@needs_rtx
@without_tensorrt
@pytest.mark.parametrize("why", REFUSED)
def test_a_dry_run_refuses_what_an_export_refuses(toy: Path, tmp_path: Path, why: str) -> None:
    """With the same words and the same code, before anything is imported or made."""
    bolt = Path(shutil.copytree(toy, tmp_path / "chronos-bolt"))
    edit_config(bolt, architectures=["ChronosBoltModelForForecasting"])
    code, options = REFUSED[why]
    command = ("--model", toy, *options, "--quiet")
    asked, did = (
        run(*command, *dry, cwd=tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "cache"))
        for dry in (["--dry-run"], ["--verbose"])
    )
    assert asked.returncode == did.returncode == code, (asked.stderr, did.stderr)
    assert asked.stderr.startswith("error: ")
    assert did.stderr.endswith(asked.stderr)
    assert "exporting/export.py" not in did.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"chronos-bolt", "cache"}


def test_an_artifact_is_replaced_only_if_asked(toy: Path, artifact: Path) -> None:
    refused = run("--model", toy, "--dry-run", "-o", artifact)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert run("--model", toy, "--dry-run", "-o", artifact, "--force").returncode == 0


def test_export_is_the_bare_command(toy: Path, tmp_path: Path) -> None:
    options = ("--model", toy, "--dtype", "fp16", "--dry-run", "--json")
    bare, named = run(*options, cwd=tmp_path), run("export", *options, cwd=tmp_path)
    assert (bare.returncode, named.returncode) == (0, 0), named.stderr
    assert {**events(bare.stdout)[0], "disk_free_bytes": 0} == {
        **events(named.stdout)[0],
        "disk_free_bytes": 0,
    }
    assert events(bare.stdout)[0]["dtype"] == "float16"
    wrong = run("--keep-failed", "--model", "demo", "--json", "validate", "here")
    assert wrong.returncode == 2
    assert "--model, --keep-failed stands before validate" in wrong.stderr


def test_plugin_alone_names_its_command() -> None:
    done = run("plugin")
    said = "error: plugin needs a command\n  allowed: build\n  fix: chronos-export plugin build\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_no_arguments_show_the_help() -> None:
    done = run()
    assert (done.returncode, done.stderr, done.stdout) == (0, "", run("--help").stdout)


def test_doctor(tmp_path: Path) -> None:
    done = run("doctor", "--json", cwd=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    *stages, found = events(done.stdout)
    assert {event["stage"] for event in stages} <= {"examine"}  # it is said if it takes long
    assert found["extras"]["pipeline"]["packages"]["torch"]
    assert "CPUExecutionProvider" in found["providers"]
    assert found["problems"] == []
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
from chronos_export.exporting import request
from chronos_export.cli.lines import proof_lines
from chronos_export.cli.main import main
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


@pytest.mark.parametrize(
    ("stage", "how", "code"),
    [
        ("start", signal.SIGINT, 130),
        ("validate", signal.SIGINT, 130),
        ("validate", signal.SIGTERM, 143),
        ("load", signal.SIGHUP, 129),
        ("publish", signal.SIGHUP, 129),
        pytest.param("engine", signal.SIGINT, 130, marks=needs_rtx),
    ],
)
def test_stops_promptly_and_leaves_nothing(
    toy: Path, tmp_path: Path, stage: str, how: signal.Signals, code: int
) -> None:
    engine = ("--runtime", "tensorrt-rtx", "--batch", "100") if stage == "engine" else ()
    process = subprocess.Popen(
        [*CLI, "--model", toy, "--json", "--keep-failed", *engine],
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
    last = events(out)[-1]
    assert (last["event"], last["exit_code"]) == ("error", code)
    assert last["summary"].endswith(": nothing was published") == (stage != "start")
    assert not list(tmp_path.iterdir())
    assert time.monotonic() - begin < 15  # seconds on a busy machine; it is about one on an idle one


CHATTER = """
import os, sys
from chronos_export.cli.console import Console
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


def test_the_proof_says_its_units() -> None:
    row = {"case": "ties", "runner": "openvino", "error": 4.4e-5, "noise": 6.4e-6, "worst_of_limit": 0.684}
    proven = {"worst": [{**row, "problem": ""}], "runtimes": [], "quantile_loss": []}
    assert proof_lines(proven) == [
        "openvino: error 0.000044 of the series' spread, 68% of what is allowed; "
        "rounding alone: 0.0000064 (case ties)"
    ]
