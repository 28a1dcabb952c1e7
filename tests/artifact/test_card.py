"""The README of an artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chronos_export.artifact.card import write_card
from tests.helpers.published import MANIFEST, make


def test_readme_says_what_the_manifest_says(tmp_path: Path) -> None:
    text = (make(tmp_path / "artifact") / "README.md").read_text()
    for said in (
        "`demo`",
        "apache-2.0",
        "d" * 64,
        "1.25e-06",
        "| a\\|b | 1e-06 |",
        "polygraphy run",
        "- engines: none",
    ):
        assert said in text, said


def test_readme_names_the_engines(tmp_path: Path) -> None:
    small = {"rows": 100, "context": 8192, "scratch_bytes": None}
    large = {"rows": 2000, "context": 512, "scratch_bytes": 10**9}
    engines = [
        {"path": "engines/a.plan", "profiles": [small, large]},
        {"path": "engines/b.plan", "profiles": [small]},
    ]
    write_card(tmp_path, replace(MANIFEST, engines=engines))
    first = "`engines/a.plan` (up to 100 rows x 8192 steps; up to 2000 rows x 512 steps, 1.00 GB of scratch)"
    assert f"- engines: {first}; `engines/b.plan` (up to 100 rows" in (tmp_path / "README.md").read_text()
