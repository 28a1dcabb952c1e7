"""A model's name -> a folder and its licence; a name that is none costs no network."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import UsageError
from tests.helpers.checkpoints import refusal


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# Model\nlicense: mit\n", "apache-2.0"),
        ("# Mine", "unknown"),
    ],
)
def test_licence_is_the_cards(mine: Path, card: str, licence: str) -> None:
    (mine / "README.md").write_text(card)
    assert load_checkpoint(str(mine)).licence == licence


def test_licence_file(mine: Path) -> None:
    (mine / "LICENSE").write_text("                 Apache License\n          Version 2.0, January 2004\n")
    assert load_checkpoint(str(mine)).licence == "apache-2.0"


@pytest.mark.parametrize("source", ["no-such-folder", "./a/b", "/nowhere/at/all", "", "a/b/c", "demo2"])
def test_unknown_names_cost_no_network(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    error = refusal(source)
    assert isinstance(error, UsageError)
    assert "--model demo" in error.fix


def test_a_file_is_not_a_checkpoint(mine: Path) -> None:
    assert "is a file" in refusal(mine / "model.safetensors").summary


def test_a_folder_has_no_revision(mine: Path) -> None:
    assert "revision" in refusal(mine, "v1").summary
