"""Everything that needs a GPU; see `__main__`. The package is imported from this tree, installed or not."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "exporter"), str(_ROOT / "plugins" / "group_attention")]
