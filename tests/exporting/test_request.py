"""What was asked for: rows of a batch, and where the artifact goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from chronos_export.artifact.naming import default_output
from chronos_export.errors import UsageError
from chronos_export.exporting.request import parse_batch


def test_batch_is_parsed() -> None:
    assert parse_batch("100") == (100,)
    assert parse_batch("2000, 100") == (100, 2000)


@pytest.mark.parametrize(
    "text", ["", "0", "abc", "100,100", "-1", "1.5", "100,", "1_000", "+5", "٣", "1e3", "9" * 30]
)
def test_batch_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_batch(text)
    assert caught.value.summary.startswith(f"--batch {text}: ")
    assert "100,2000" in caught.value.allowed


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("amazon/chronos-2", "chronos-2-b100-2000"),
        ("demo", "demo-b100-2000"),
        ("/somewhere/mine/", "mine-b100-2000"),
    ],
)
def test_default_output(source: str, name: str) -> None:
    assert default_output(source, (100, 2000)) == Path(name)


def test_default_output_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_output(".", (1,)) == Path(f"{tmp_path.name}-b1")
