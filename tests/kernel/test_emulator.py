"""The kernels' unmodified source on the host emulator, against float64."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import build
from tests.helpers import kernel_mutants as mutants

QUICK = (
    "arguments",
    "edges-16",
    "edges-64",
    "ragged",
    "singles",
    "dead",
    "poisoned",
    "huge",
    "fused",
    "head-dim-40",
    "any-segments",
    "each-its-layout",
)


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("emulator") / "check"
    build.build_check(program)
    return program


def test_quick_cases_stay_inside_their_bounds(check: Path) -> None:
    done = subprocess.run([check, *QUICK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert int(done.stdout.split()[-3]) > 30


def test_a_name_that_is_no_case_is_no_pass(check: Path) -> None:
    assert subprocess.run([check, "no-such-case"], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("mma: no barrier after a tile has landed", "race: a chunk is read before it is there"),
        ("segment begin one too late", "case"),
    ],
)
def test_a_planted_bug_is_noticed(name: str, sign: str) -> None:
    (mutant,) = [m for m in mutants.MUTANTS if m.name == name]
    assert mutants.kill(mutant).startswith(sign)


def test_every_planted_bug_still_has_its_place() -> None:
    for mutant in mutants.MUTANTS:
        assert (build.SOURCE_FOLDER / mutant.file).read_text().count(mutant.old) == 1, mutant.name


@pytest.mark.slow
def test_all_cases_under_sanitizers(tmp_path: Path) -> None:
    build.build_check(tmp_path / "check", sanitize=True)
    done = subprocess.run([tmp_path / "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@pytest.mark.slow
def test_every_planted_bug_is_noticed() -> None:
    survived = [mutant.name for mutant, noticed_by in mutants.kill_all(mutants.MUTANTS) if not noticed_by]
    assert not survived
