"""Polygraphy's own command line with TensorRT-RTX and the plugin in place, for engines built with no GPU.

    python -m chronos_export.trt_polygraphy convert model.onnx --convert-to trt -o model.plan ...

Polygraphy alone aborts here, because the wheel lacks a library, and does not know the plugin.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from chronos_export import trt_plugin
from chronos_export.trt_libraries import import_tensorrt


def main() -> int:
    """Run Polygraphy with the arguments of this process; returns its exit code."""
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"
    with tempfile.TemporaryDirectory(prefix="chronos-tensorrt-rtx-") as links:
        trt = import_tensorrt("tensorrt-rtx", Path(links))
        registered = trt_plugin.register(trt, None)
        from polygraphy import tools  # reads the variable set above

        code = tools.main()
        del registered  # The registry keeps no reference.
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
