"""`scripts/gpu_check` of engines, with a stand-in for what builds and proves one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from chronos_export.errors import BuildError
from scripts.gpu_check import engines
from scripts.gpu_check.setting import dry


def test_an_engine_that_cannot_be_built_is_a_fault_and_the_others_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check(
        checkpoint: Any, reference: Any, cases: Any, options: Any, dtype: str
    ) -> Iterator[dict[str, Any]]:
        if dtype == "tf32":
            raise BuildError("no reason was given")
        yield {"check": dtype, "good": True}

    monkeypatch.setattr(engines, "_check", check)
    monkeypatch.setattr(engines, "options_here", lambda setting: (object(), ""))
    monkeypatch.setattr(engines, "rival_here", lambda: (None, "TensorRT is too old"))
    found = {r["check"]: r for r in engines.check_demo(replace(dry(), device="cuda"))}
    assert {name: r["good"] for name, r in found.items()} == {
        "float32": True,
        "engine, tf32": False,
        "float16": True,
        "bfloat16": True,
        engines.RIVAL: None,
    }
    assert found["engine, tf32"]["detail"] == "no reason was given"
