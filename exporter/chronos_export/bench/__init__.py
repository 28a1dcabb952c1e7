"""`chronos-export bench`: how many times faster than upstream this machine forecasts with an export.

`scripts/benchmarks` of the repository compares with everybody else, at length, and on GPUs.
"""

from chronos_export.machine.packages import require, require_upstream

require_upstream("a benchmark", "export")
require("a benchmark", ["onnxruntime"])
