"""The bench as one call: a model, the workloads this machine can bear, every peer."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig

from chronos_export.bench import workloads as w
from chronos_export.bench.measure import OURS, Timing, compare, flops_left, matmul_peak
from chronos_export.bench.peers import Peer, peers_of
from chronos_export.bench.workloads import Workload
from chronos_export.onnx_export import export_onnx
from chronos_export.precision import PRECISIONS
from chronos_export.quiet import quiet
from chronos_export.rewrite import rewrite, univariate

FULL = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
QUANTILES = [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99]


@dataclass(frozen=True)
class Report:
    """What a run of the bench found.

    Attributes:
        environment: Machine and versions.
        peak: Best float32 FLOP/s of a matrix product here.
        timings: Every peer on every workload.
        of_peak: Workload -> our share of `peak`, counting only the work that is left.
        scaling: Rows -> our seconds a row with two layers, groups of 20.
    """

    environment: dict[str, Any]
    peak: float
    timings: list[Timing]
    of_peak: dict[str, float]
    scaling: dict[int, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_bench(
    rows: int = 100,
    layers: int = 12,
    rounds: int = 3,
    compiled: bool = False,
    longest: float = 60.0,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Time Chronos-2 at amazon/chronos-2's sizes, with random weights.

    Args:
        rows: Rows of a batch.
        layers: Encoder blocks; 12 is the full model.
        rounds: Rounds after the warm-up.
        compiled: Whether torch.compile of upstream is among the peers.
        longest: Seconds a batch may take before a peer is timed once only.
        say: Told what is being timed.
    """
    config = full_config(layers)
    small = (w.groups_of_20(20), w.univariate(1))
    chosen = (w.groups_of_20(rows), w.univariate(rows), w.one_group(rows), w.skewed(rows), w.ragged(rows))
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(config, Path(folder))
        peers = list(peers_of(model, Path(folder), compiled))
        peak = matmul_peak()
        timings = [t for work in (*small, *chosen) for t in compare(peers, work, rounds, longest, say)]
    flops = {work.name: flops_left(config, work) for work in (*small, *chosen)}
    ours = {t.workload: t.seconds for t in timings if t.peer == OURS and t.seconds}
    of_peak = {name: flops[name] / seconds / peak for name, seconds in ours.items()}
    return Report(environment(layers), peak, timings, of_peak, scaling(say))


def scaling(say: Callable[[str], None]) -> dict[int, float]:
    """Our seconds a row at 100 and at 2000 rows in groups of 20, two layers."""
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(full_config(2), Path(folder))
        ours: list[Peer] = [p for p in peers_of(model, Path(folder), False) if p.name == OURS]
        batches: list[Workload] = [w.groups_of_20(rows) for rows in (100, 2000)]
        found = [t for work in batches for t in compare(ours, work, 1, 600.0, say)]
    return {t.rows: t.seconds / t.rows for t in found if t.seconds}


def full_config(layers: int) -> Chronos2CoreConfig:
    """amazon/chronos-2's configuration, with as many layers as asked."""
    limits = {
        "context_length": 8192,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "output_patch_size": 16,
        "max_output_patches": 64,
        "quantiles": QUANTILES,
        "use_reg_token": True,
        "use_arcsinh": True,
        "time_encoding_scale": 8192,
    }
    return Chronos2CoreConfig(**{**FULL, "num_layers": layers}, chronos_config=limits)


def random_model(config: Chronos2CoreConfig, folder: Path) -> Chronos2Model:
    """Upstream's model with random weights, and its exported graphs in `folder`."""
    torch.manual_seed(0)
    with quiet():
        model = Chronos2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    segmented = rewrite(model)
    export_onnx(segmented, univariate(segmented), folder, {}, PRECISIONS["float32"])
    return model


def environment(layers: int) -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "chronos-forecasting": version("chronos-forecasting"),
        "python": platform.python_version(),
        "layers": layers,
    }
