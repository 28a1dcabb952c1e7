"""What a run of the bench found, kept as it grows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chronos_export.bench.cold_start import Start
from chronos_export.bench.host import HostTime
from chronos_export.bench.measure import Timing
from chronos_export.bench.scaling import Scaling


@dataclass
class Results:
    """All of a run so far.

    Attributes:
        environment: Machine and versions.
        subject: What was benched.
        layers: Encoder blocks of it.
        rows: Rows of the large batches.
        peaks: Library -> best float32 FLOP/s of a matrix product here.
        bandwidth: Best bytes a second of a copy.
        timings: Every peer on every workload so far.
        host: How long pipelines were outside of their sessions.
        scaling: Peers as the batch grows.
        starts: Exports and first forecasts of fresh processes.
    """

    environment: dict[str, Any]
    subject: str
    layers: int
    rows: int
    peaks: dict[str, float]
    bandwidth: float
    timings: list[Timing] = field(default_factory=list)
    host: list[HostTime] = field(default_factory=list)
    scaling: Scaling | None = None
    starts: list[Start] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """Float32 FLOP/s of the best library at hand."""
        return max(self.peaks.values())

    def of(self, workload: str) -> dict[str, Timing]:
        """Peer -> its timing on a workload, of those that ran."""
        return {t.peer: t for t in self.timings if t.workload == workload and t.seconds is not None}

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, folder: Path) -> Results | None:
        """What an earlier run wrote to `folder`, or None if there is nothing."""
        file = folder / "cpu.json"
        if not file.exists():
            return None
        found = json.loads(file.read_text())
        kept: dict[str, Any] = {
            "timings": _timings(found["timings"]),
            "host": [HostTime(**host) for host in found["host"]],
            "starts": [Start(**start) for start in found["starts"]],
        }
        if scaling := found["scaling"]:
            sizes = {int(rows): size for rows, size in scaling["batch_bytes"].items()}
            kept["scaling"] = Scaling(_timings(scaling["timings"]), scaling["growth"], sizes)
        return cls(**{**found, **kept})

    def is_of(self, other: Results) -> bool:
        """Whether both are of the same model on the same machine."""
        mine, theirs = ((r.environment, r.subject, r.layers, r.rows) for r in (self, other))
        return mine == theirs

    def write(self, folder: Path, markdown: str) -> None:
        """The table and the numbers, in place of those of an earlier run."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.md").write_text(markdown)
        (folder / "cpu.json").write_text(json.dumps(self.as_dict(), indent=1) + "\n")


def _timings(stored: list[dict[str, Any]]) -> list[Timing]:
    return [Timing(**{**timing, "spread": timing["spread"] and tuple(timing["spread"])}) for timing in stored]
