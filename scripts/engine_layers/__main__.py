"""Read an engine layer by layer and say what it will take, with no GPU, in the repository's root:

    python -m scripts.engine_layers --dtype bfloat16 --layers 2 --json
    python -m scripts.engine_layers --write docs/engine.md       # its tables, for every dtype

Builds a model of the published width with random weights with TensorRT-RTX, takes TensorRT's own list of the
final layers, and prices each: bytes and products from its shapes, and the least time those take on a GPU at
its published rates. Nothing is run, so a time is a bound: no engine is faster.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .model import BLOCKS, published_call
from .reading import DTYPES, read_engine
from .report import as_dict, as_lines, fill


def main() -> None:
    """Run the command line of the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--layers", type=int, default=BLOCKS, metavar="N", help="blocks of the model")
    parser.add_argument("--rows", type=int, default=2000, help="rows of a call")
    parser.add_argument("--group", type=int, default=20, help="rows of a group")
    parser.add_argument("--context", type=int, default=1440, metavar="STEPS")
    parser.add_argument("--horizon", type=int, default=96, metavar="STEPS")
    parser.add_argument("--univariate", action="store_true", help="the graph of rows without groups")
    parser.add_argument("--compute-capability", default="8.9", metavar="CC")
    parser.add_argument("--json", action="store_true", help="everything, as one object")
    parser.add_argument("--write", type=Path, metavar="FILE", help="fill the tables of a document")
    asked = parser.parse_args()
    call = published_call(asked.rows, asked.context, asked.horizon, asked.group)
    if asked.write:
        found = [
            read_engine(dtype, asked.layers, call, capability=asked.compute_capability) for dtype in DTYPES
        ]
        asked.write.write_text(fill(asked.write.read_text(), found))
        return
    engine = read_engine(
        asked.dtype, asked.layers, call, univariate=asked.univariate, capability=asked.compute_capability
    )
    print(json.dumps(as_dict(engine), indent=1) if asked.json else "\n".join(as_lines(engine)))


if __name__ == "__main__":
    main()
