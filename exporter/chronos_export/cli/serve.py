"""The command that serves."""

from __future__ import annotations

from pathlib import Path

import click

from chronos_export.cli.console import Console
from chronos_export.cli.options import Place as PathKind
from chronos_export.cli.options import talking


@click.command()
@click.argument("artifact", type=PathKind(file_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Of HTTP.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="Of gRPC.")
@click.option("--runtime", default="auto", show_default=True, help="What computes, as load has it.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Threads on a CPU; 0: the runtime's.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds that a request may take.",
)
@click.option(
    "--max-rows", type=click.IntRange(min=1), default=1024, show_default=True, help="Rows of one request."
)
@click.option(
    "--max-steps",
    type=click.IntRange(min=1),
    default=2_000_000,
    show_default=True,
    help="Time steps of one request, rows x (context + horizon).",
)
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Requests under way; more are refused at once.",
)
@talking
def serve(
    console: Console,
    artifact: Path,
    host: str,
    port: int,
    grpc_port: int,
    runtime: str,
    device: str,
    threads: int,
    timeout: float,
    max_rows: int,
    max_steps: int,
    max_requests: int,
) -> None:
    """Serve an artifact over HTTP and gRPC, merging requests, until a signal ends it.

    \b
    Open Inference Protocol v2, KServe's /v1/timeseries/forecast, SageMaker's /ping and /invocations,
    and /metrics. One JSON line for each event on stderr.
    """
    from chronos_export.machine.packages import extra, require

    require("the server", extra("serve"))
    with console.libraries():
        from chronos_export.serving.limits import ServingLimits
        from chronos_export.serving.server import Opening, Place, serve

        limits = ServingLimits(rows=max_rows, steps=max_steps, seconds=timeout, requests=max_requests)
        serve(Opening(artifact, runtime, device, threads), Place(host, port, grpc_port), limits)
    console.result({"served": str(artifact)}, f"{artifact} is served no more")
