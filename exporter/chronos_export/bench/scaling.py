"""Whether seconds a row stay what they are as the batch grows: ours at 100 and at 2000 rows."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chronos_export.bench.measure import compare
from chronos_export.bench.peers import OURS, peers_of
from chronos_export.bench.subject import Subject, with_layers
from chronos_export.bench.workloads import HORIZON, groups_of_20

LAYERS = 2
FEW, MANY = 100, 2000
ROUNDS = 2


@dataclass(frozen=True)
class Scaling:
    """Ours on onnxruntime, groups of 20, two layers.

    Attributes:
        seconds_a_row: Rows -> median over rounds.
        growth: Seconds a row at 2000 rows over those at 100, median of the ratios within a round.
        memory: Rows -> peak bytes on top of what was loaded; see `memory.PeakMemory`.
        batch_bytes: Rows -> bytes of the batch and its forecasts.
    """

    seconds_a_row: dict[int, float]
    growth: float
    memory: dict[int, int | None]
    batch_bytes: dict[int, int]


def scaling(subject: Subject, say: Callable[[str], None] = lambda _: None) -> Scaling:
    """Time two-layer random weights of the sizes of `subject` at 100 and at 2000 rows, in turn."""
    works = {rows: groups_of_20(rows) for rows in (FEW, MANY)}
    seconds: dict[int, list[float]] = {rows: [] for rows in works}
    memory: dict[int, int | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        small = with_layers(subject, LAYERS, Path(folder))
        ours = [peer for peer in peers_of(small) if peer.name == OURS]
        for _ in range(ROUNDS):
            for rows, work in works.items():
                (found,) = compare(ours, work, rounds=1, say=say)
                assert found.seconds is not None, found.note
                seconds[rows].append(found.seconds / rows)
                memory[rows] = found.memory
    quantiles = len(subject.model.chronos_config.quantiles)
    return Scaling(
        seconds_a_row={rows: statistics.median(each) for rows, each in seconds.items()},
        growth=statistics.median(m / f for f, m in zip(seconds[FEW], seconds[MANY], strict=True)),
        memory=memory,
        batch_bytes={n: 4 * n * (work.context.shape[1] + quantiles * HORIZON) for n, work in works.items()},
    )
