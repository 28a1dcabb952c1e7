"""The reference pages are what the package says of itself."""

from __future__ import annotations

from scripts.reference import DOCS, api_page, cli_page


def test_the_pages_are_up_to_date() -> None:
    assert (DOCS / "cli.md").read_text() == cli_page(), "run python -m scripts.reference"
    assert (DOCS / "api.md").read_text() == api_page(), "run python -m scripts.reference"


def test_every_command_and_function_is_there() -> None:
    for heading in ("## chronos-export validate\n", "## chronos-export plugin build\n"):
        assert heading in cli_page()
    for heading in ("## chronos_export.load\n", "## chronos_export.errors.UsageError\n"):
        assert heading in api_page()
