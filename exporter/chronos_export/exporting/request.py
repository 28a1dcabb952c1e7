"""What an export is asked for, and every refusal that costs no import, no download and no wait."""

from __future__ import annotations

import itertools
import numbers
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chronos_export.artifact.naming import default_output, destination, is_hub_id
from chronos_export.artifact.publishing import check_destination
from chronos_export.checkpoint.config import read_config
from chronos_export.checkpoint.source import ADAPTER, Place, locate
from chronos_export.engine.choice import EngineOptions, choose
from chronos_export.engine.choice import require as require_engine
from chronos_export.errors import MachineError, UsageError
from chronos_export.graph.activations import require_activation
from chronos_export.graph.dtypes import NARROW, WEIGHT_BYTES, dtype_named
from chronos_export.machine.packages import require
from chronos_export.progress import Report
from chronos_export.runtime.cpu_runtimes import CPU_RUNTIMES, ONNXRUNTIME, require_cpu_runtime
from chronos_export.validation import real_series

SIZES = ("d_model", "num_layers", "num_heads", "d_kv", "d_ff")
BATCHES = "row counts from 1 up, each once: 100 or 100,2000"
MOST_ROWS = 10**9 - 1
NO_WISHES = EngineOptions()
EMBEDDED = ("float32", "tf32")


@dataclass(frozen=True)
class Request:
    """What an export is asked for; see `export`."""

    source: str
    batch: Sequence[int] = ()
    output: Path | str | None = None
    revision: str | None = None
    dtype: str = "float32"
    engine: EngineOptions = NO_WISHES
    overwrite: bool = False
    embeddings: bool = False


@dataclass(frozen=True)
class Plan:
    """A request that nothing known so far stands against.

    Attributes:
        request: With the dtype by its full name and the row counts in ascending order.
        runtime: Of the engine that will be built, or None.
        why: One line: why this engine, or why none.
        output: As it was asked for, or the default.
        target: Where that is.
        known: What is known of the model: weights_bytes, adapter and, unless it is one, its sizes.
    """

    request: Request
    runtime: str | None
    why: str
    output: Path
    target: Path
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def profiles(self) -> tuple[int, ...]:
        """The row counts that the engine is built for; () without an engine."""
        return tuple(self.request.batch) if self.runtime else ()


def parse_batch(text: str) -> tuple[int, ...]:
    """`100,2000` -> (100, 2000).

    Raises:
        UsageError: Anything else.
    """
    pieces = [piece.strip() for piece in text.split(",")]
    rows = [int(piece) if re.fullmatch(r"-?[0-9]{1,9}", piece) else piece for piece in pieces]
    return check_rows(rows, f"--batch {text}")


def check_rows(batch: Iterable[object], name: str = "batch") -> tuple[int, ...]:
    """Return row counts in ascending order.

    Args:
        batch: What was given for them; () is none.
        name: What errors call it.

    Raises:
        UsageError: It is anything else than different numbers from 1 up.
    """
    fix = "chronos-export --batch 100" if name.startswith("--") else "batch=(100,) or batch=(100, 2000)"
    if isinstance(batch, str | bytes) or not isinstance(batch, Iterable):
        raise UsageError(f"{name} is {batch!r}, which are no row counts", allowed=BATCHES, fix=fix)
    rows = []
    for one in batch:
        if isinstance(one, bool) or not isinstance(one, numbers.Integral):
            raise UsageError(f"{name}: {one!r} is not a row count", allowed=BATCHES, fix=fix)
        if not 1 <= int(one) <= MOST_ROWS:
            raise UsageError(f"{name}: {one} is not a number of rows to forecast", allowed=BATCHES, fix=fix)
        rows.append(int(one))
    rows.sort()
    for smaller, larger in itertools.pairwise(rows):
        if smaller == larger:
            raise UsageError(f"{name}: {smaller} is given twice", allowed=BATCHES, fix=fix)
    return tuple(rows)


