"""The batches that peers are timed on. A sample is one group, as in pull request 442's numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CONTEXT, HORIZON = 1440, 96  # pull request 442's setting
GROUPED, SINGLE = "groups of 20", "single rows"


@dataclass(frozen=True)
class Workload:
    """One batch; the rows of a group lie side by side.

    Attributes:
        name: What it stands for.
        context: float32 [rows, context_length], NaN = missing.
        group_ids: int64 [rows].
        horizon: Steps ahead.
    """

    name: str
    context: Tensor
    group_ids: Tensor
    horizon: int

    @property
    def rows(self) -> int:
        return len(self.group_ids)

    @property
    def samples(self) -> int:
        return len(self.group_ids.unique())

    def cut(self, size: int) -> tuple[int, ...]:
        """Rows of each call when a call takes about `size` of them, whole groups each."""
        _, counts = self.group_ids.unique_consecutive(return_counts=True)
        calls: list[int] = []
        for count in counts.tolist():
            if calls and calls[-1] + count <= size:
                calls[-1] += count
            else:
                calls.append(count)
        return tuple(calls)

    def pieces(self, calls: tuple[int, ...]) -> list[Workload]:
        """The first `sum(calls)` rows in calls of that many rows each."""
        contexts = self.context[: sum(calls)].split(calls)
        ids = self.group_ids[: sum(calls)].split(calls)
        return [Workload(self.name, x, i, self.horizon) for x, i in zip(contexts, ids, strict=True)]

    def ends(self) -> Workload:
        """Its first two rows and its last two, or one of few: enough to warm up on."""
        chosen = torch.tensor([0, 1, -2, -1] if self.rows >= 4 else [0])
        return Workload(self.name, self.context[chosen], self.group_ids[chosen], self.horizon)


def all_workloads(rows: int) -> list[Workload]:
    """What batches look like, for a machine that bears groups of 20 with `rows` rows.

    Where every batch is slow to forecast for reasons of its own, fewer rows say as much.
    """
    return [
        single_rows(1),
        *(groups_of_20(size) for size in sorted({20, rows})),
        single_rows(rows),
        one_group(min(rows, 100)),
        *([one_group(256)] if rows >= 256 else []),
        skewed(max(20, 2 * rows // 5)),
        ragged(max(20, 2 * rows // 5)),
        long_context(max(2, rows // 50)),
    ]


def of_rows(kind: str, rows: int) -> str:
    """The name of a workload: `groups of 20, 100 rows`."""
    return f"{kind}, {rows} row{'s' if rows > 1 else ''}"


def groups_of_20(rows: int) -> Workload:
    """Pull request 442's: context 1440, 20 series a group, horizon 96."""
    return _workload(of_rows(GROUPED, rows), [20] * (rows // 20), CONTEXT)


def single_rows(rows: int) -> Workload:
    """Univariate forecasting."""
    return _workload(of_rows(SINGLE, rows), [1] * rows, CONTEXT)


def one_group(rows: int) -> Workload:
    """Cross learning."""
    return _workload(f"one group of {rows}", [rows], CONTEXT)


def skewed(rows: int) -> Workload:
    """One group of a quarter of the rows among singles."""
    large = rows // 4
    return _workload(of_rows(f"one of {large} among singles", rows), [1] * (rows - large) + [large], CONTEXT)


def ragged(rows: int) -> Workload:
    """Univariate rows whose lengths are log-uniform from 64 to 2048."""
    work = _workload(of_rows("ragged", rows), [1] * rows, 2048)
    lengths = np.exp(np.random.default_rng(1).uniform(np.log(64), np.log(2048), rows)).astype(int)
    for row, length in enumerate(lengths):
        work.context[row, : 2048 - length] = torch.nan
    return work


def long_context(rows: int) -> Workload:
    return _workload(of_rows("context 8192", rows), [1] * rows, 8192)


def _workload(name: str, sizes: list[int], length: int) -> Workload:
    random = np.random.default_rng(0)
    rows = sum(sizes)
    steps = np.arange(length)
    wave = np.sin(2 * np.pi * steps / random.uniform(5, 60, (rows, 1)))
    values = (
        wave
        + random.normal(0, 0.1, (rows, length)).cumsum(axis=1) * 0.1
        + random.normal(0, 0.2, (rows, length))
    )
    ids = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
    return Workload(name, torch.from_numpy(values.astype(np.float32)), ids, HORIZON)
