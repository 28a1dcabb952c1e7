"""Polygraphy's own command line with TensorRT and the plugin in place.

    python -m chronos_export.validation.polygraphy_tensorrt convert model.onnx --convert-to trt ...

With TensorRT where that is installed, else with TensorRT-RTX; with the compiled plugin where it was built,
else with its twin, which builds engines with no GPU and runs none. Polygraphy alone loads a plugin too early
for TensorRT to see it, and aborts with TensorRT-RTX, whose wheel lacks a library.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from chronos_export.machine import tensorrt_plugin as trt_plugin
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.packages import is_installed
from chronos_export.machine.tensorrt import import_tensorrt


def main() -> int:
    """Run Polygraphy with the arguments of this process; returns its exit code."""
    runtime = "tensorrt" if is_installed("tensorrt") else "tensorrt-rtx"
    if runtime == "tensorrt-rtx":
        os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"
    with tempfile.TemporaryDirectory(prefix="chronos-tensorrt-") as links:
        trt = import_tensorrt(runtime, Path(links))
        registered = trt_plugin.register(trt, plugin_library())
        from polygraphy import tools  # reads the variable set above

        code = tools.main()
        del registered  # The registry keeps no reference.
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