def parse_memory(text: str) -> int:
    """`8GiB`, `80GB`, `512MiB` or a number of bytes -> bytes.

    Raises:
        UsageError: Anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B)?", text.strip(), re.IGNORECASE)
    size = 0
    if found:
        number, prefix, binary = found.groups()
        base = 1024 if binary else 1000
        size = int(float(number) * base ** (1 + "KMGT".index(prefix.upper()) if prefix else 0))
    if not size:
        raise UsageError(
            f"--memory {text} is no amount of memory",
            allowed="like 8GiB, 80GB or 512MiB",
            fix="chronos-export --memory 8GiB",
        )
    return size


def check(request: Request) -> Plan:
    """Refuse at once what would be refused later, as far as that is known on this machine.

    Raises:
        UsageError: An argument cannot be used, or has no effect.
        MachineError: A package, a device, disk space or the right to write is missing.
        IntegrityError: config.json is not JSON.
    """
    source, batch, dtype = str(request.source), check_rows(request.batch), dtype_named(request.dtype)
    request = replace(request, source=source, batch=batch, dtype=dtype)
    runtime, why = choose(request.engine, batch, dtype)
    require_engine(request.engine, batch, dtype)
    require_cpu_runtime(dtype, has_engine=runtime is not None)
    if request.embeddings:
        _check_embeddings(dtype)
    if dtype in NARROW:
        real_series.require_installed()
    place = None if is_hub_id(source) else locate(source, request.revision)
    output = Path(request.output or default_output(source, batch))
    plan = Plan(request, runtime, why, output, destination(output))
    check_destination(plan.target, request.overwrite)
    return plan if place is None else _with_checkpoint(plan, place)


def prepare(request: Request, report: Report) -> Plan:
    """As `check`, and ask the hub for a model that is on it; of that, only the configuration is fetched.

    Args:
        request: What is asked for.
        report: Told while the hub is asked.

    Returns:
        The plan; a revision of the hub is pinned to its commit.

    Raises:
        UsageError: As `check`, or the hub has no such model or revision.
        MachineError: As `check`, or the hub is out of reach and the model is not in its cache.
    """
    plan = check(request)
    if not is_hub_id(plan.request.source):
        return plan
    place = locate(plan.request.source, request.revision, report, weights=False)
    return _with_checkpoint(replace(plan, request=replace(plan.request, revision=place.revision)), place)


def _with_checkpoint(plan: Plan, place: Place) -> Plan:
    """Hold a request against a checkpoint whose configuration, at least, is here."""
    known: dict[str, Any] = {
        "weights_bytes": place.weights_bytes,
        "adapter": (place.folder / ADAPTER).is_file(),
    }
    if not known["adapter"]:
        config = read_config(place.folder)
        require_activation(str(config.get("dense_act_fn") or config.get("feed_forward_proj", "relu")))
        _check_limits(plan.request.engine, config["chronos_config"])
        known |= {name: config.get(name) for name in SIZES}
        _check_room(plan, place.weights_bytes)
    return replace(plan, known=known)


def preview(plan: Plan) -> dict[str, Any]:
    """Return what an export would do, as plain data."""
    request = plan.request
    return {
        "source": request.source,
        "revision": request.revision,
        "from_hub": is_hub_id(request.source),
        "dtype": request.dtype,
        "engine": plan.why,
        "runtime": plan.runtime or CPU_RUNTIMES[plan.request.dtype][0],
        "batch": list(request.batch),
        "profiles": list(plan.profiles),
        "embeddings": request.embeddings,
        "output": str(plan.output),
        "replaces": plan.target.exists(),
        "disk_free_bytes": shutil.disk_usage(plan.target.parent).free,
        **plan.known,
    }


def _check_embeddings(dtype: str) -> None:
    if dtype not in EMBEDDED:
        raise UsageError(f"--embeddings in {dtype} cannot be proven", allowed=", ".join(EMBEDDED))
    require("--embeddings", [ONNXRUNTIME])


def _check_limits(options: EngineOptions, settings: dict[str, Any]) -> None:
    patches, patch = settings.get("max_output_patches"), settings.get("output_patch_size")
    horizon = patches * patch if isinstance(patches, int) and isinstance(patch, int) else None
    limits = {
        "context": (options.context, settings.get("context_length")),
        "horizon": (options.horizon, horizon),
    }
    for name, (asked, most) in limits.items():
        if asked is not None and isinstance(most, int) and not 1 <= asked <= most:
            raise UsageError(
                f"--{name} {asked} is outside what the model can do",
                allowed=f"1 to {most} time steps",
                fix=f"--{name} {most}, or leave it out",
            )


def _check_room(plan: Plan, weights: int) -> None:
    """Refuse what cannot fit: the graphs and each plan hold all weights, of at most 4 bytes in the file."""
    copies = 2 if plan.runtime else 1
    least = weights * copies * WEIGHT_BYTES[plan.request.dtype] // 4
    free = shutil.disk_usage(plan.target.parent).free
    if free < least:
        raise MachineError(
            f"the disk of {plan.target.parent} is full: the artifact takes {least / 1e6:.1f} MB or more,"
            f" {free / 1e6:.1f} MB are free",
            allowed="room for the whole artifact beside the one it replaces",
            fix="free some space, or choose -o on another disk",
        )
