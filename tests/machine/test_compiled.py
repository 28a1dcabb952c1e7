"""Where compiled libraries are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from chronos_export.machine.compiled import PLUGIN_NAME, kernel_library, plugin_folder, plugin_library


def test_the_plugin_is_where_it_was_built_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(tmp_path))
    assert plugin_folder() == tmp_path
    assert plugin_library() is None
    (tmp_path / PLUGIN_NAME).touch()
    assert plugin_library() == tmp_path / PLUGIN_NAME
    assert kernel_library() is None
    monkeypatch.delenv("CHRONOS_EXPORT_PLUGINS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plugin_folder() == tmp_path / "chronos-export" / "plugins"
