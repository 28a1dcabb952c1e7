"""A model of the published width -> an engine -> its layers and their costs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chronos_export.engine.attention import graph_with
from chronos_export.engine.building import run_job
from chronos_export.engine.worker import Job
from chronos_export.graph_contract import GENERAL, UNIVARIATE
from chronos_export.progress import ignore, stage

from .devices import Device
from .listing import read_layers
from .model import BLOCKS, write_graphs
from .pricing import Cost, blocks_of, price
from .sizes import Call

DTYPES = ("float32", "tf32", "float16", "bfloat16")


@dataclass(frozen=True)
class Engine:
    """An engine, read.

    Attributes:
        dtype: One of `DTYPES`.
        blocks: Blocks of the model.
        call: What it is asked.
        univariate: Whether it is for rows without groups.
        costs: Of every layer, in order.
        scratch_bytes: Memory of the GPU that the call takes besides weights, inputs and outputs.
        bytes: Size of the plan.
        tensorrt_version: Of TensorRT-RTX.
    """

    dtype: str
    blocks: int
    call: Call
    univariate: bool
    costs: Sequence[Cost]
    scratch_bytes: int
    bytes: int
    tensorrt_version: str

    @property
    def copies(self) -> list[Cost]:
        """The layers that only move a tensor of rows x tokens."""
        smallest = self.call.rows * self.call.ahead
        return [cost for cost in self.costs if cost.kind == "copy" and cost.moved >= smallest]

    @property
    def typical(self) -> list[list[Cost]]:
        """The layers of the blocks that compute all tokens, which is each but the last."""
        return blocks_of(self.costs)[:-1] or blocks_of(self.costs)

    def kernels_of_block(self) -> int:
        """The kernels of the typical block that has most."""
        return max(map(len, self.typical))

    def block_seconds(self, device: Device, kind: str | None = None) -> float:
        """Return the least time of a typical block, or of its layers of one kind."""
        costs = (cost for block in self.typical for cost in block if kind in (None, cost.kind))
        return sum(cost.seconds(device, self.dtype) for cost in costs) / len(self.typical)

    def seconds(self, device: Device) -> float:
        """Return the least time of a call of the published model, whose other blocks are typical."""
        here = sum(cost.seconds(device, self.dtype) for cost in self.costs)
        return here + (BLOCKS - self.blocks) * self.block_seconds(device)

    def block_flops(self) -> float:
        """Return the multiplications and additions in the products of a typical block."""
        return sum(cost.flops for block in self.typical for cost in block if cost.kind == "gemm") / len(
            self.typical
        )

    def share(self, device: Device) -> float:
        """Return the share of a typical block's time in which the products run at the full rate."""
        return self.block_flops() / device.rate(self.dtype) / self.block_seconds(device)


def read_engine(
    dtype: str,
    blocks: int,
    call: Call,
    *,
    univariate: bool = False,
    capability: str = "8.9",
    fewest: int | None = None,
) -> Engine:
    """Build an engine and read it.

    Args:
        dtype: One of `DTYPES`.
        blocks: Blocks of the model.
        call: The largest call of its profile, for which it is optimized too.
        univariate: Whether it is for rows without groups.
        capability: The GPU to build for.
        fewest: The fewest rows of the profile; those of `call` if None, which the costs are read from.
    """
    with tempfile.TemporaryDirectory(prefix="engine-layers-") as work:
        folder = Path(work)
        write_graphs(folder, dtype, blocks)
        built, listed = _build(folder, dtype, blocks, call, univariate, capability, fewest or call.rows)
        return Engine(
            dtype=dtype,
            blocks=blocks,
            call=call,
            univariate=univariate,
            costs=price(read_layers(listed), call),
            scratch_bytes=built["scratch_bytes"][0],
            bytes=(folder / "plan").stat().st_size,
            tensorrt_version=built["tensorrt_version"],
        )


def _build(
    folder: Path, dtype: str, blocks: int, call: Call, univariate: bool, capability: str, fewest: int
) -> tuple[dict[str, Any], str]:
    tf32 = dtype == "tf32"
    graph = folder / UNIVARIATE
    if not univariate:
        (rewritten := folder / "rewritten").mkdir()
        graph = graph_with("plugin", folder / GENERAL, rewritten, tf32=tf32)
    (links := folder / "libraries").mkdir()
    shapes = {
        "context": [[fewest, 1], [call.rows, call.context], [call.rows, call.context]],
        "group_ids": [[fewest], [call.rows], [call.rows]],
        "future_covariates": [[fewest, 1], [call.rows, call.horizon], [call.rows, call.horizon]],
    }
    if univariate:
        del shapes["group_ids"]
    job = Job(
        onnx=str(graph),
        plan=str(folder / "plan"),
        links=str(links),
        runtime="tensorrt-rtx",
        plugin=None,
        attention="plugin",
        blocks=0 if univariate else blocks,
        shapes=[shapes],
        compute_capabilities=[capability],
        tf32=tf32,
        timing_cache=None,
        layers=str(folder / "layers"),
    )
    with stage("engine", ignore) as running:
        return run_job(job, running), (folder / "layers").read_text()
