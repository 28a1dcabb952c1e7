"""`chronos-export bench`: every way to run Chronos-2 on this machine, on the same rows, in one run.

    subject       the weights: an artifact, or random ones of full size
    workloads     the batches
    peers         the ways to answer them; variants are upstream's model with another group attention
    measure       alternating rounds, ratios within a round; memory, work_left and machine beside them
    host          the share of a forecast outside of the model
    scaling       seconds a sample as the batch grows; plot draws them
    cold_start    fresh processes to their first forecast; first_forecast is what they run
    aims          what all this is meant to reach
    report        the tables; results are what they are made from

`run` does it all.
"""

from chronos_export.machine.packages import require, require_upstream

require_upstream("a benchmark", "export")
require("a benchmark", ["onnxruntime", "matplotlib"])
