"""Engines and proofs in the words of the command line, a line each."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from chronos_export.artifact.engine_info import Profile


def proof_lines(proven: dict[str, Any]) -> list[str]:
    """Say how far each engine was proven, each runtime's largest error, and what rounding costs it."""
    errors = [_error_line(row) for row in proven["worst"] if not row["problem"]]
    losses = [
        f"{loss['runner']}: quantile loss on real series {loss['change']:+.2%}"
        for loss in proven["quantile_loss"]
    ]
    return [*(found["detail"] for found in proven["runtimes"] if found["detail"]), *errors, *losses]


def _error_line(row: dict[str, Any]) -> str:
    error, rounding = (_decimal(row[name]) for name in ("error", "noise"))
    return (
        f"{row['runner']}: error {error} of the series' spread, "
        f"{row['worst_of_limit']:.0%} of what is allowed; rounding alone: {rounding} (case {row['case']})"
    )


def _decimal(value: float) -> str:
    """Write two digits of a number without an exponent."""
    return f"{Decimal(f'{value:.2g}'):f}"


def proof_result(artifact: object, proven: dict[str, Any]) -> str:
    """Say what was proven of an artifact."""
    return f"{artifact}: {proven['sentence']}"


def build_line(engine: dict[str, Any]) -> str:
    """Say what an engine took to build, and what it admits."""
    return (
        f"{engine['path']}: {engine['bytes'] / 1e6:.1f} MB, built in {engine['build_seconds']:.1f} s"
        f" with {engine['peak_rss_bytes'] / 1e6:.0f} MB of memory at most; {_profiles(engine)}"
    )


def engine_line(engine: dict[str, Any]) -> str:
    """Say what an engine is and where it runs."""
    gpus = "/".join(engine["compute_capabilities"])
    plugins = engine["plugin_layers"]
    layers = f"{plugins} plugin layers" if plugins else f"{engine['attention']} attention"
    size = f"{engine['bytes'] / 1e6:.1f} MB"
    built = f"{engine['tensorrt_version']} for {gpus}, {layers}, {size}"
    return f"{engine['path']} ({built}; {_profiles(engine)})"


def _profiles(engine: dict[str, Any]) -> str:
    return "; ".join(str(Profile(**profile)) for profile in engine["profiles"])
