"""What a run of the benchmarks found, kept as it grows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Machine:
    """What the numbers depend on.

    Attributes:
        environment: Machine and versions.
        peaks: Library on a CPU, dtype on a GPU -> best FLOP/s of a matrix product here.
        bandwidth: Best bytes per second of a copy, read and written ones both counted.
    """

    environment: dict[str, Any]
    peaks: dict[str, float]
    bandwidth: float | None

    def peak(self, dtype: str) -> float:
        """FLOP/s of a dtype; of the best library in float32 on a CPU."""
        return self.peaks.get(dtype) or max(self.peaks.values())


@dataclass(frozen=True)
class Timing:
    """One peer on one workload.

    Attributes:
        workload, peer: Their names.
        rows: Rows in the batch.
        dtype: What the peer's products are computed in.
        seconds: Median of a batch; None where it did not run.
        seconds_per_sample: The same for one group.
        ratio: Median over rounds of its time over the baseline's.
        spread: Smallest and largest of these ratios.
        memory: Bytes that its first run needed on top of what was loaded; see `memory.PeakMemory`.
        error: Largest difference from upstream, over the spread of the row.
        of_peak: For ours, the share of the machine's peak, counting only the work that is left.
        note: The call size chosen, or why it did not run.
    """

    workload: str
    peer: str
    rows: int
    dtype: str
    seconds: float | None = None
    seconds_per_sample: float | None = None
    ratio: float | None = None
    spread: tuple[float, ...] | None = None
    memory: int | None = None
    error: float | None = None
    of_peak: float | None = None
    note: str = ""

    @property
    def is_ours(self) -> bool:
        return self.peer.startswith("ours")


@dataclass(frozen=True)
class HostTime:
    """Seconds of a call of a peer's pipeline, and of these the seconds inside of its session."""

    peer: str
    call: str
    seconds: float
    inside: float

    @property
    def share(self) -> float:
        """The part of the time that the session did not run."""
        return 1 - self.inside / self.seconds


@dataclass(frozen=True)
class Growth:
    """Groups of 20 as the batch grows.

    Attributes:
        timings: Of every peer at every number of rows.
        ratio: Ours: seconds per sample at the most rows over those at the least.
    """

    timings: list[Timing]
    ratio: float

    def of(self, peer: str) -> dict[int, Timing]:
        """Rows -> the timing of a peer."""
        return {timing.rows: timing for timing in self.timings if timing.peer == peer}


@dataclass(frozen=True)
class Start:
    """One process: seconds of its steps, {} if it failed; `note` says why, or how large it became."""

    model: str
    what: str
    steps: dict[str, float]
    note: str = ""

    @property
    def seconds(self) -> float:
        return sum(self.steps.values())


@dataclass(frozen=True)
class CutOff:
    """Why a section did not come to its end; "" if it now did."""

    section: str
    why: str


Record = Machine | Timing | HostTime | Growth | Start | CutOff
# Where a record is kept, and by what it is known.
PLACES: dict[type, tuple[str, tuple[str, ...]]] = {
    Timing: ("timings", ("workload", "peer")),
    HostTime: ("host", ("peer", "call")),
    Start: ("starts", ("model", "what")),
    CutOff: ("cut_off", ("section",)),
}


@dataclass
class Results:
    """All of a run so far, of `subject` with so many `layers` on a `device`, "cpu" or "cuda"."""

    device: str
    subject: str
    layers: int
    rows: int
    machine: Machine | None = None
    timings: list[Timing] = field(default_factory=list)
    host: list[HostTime] = field(default_factory=list)
    growth: Growth | None = None
    starts: list[Start] = field(default_factory=list)
    cut_off: list[CutOff] = field(default_factory=list)

    def of(self, workload: str) -> dict[str, Timing]:
        """Peer -> its timing on a workload, of those that ran."""
        return {t.peer: t for t in self.timings if t.workload == workload and t.seconds is not None}

    def add(self, record: Record) -> None:
        """Take what was just found, in place of what was found of the same before."""
        if isinstance(record, Machine):
            self.machine = record
        elif isinstance(record, Growth):
            self.growth = record
        else:
            name, key = PLACES[type(record)]
            kept = getattr(self, name)
            same = [all(getattr(old, part) == getattr(record, part) for part in key) for old in kept]
            place = same.index(True) if any(same) else len(kept)
            kept[place : place + 1] = [record]

    def write(self, folder: Path, markdown: str) -> None:
        """Write the tables and the numbers, in place of those of an earlier run."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.device}.md").write_text(markdown)
        (folder / f"{self.device}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")

    def earlier(self, folder: Path) -> Results | None:
        """What an earlier run wrote to `folder`, if it was of the same model on the same machine."""
        file = folder / f"{self.device}.json"
        old = read(file) if file.exists() else None
        return old if old and old._about() == self._about() else None

    def _about(self) -> tuple[object, ...]:
        return self.subject, self.layers, self.rows, self.machine and self.machine.environment


def read(file: Path) -> Results:
    """Return what `Results.write` wrote."""
    stored = json.loads(file.read_text())
    machine, growth = stored["machine"], stored["growth"]
    stored["machine"] = machine and Machine(**machine)
    stored["growth"] = growth and Growth([_timing(t) for t in growth["timings"]], growth["ratio"])
    for kind, (name, _) in PLACES.items():
        stored[name] = [_timing(x) if kind is Timing else kind(**x) for x in stored[name]]
    return Results(**stored)


def _timing(stored: dict[str, Any]) -> Timing:
    return Timing(**{**stored, "spread": stored["spread"] and tuple(stored["spread"])})
