"""What each extra adds, and what is said where it is missing."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from chronos_export.artifact.reading import Artifact
from chronos_export.errors import MachineError
from chronos_export.machine import packages
from chronos_export.machine.packages import (
    MissingPackageError,
    extra,
    install_command,
    is_installed,
    require,
    runtime_extra,
)
from tests.helpers.environments import COMMAND_LINE, closure, run_with

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIMES = ("cpu", "cuda", "openvino", "tensorrt", "rtx")

ArtifactOf = Callable[[str], Artifact]


def test_the_installed_metadata_is_that_of_pyproject() -> None:
    """If not: pip install --no-deps --editable ."""
    wings = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    for name, lines in wings.items():
        wanted = [Requirement(line) for line in lines if not line.startswith("chronos-export[")]
        assert {requirement.name for requirement in wanted} <= set(extra(name))
        for requirement in wanted:
            here = Requirement(requirement.name + packages._bound(requirement.name))
            assert here.specifier == requirement.specifier


def test_every_runtime_is_one_extra_of_one_package() -> None:
    assert [len(extra(name)) for name in RUNTIMES] == [1] * len(RUNTIMES)
    everything_else = {package for name in ("", "pipeline", "export", "dev") for package in closure((name,))}
    assert everything_else & {"onnxruntime", "onnxruntime-gpu", "openvino"} == set()
    assert runtime_extra("onnxruntime", "cuda") == "cuda"
    assert {runtime_extra(name) for name in ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")} == set(
        RUNTIMES
    ) - {"cuda"}


def test_the_base_install_is_small() -> None:
    assert closure(()) == {"chronos-export", "click", "filelock", "narwhals", "numpy", "psutil"}


def test_a_missing_package_is_an_import_error_with_the_command() -> None:
    with pytest.raises(ImportError) as caught:
        require("a flight", ["numpy", "no-such-package", "another-one"])
    assert isinstance(caught.value, MachineError)
    assert str(caught.value).splitlines() == [
        "a flight needs no-such-package, another-one, which are not installed",
        "  fix: pip install no-such-package another-one",
    ]


def test_a_package_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO 2026.2 ends the process on the first call of our graph."""
    installed = {"openvino": "2026.2.1", "torch": "2.13.0+cpu", "numpy": "10.0.0rc1"}
    monkeypatch.setattr(packages, "version", lambda package: installed[package])
    with pytest.raises(MissingPackageError) as caught:
        require("the runtime openvino", ["torch", "openvino", "numpy"])
    wanted = "openvino>=2026.3 (here is 2026.2.1), which is not installed"
    assert caught.value.summary == f"the runtime openvino needs {wanted}"
    assert caught.value.fix == "pip install 'openvino>=2026.3'"
    assert not is_installed("openvino")


def test_an_error_inside_a_library_is_told() -> None:
    """Python takes an AttributeError for "there is no such name"; an old ml_dtypes makes onnx raise one."""
    code = "import ml_dtypes\ndel ml_dtypes.float4_e2m1fn\nfrom chronos_export import export"
    said = run_with(("cpu", "export"), code=code).stderr
    assert "ImportError: export cannot be imported: module 'ml_dtypes' has no attribute" in said


def test_commands_name_packages_with_their_bounds_and_quote_them() -> None:
    assert install_command(["tensorrt-cu13"]) == "pip install 'tensorrt-cu13>=10.13'"


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("no-such-package")


