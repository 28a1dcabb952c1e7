"""Everything that needs a GPU; see `__main__`. The package is imported from this tree, installed or not."""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "exporter"), str(_ROOT / "plugins" / "group_attention")]
# Where nvcc and compute-sanitizer are if they are not on the PATH.
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"])
