"""The README of an artifact."""

from __future__ import annotations

from pathlib import Path

from artifacts import make


def test_readme_says_what_the_manifest_says(tmp_path: Path) -> None:
    text = (make(tmp_path / "artifact") / "README.md").read_text()
    for said in (
        "`demo`",
        "apache-2.0",
        "d" * 64,
        "100, 2000",
        "1.25e-06",
        "| a\\|b | 1e-06 |",
        "polygraphy run",
    ):
        assert said in text, said
