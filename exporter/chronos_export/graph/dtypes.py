"""The names of what a graph computes in, and how else people call them."""

from __future__ import annotations

from chronos_export.errors import UsageError

DTYPES = ("float32", "tf32", "float16", "bfloat16", "int8")
ALIASES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
QUANTIZED = ("int8",)
NARROW = ("float16", "bfloat16", "int8")  # judged on real series too
WEIGHT_BYTES = {"float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


def dtype_named(name: str) -> str:
    """Return which of `DTYPES` is meant.

    Raises:
        UsageError: There is no such dtype.
    """
    dtype = ALIASES.get(name, name)
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}", allowed=", ".join([*DTYPES, *ALIASES]))
    return dtype