def test_the_base_install_answers_about_artifacts(artifact_of: ArtifactOf) -> None:
    path = artifact_of("toy").path
    for arguments in (["inspect", path], ["doctor"], ["--help"], ["--version"], ["completion", "bash"]):
        done = run_with((), *arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments


@pytest.mark.parametrize(
    ("extras", "arguments"),
    [
        ((), ("--model", "demo", "--batch", "100")),
        ((), ("--model", "demo", "--batch", "100", "--dry-run")),
        (("cpu", "pipeline"), ("--model", "demo", "--batch", "100")),
        (("pipeline", "export"), ("--model", "demo", "--batch", "100")),
        (("cpu",), ("bench",)),
        (("cpu",), ("serve", "ARTIFACT")),
        ((), ("validate", "ARTIFACT")),
    ],
)
def test_a_command_says_what_is_missing(
    extras: tuple[str, ...], arguments: tuple[str, ...], artifact_of: ArtifactOf, tmp_path: Path
) -> None:
    path = artifact_of("toy").path
    given = [path if argument == "ARTIFACT" else argument for argument in arguments]
    code = f"import os; os.chdir({str(tmp_path)!r})\n" + COMMAND_LINE
    done = run_with(extras, *given, code=code)
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    said = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert said[0].endswith("not installed")
    assert "pip install " in said[1]
    assert len(said) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("extras", "name", "missing"),
    [
        ((), "load", ["chronos-forecasting", "torch", "transformers"]),
        (("cpu",), "accelerate", ["chronos-forecasting", "torch", "transformers"]),
        (("cpu", "pipeline"), "export", ["onnx", "polygraphy", "statsmodels"]),
    ],
)
def test_a_function_says_what_is_missing(extras: tuple[str, ...], name: str, missing: list[str]) -> None:
    code = (
        "from chronos_export.errors import ChronosExportError\n"
        f"try:\n    from chronos_export import {name}\n"
        "except ImportError as error:\n"
        "    assert isinstance(error, ChronosExportError)\n"
        "    print(error.exit_code, error, sep='\\n')\n"
    )
    done = run_with(extras, code=code)
    code_line, summary, fix = done.stdout.splitlines()
    assert (code_line, done.stderr) == ("3", "")
    assert summary.endswith("not installed")
    assert "  fix: " in fix
    assert [package for package in missing if package not in summary or package not in fix] == []


LOAD = """
import numpy as np
from chronos_export import load
pipeline = load(sys.argv[1], **json.loads(sys.argv[2]))
print(pipeline, tuple(pipeline.predict([np.arange(50.0)], prediction_length=3)[0].shape))
"""


@pytest.mark.parametrize(
    ("runtime_name", "said"), [("cpu", "onnxruntime on cpu"), ("openvino", "openvino on cpu")]
)
def test_one_runtime_is_enough_to_load(runtime_name: str, said: str, artifact_of: ArtifactOf) -> None:
    done = run_with(("pipeline", runtime_name), artifact_of("toy").path, "{}", code=LOAD)
    assert done.returncode == 0, done.stderr
    assert f"{said}> (1, 21, 3)" in done.stdout


@pytest.mark.parametrize(
    ("asked", "package"),
    [("{}", "onnxruntime>="), ('{"runtime": "openvino"}', "openvino>=")],
)
def test_load_without_a_runtime_names_it(asked: str, package: str, artifact_of: ArtifactOf) -> None:
    done = run_with(("pipeline",), artifact_of("toy").path, asked, code=LOAD)
    assert "MissingPackageError: the runtime " in done.stderr
    assert f"pip install '{package}" in done.stderr


@pytest.mark.parametrize("arguments", [("--model", "demo", "--batch", "100"), ("validate", "ARTIFACT")])
def test_without_docstrings_a_command_says_so(arguments: tuple[str, ...], artifact_of: ArtifactOf) -> None:
    path = artifact_of("toy").path
    given = [path if argument == "ARTIFACT" else argument for argument in arguments]
    done = run_with(("cpu", "export"), *given, options=("-OO", "-B"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "Python's option -OO has dropped them" in done.stderr
    assert "fix: leave -OO out, or unset PYTHONOPTIMIZE" in done.stderr


def test_without_docstrings_load_says_so_and_inspect_works(artifact_of: ArtifactOf) -> None:
    everything, options = ("cpu", "export"), ("-OO", "-B")
    assert "-OO" in run_with(everything, code="from chronos_export import load", options=options).stderr
    assert run_with(everything, "inspect", artifact_of("toy").path, options=options).returncode == 0
