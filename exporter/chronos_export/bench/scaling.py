"""Seconds a sample as the batch grows, which is what pull request 442 is about: groups of 20, two layers."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

from chronos_export.bench.measure import Timing, compare
from chronos_export.bench.peers import LOOP, OURS, UPSTREAM, UPSTREAM_BEST, Peer, peers_of
from chronos_export.bench.subject import Subject, with_layers
from chronos_export.bench.workloads import HORIZON, groups_of_20

LAYERS = 2
FEW, MANY = 100, 2000
ROWS = (FEW, 400, 1000, MANY)
PEERS = (UPSTREAM, UPSTREAM_BEST, LOOP, OURS)
ROUNDS = 2


@dataclass(frozen=True)
class Scaling:
    """Two-layer random weights on groups of 20.

    Attributes:
        timings: The peers at every number of rows.
        growth: Ours: seconds a sample at 2000 rows over those at 100, median of the ratios within a round.
        batch_bytes: Rows -> bytes of the batch and its forecasts.
    """

    timings: list[Timing]
    growth: float
    batch_bytes: dict[int, int]

    def of(self, peer: str) -> dict[int, Timing]:
        """Rows -> the timing of a peer."""
        return {timing.rows: timing for timing in self.timings if timing.peer == peer}


def scaling(subject: Subject, say: Callable[[str], None] = lambda _: None) -> Scaling:
    """Time two-layer random weights of the sizes of `subject` as the batch grows."""
    works = {rows: groups_of_20(rows) for rows in ROWS}
    quantiles = len(subject.model.chronos_config.quantiles)
    with tempfile.TemporaryDirectory() as folder:
        peers = [peer for peer in peers_of(with_layers(subject, LAYERS, Path(folder))) if peer.name in PEERS]
        return Scaling(
            timings=[t for work in works.values() for t in compare(peers, work, 1, longest=inf, say=say)],
            growth=_growth(next(peer for peer in peers if peer.name == OURS), say),
            batch_bytes={n: 4 * n * (x.context.shape[1] + quantiles * HORIZON) for n, x in works.items()},
        )


def _growth(ours: Peer, say: Callable[[str], None]) -> float:
    """See `Scaling.growth`; few and many rows in turn, so that drift cancels."""
    ratios = []
    for _ in range(ROUNDS):
        few, many = (compare([ours], groups_of_20(rows), 1, say=say)[0] for rows in (FEW, MANY))
        assert few.seconds_a_sample is not None and many.seconds_a_sample is not None, many.note
        ratios.append(many.seconds_a_sample / few.seconds_a_sample)
    return statistics.median(ratios)
