"""Every way to run Chronos-2 on this machine, on the same rows, in one run: on a CPU and on a GPU.

python -m scripts.benchmarks [--device cuda] [--workload NAME] [--dry-run] [-o benchmarks]

workloads   the batches; layer has those of one layer's group attention
peers       the ways to answer them; cuda_peers those of a GPU; variants are upstream with another attention
records     what is measured; timing measures it; memory, machine and work_left beside it
growth      seconds per sample as the batch grows
host        the share of a forecast outside of the model
cold_start  fresh processes to their first forecast; first_forecast is what they run
sections    all of this in the order of its worth, each in a process of its own (apart)
aims        what all this is meant to reach
report      the tables; pictures the pictures; tables puts the tables into docs/performance.md
training    fine-tuning, by itself; wheels packs what a GPU machine without a network needs
"""

import sys
from pathlib import Path

# From this tree, installed or not.
_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "exporter"), str(_ROOT / "plugins" / "group_attention")]
