"""What artifacts are called, and names that no artifact can have: told before the work, with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chronos_export import export
from chronos_export.artifact.naming import destination, located
from chronos_export.errors import ChronosExportError, MachineError, UsageError
from tests.helpers.published import make

CLI = [sys.executable, "-m", "chronos_export"]
LOOP, NOT_UTF8, LONG, NOBODY = "loop", os.fsdecode(b"caf\xe9"), "x" * 247, "~nosuch/x"
REASONS = {
    LOOP: "its links lead in a circle",
    f"{LOOP}/inside": "its links lead in a circle",
    NOT_UTF8: "its bytes are not UTF-8",
    LONG: "its name is too long",
    f"{'x' * 300}/inside": "its name is too long",
    NOBODY: "there is no user nosuch",
    "a\0b": "not the name of a file",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative paths begin here; `loop` and `pool` lead to each other."""
    (tmp_path / "loop").symlink_to("pool")
    (tmp_path / "pool").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(what: object, *arguments: object) -> ChronosExportError:
    assert callable(what)
    with pytest.raises(ChronosExportError) as caught:
        what(*arguments)
    return caught.value


@pytest.mark.parametrize("name", REASONS)
def test_a_name_that_cannot_be(name: str, toy: Path, here: Path) -> None:
    """As the output and as the model, with the reason; nothing was made."""
    before = sorted(here.iterdir())
    for error in (refused(destination, name), refused(export, str(toy), (), name)):
        assert isinstance(error, UsageError)
        assert REASONS[name] in error.summary
    if name != LONG:  # a model may be called so
        assert REASONS[name] in refused(export, name).summary
    assert sorted(here.iterdir()) == before


def test_the_longest_name_that_can_be() -> None:
    """It is longer while it is built."""
    name = "y" * 230
    assert destination(name).name == name
    make(Path(name))


def test_odd_names_that_can_be(here: Path) -> None:
    for name in ("für mich", "./~nosuch", "$(id)", "a\nb", "日本"):
        assert destination(name) == here / name
        make(destination(name))


def test_a_folder_that_may_not_be_entered(here: Path) -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        error = refused(located, "/proc/1/cwd/x")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
    assert isinstance(error, MachineError)
    assert "Permission denied" in error.summary


NAMING = {
    "output": ("--model", "demo", "-o"),
    "model": ("--model",),
    "dry run": ("--model", "demo", "--dry-run", "-o"),
    "timing cache": ("--model", "demo", "--timing-cache"),
    "validate": ("validate",),
    "inspect": ("inspect", "--json"),
    "plugin": ("plugin", "build", "-o"),
}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
    )


@pytest.mark.parametrize("option", NAMING)
def test_everywhere_in_the_command_line(option: str, here: Path) -> None:
    before = sorted(here.iterdir())
    for name in (NOT_UTF8, NOBODY, LOOP):
        done = run(*NAMING[option], name)
        assert done.returncode == 2, done.stderr
        assert REASONS[name] in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(here.iterdir()) == before


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_an_umlaut_under_an_ascii_locale(here: Path) -> None:
    for options in (("-o", "für"), ("--model", "für"), ("inspect", "für")):
        done = run(*options, **ASCII)
        assert done.returncode == 2, done.stderr
        assert r"'f\udcc3\udcbcr' has characters that the ascii of this locale lacks" in done.stderr
        assert "fix: export LC_ALL=C.UTF-8" in done.stderr
    (here / "für").mkdir()
    inside = subprocess.run(
        [*CLI, "--model", "demo", "--dry-run"], cwd="für", env={**os.environ, **ASCII}, capture_output=True
    )
    assert inside.returncode == 2
    assert run("--model", "demo", "--dry-run", **ASCII).returncode == 0
