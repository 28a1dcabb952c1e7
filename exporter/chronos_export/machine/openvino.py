"""Import OpenVINO without its telemetry.

As it is imported it writes to `~/intel` and reports to Google Analytics, unless the package
openvino_telemetry cannot be imported: then it takes a stub that does nothing. No setting does the same.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Return the module `openvino`; one that was imported before stays as it is."""
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[TELEMETRY]
        if before is not None:
            sys.modules[TELEMETRY] = before
