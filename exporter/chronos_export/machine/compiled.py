"""Where the libraries are that `chronos-export plugin build` compiled on this machine."""

from __future__ import annotations

import os
from pathlib import Path

PLUGIN_NAME = "libchronos_group_attention_trt.so"
KERNEL_NAME = "libchronos_group_attention.so"


def plugin_folder() -> Path:
    """CHRONOS_EXPORT_PLUGINS, or a folder in the user's cache."""
    if given := os.environ.get("CHRONOS_EXPORT_PLUGINS"):
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "chronos-export" / "plugins"


def plugin_library() -> Path | None:
    """The plugin for TensorRT's registry, if it was built."""
    return _built(PLUGIN_NAME)


def kernel_library() -> Path | None:
    """The kernel behind one C function, for PyTorch, if it was built."""
    return _built(KERNEL_NAME)


def _built(name: str) -> Path | None:
    library = plugin_folder() / name
    return library if library.is_file() else None
