"""Seconds per sample as the batch grows, which is what pull request 442 is about."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf

from chronos_export.bench.comparison import CONTEXT, HORIZON

from .peers import LOOP, OURS, UPSTREAM, UPSTREAM_BEST, Peer, cpu_peers
from .records import Growth, Timing
from .subject import Subject
from .timing import Rules, compare
from .workloads import groups_of_20

LAYERS = 2
FEW, MANY = 100, 2000
ROWS = (FEW, 400, 1000, MANY)
PEERS = (UPSTREAM, UPSTREAM_BEST, LOOP, OURS)
ROUNDS = 2


def growth(
    subject: Subject, say: Callable[[str], None], rows: Sequence[int] = ROWS, rules: Rules | None = None
) -> Iterator[Growth]:
    """Time groups of 20 as the batch grows: all of it so far, again and again."""
    rules = rules or Rules(rounds=1, longest=inf)
    peers = [peer for peer in cpu_peers(subject) if peer.name in PEERS]
    found = Growth([], _ratio(next(peer for peer in peers if peer.name == OURS), rows, say))
    for count in rows:
        found = replace(found, timings=found.timings + _last(peers, count, rules, say))
        yield found


def _last(peers: list[Peer], rows: int, rules: Rules, say: Callable[[str], None]) -> list[Timing]:
    """What is known of all peers in the end."""
    return list(compare(peers, groups_of_20(rows), rules, say=say))[-len(peers) :]


def _ratio(ours: Peer, rows: Sequence[int], say: Callable[[str], None]) -> float:
    """See `Growth.ratio`; few and many rows in turn, so that drift cancels."""
    ratios = []
    for _ in range(ROUNDS):
        few, many = (_last([ours], count, Rules(rounds=1), say)[0] for count in (rows[0], rows[-1]))
        assert few.seconds_per_sample is not None and many.seconds_per_sample is not None, many.note
        ratios.append(many.seconds_per_sample / few.seconds_per_sample)
    return statistics.median(ratios)


def batch_bytes(rows: int, quantiles: int = 21) -> int:
    """Bytes of a batch and its forecasts."""
    return 4 * rows * (CONTEXT + quantiles * HORIZON)
