"""The README says what was measured."""

from __future__ import annotations

from scripts.readme_tables import BENCH, README, filled


def test_its_tables_are_those_of_the_last_measurement() -> None:
    text = README.read_text()
    assert filled(text, BENCH.read_text()) == text, "run python -m scripts.readme_tables"
    slower = BENCH.read_text().replace("| 1.00 |", "| 1.01 |", 1)
    assert filled(text, slower) != text
