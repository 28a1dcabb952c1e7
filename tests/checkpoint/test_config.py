"""A config.json that is missing, damaged or another model's."""

from __future__ import annotations

from pathlib import Path

import pytest

from chronos_export.errors import IntegrityError, UsageError
from tests.helpers.checkpoints import edit_config, refusal
from tests.helpers.published import make


def test_folder_without_config(mine: Path) -> None:
    (mine / "config.json").unlink()
    error = refusal(mine)
    assert isinstance(error, UsageError)
    assert "config.json" in error.summary


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["ChronosBoltModelForForecasting"]}, "Chronos-Bolt"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "first Chronos"),
        ({"architectures": ["T5ForConditionalGeneration"], "chronos_config": None}, "T5ForConditional"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "chronos_config": None}, "llama"),
        ({"architectures": None, "chronos_config": None}, "no stated kind"),
    ],
)
def test_another_model_is_named(mine: Path, changes: dict[str, object], said: str) -> None:
    error = refusal(edit_config(mine, **changes))
    assert isinstance(error, UsageError)
    assert said in error.summary
    assert "not Chronos-2" in error.summary


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"architectures": ["Chronos2Model"], "model_type": "t5", "chronos_config": {}}']
)
def test_spoiled_config(mine: Path, text: str) -> None:
    (mine / "config.json").write_text(text)
    assert isinstance(refusal(mine), IntegrityError)


def test_an_artifact_is_no_checkpoint(tmp_path: Path) -> None:
    """What it was made from is."""
    error = refusal(make(tmp_path / "artifact"))
    assert isinstance(error, UsageError)
    assert "is an artifact" in error.summary
    assert error.fix == "chronos-export --model demo"
