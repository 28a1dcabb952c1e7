"""docs/performance.md says what was measured, and with which command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chronos_export.cli.main import cli
from scripts.benchmarks.pictures import SHOWN, draw_growth, draw_speed, speeds
from scripts.benchmarks.records import read
from scripts.benchmarks.tables import BENCHMARKS, DOCS, ROOT, blocks, filled

TEXT = DOCS.read_text()


def test_its_tables_are_those_of_the_last_measurement() -> None:
    contents = blocks(BENCHMARKS)
    assert filled(TEXT, contents) == TEXT, "run python -m scripts.benchmarks.tables"
    for marker, content in contents.items():
        assert filled(TEXT, {**contents, marker: f"{content}| 1 |\n"}) != TEXT


def test_a_block_that_is_not_there_is_noticed() -> None:
    with pytest.raises(AssertionError, match="0 blocks are named speed"):
        filled(TEXT, {"speed": ""})


def test_what_it_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link]
    assert links
    assert [link for link in links if not (DOCS.parent / link).exists()] == []


def test_its_commands_are_there() -> None:
    """Every command is one of ours, and its modules and subcommands exist."""
    commands = re.findall(r"`((?:chronos-export|python -m scripts)[^`]*)`", TEXT)
    assert commands
    for command in commands:
        if command.startswith("chronos-export"):
            word = [*command.split(), "--"][1]
            assert word.startswith("-") or word in cli.commands, command
        else:
            module = ROOT / command.split()[2].replace(".", "/")
            assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), command


def test_the_picture_shows_every_dtype_beside_upstream(tmp_path: Path) -> None:
    results = read(BENCHMARKS / "cpu.json")
    found = speeds(results)
    assert [s.peer for s in found] == 2 * list(SHOWN)
    assert {s.workload for s in found} == {"groups of 20, 100 rows", "univariate, 100 rows"}
    by_name = {(s.workload, s.peer): s for s in found}
    int8 = by_name["univariate, 100 rows", "int8"]
    assert f"{int8.rows_per_second:.1f} {int8.times_faster:.1f}" == "33.1 4.5"
    draw_speed(results, tmp_path / "speed.png")
    assert results.growth is not None
    draw_growth(results.growth, tmp_path / "growth.png")
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in tmp_path.iterdir())
    assert (ROOT / "docs" / "images" / "speed.png").is_file()
