"""Publishing: only what was proven, and nothing left of what was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chronos_export import export, load
from chronos_export.artifact.reading import Artifact, open_artifact
from chronos_export.cli.main import main
from chronos_export.errors import AccuracyError, AccuracyWarning, BuildError, IntegrityError, UsageError
from chronos_export.exporting import export as exporting
from chronos_export.exporting.export import POLYGRAPHY, validate_artifact
from chronos_export.graph import int8
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.wrong_exports import MUTANTS

MUTANT = next(mutant for mutant in MUTANTS if mutant.name == "inverse permutation missing")


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A toy whose limits are near, so that its proof is quick."""
    limits = {"context_length": 128, "max_output_patches": 4}
    return str(make_checkpoint(tmp_path_factory.mktemp("near"), "toy", **limits))


@pytest.mark.parametrize("size", ["toy", "small", "quantiles13", "demo"])
def test_an_export_is_proven_and_whole(size: str, artifact_of: Callable[[str], Artifact]) -> None:
    artifact = artifact_of(size)
    names = {
        path.relative_to(artifact.path).as_posix() for path in artifact.path.rglob("*") if path.is_file()
    }
    assert {"model.onnx", "univariate.onnx", "weights.bin", "manifest.json", "README.md"} <= names
    assert {"validation/inputs.json", "validation/golden.json"} <= names
    assert set(artifact.manifest.files) == names - {"manifest.json"}
    proven = artifact.manifest.validation
    assert proven["passed"] is True
    assert proven["failures"] == []
    assert all(row["worst_of_limit"] <= 1 for row in proven["worst"])
    assert {row["runner"] for row in proven["worst"]} >= {"onnxruntime", "onnxruntime/univariate"}
    assert POLYGRAPHY.format(60) in proven["again"]
    assert POLYGRAPHY.format(60) in (artifact.path / "README.md").read_text()
    assert artifact.manifest.profiles == []  # an engine has them


def test_a_wrong_export_is_not_published(near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANT.plant(monkeypatch)
    with pytest.raises(AccuracyError, match="onnxruntime on unsorted_ids") as error:
        export(near, output=tmp_path / "wrong")
    assert error.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_export_leaves_the_old_one_alone(
    near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "artifact"
    export(near, output=target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    MUTANT.plant(monkeypatch)
    with pytest.raises(AccuracyError):
        export(near, output=target, overwrite=True)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [target]


def test_keep_failed_puts_it_aside(near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANT.plant(monkeypatch)
    with pytest.raises(AccuracyError):
        export(near, output=tmp_path / "wrong", keep_failed=True)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.failed"]
    kept = tmp_path / "wrong.failed"
    assert (kept / "model.onnx").is_file()
    assert (kept / "validation" / "golden.json").is_file()
    with pytest.raises(IntegrityError):  # it has no manifest, so nothing takes it for an artifact
        load(kept)


@pytest.mark.usefixtures("own_signals")
def test_what_failed_is_published_only_with_its_verdict(
    near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    MUTANT.plant(monkeypatch)
    command = ["--model", near, "--batch", "100", "-o", str(tmp_path / "wrong")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--accept-failed-validation"])
    assert ended.value.code == 0
    wrong = open_artifact(tmp_path / "wrong")
    proven = wrong.manifest.validation
    assert capfd.readouterr().out.splitlines()[0] == f"{wrong.path}: {proven['sentence']}"
    assert proven["passed"] is False
    assert f"failed its validation: {len(proven['failures'])} of {proven['results']}" in proven["sentence"]
    assert "onnxruntime failed" in proven["sentence"]
    card = (wrong.path / "README.md").read_text()
    assert f"**Published although it {proven['sentence']}.**" in card
    assert "| onnxruntime | failed |" in card
    for _ in range(2):
        with pytest.warns(AccuracyWarning, match="wrong failed its validation") as warned:
            load(wrong.path)
        assert len(warned) == 1
    with pytest.raises(AccuracyError, match="onnxruntime on unsorted_ids"):
        validate_artifact(wrong.path, source=near)


def test_whose_rounding_costs_too_much_is_published_only_with_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "LEVELS", 7)
    coarse = export("demo", output=tmp_path / "coarse", dtype="int8", accept_failed_validation=True)
    proven = coarse.manifest.validation
    assert proven["passed"] is False
    assert proven["failures"] == []
    assert "failed its validation: the quantile loss of onnxruntime on real series" in proven["sentence"]
    assert proven["sentence"].endswith("(onnxruntime failed)")


def test_what_nothing_here_can_run_is_not_proven(
    near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "cpu_sessions", lambda folder, precision: {})
    with pytest.raises(AccuracyError, match="nothing that was built can be run on this machine") as error:
        export(near, output=tmp_path / "unseen")
    assert "--accept-failed-validation" in error.value.fix
    assert list(tmp_path.iterdir()) == []
    unseen = export(near, output=tmp_path / "unseen", accept_failed_validation=True)
    proven = unseen.manifest.validation
    assert proven["passed"] is False
    assert proven["sentence"] == (
        "was not validated: nothing that was built could be run (onnxruntime not run, openvino not run)"
    )


def test_a_graph_that_cannot_be_built_is_exit_code_4(
    near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chronos_export.graph.writing.ALLOWED_OPERATORS", frozenset({"Add"}))
    with pytest.raises(BuildError, match=r"model\.onnx holds operators") as error:
        export(near, output=tmp_path / "wrong")
    assert error.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced_unasked(near: str, tmp_path: Path) -> None:
    export(near, output=tmp_path / "artifact")
    with pytest.raises(UsageError, match="exists") as error:
        export(near, output=tmp_path / "artifact")
    assert error.value.exit_code == 2
    export(near, output=tmp_path / "artifact", overwrite=True)


def test_an_unknown_dtype_is_refused_before_anything_is_made(near: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown dtype 'int3'"):
        export(near, output=tmp_path / "artifact", dtype="int3")
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_is_proven_again(near: str, tmp_path: Path) -> None:
    export(near, output=tmp_path / "artifact")
    assert validate_artifact(tmp_path / "artifact", source=near).passed


def test_an_artifact_of_another_checkpoint_is_not_proven(tmp_path: Path) -> None:
    limits = {"context_length": 128, "max_output_patches": 4}
    source = make_checkpoint(tmp_path / "source", "toy", **limits)
    export(str(source), output=tmp_path / "artifact")
    make_checkpoint(source, "toy", seed=1, **limits)
    with pytest.raises(IntegrityError, match="the artifact was made from") as error:
        validate_artifact(tmp_path / "artifact")
    assert error.value.exit_code == 5


@pytest.mark.slow
def test_the_full_size_passes_every_case(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "full", "full")
    artifact = export(str(source), output=tmp_path / "artifact")
    assert artifact.manifest.validation["passed"] is True
