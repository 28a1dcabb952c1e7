"""The batches that peers are timed on. A sample is one group, as in pull request 442's numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from chronos_export.bench.comparison import CONTEXT, GROUP, HORIZON

GROUPED, SINGLE = f"groups of {GROUP}", "univariate"


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
    horizon: int = HORIZON

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
        contexts, ids = (x[: sum(calls)].split(calls) for x in (self.context, self.group_ids))
        return [replace(self, context=x, group_ids=i) for x, i in zip(contexts, ids, strict=True)]

    def ends(self) -> Workload:
        """Its first two rows and its last two, or one of few: enough to warm up on."""
        chosen = torch.tensor([0, 1, -2, -1] if self.rows >= 4 else [0])
        return replace(self, context=self.context[chosen], group_ids=self.group_ids[chosen])


def workloads(device: str, rows: int) -> list[Workload]:
    """What batches look like, for a machine that bears groups of 20 with `rows` rows.

    Where every batch is slow to forecast for reasons of its own, fewer rows say as much. A GPU's come in the
    order of their worth: its time may run out.
    """
    part = max(GROUP, 2 * rows // 5)
    if device == "cuda":
        few = [groups_of_20(rows // 5 // GROUP * GROUP)] if rows >= 5 * GROUP else []
        return [groups_of_20(rows), *few, univariate(rows), groups_of_20(GROUP), ragged(part)]
    return [
        univariate(1),
        *(groups_of_20(size) for size in sorted({GROUP, rows})),
        univariate(rows),
        one_group(min(rows, 100)),
        *([one_group(256)] if rows >= 256 else []),
        skewed(part),
        ragged(part),
        long_context(max(2, rows // 50)),
    ]


def of_rows(kind: str, rows: int) -> str:
    """The name of a workload: `groups of 20, 100 rows`."""
    return f"{kind}, {rows} row{'s' if rows > 1 else ''}"


def groups_of_20(rows: int) -> Workload:
    """Pull request 442's: context 1440, 20 series in a group, horizon 96."""
    return _workload(of_rows(GROUPED, rows), [GROUP] * (rows // GROUP))


def univariate(rows: int) -> Workload:
    """Every row a group of its own."""
    return _workload(of_rows(SINGLE, rows), [1] * rows)


def one_group(rows: int) -> Workload:
    """Cross learning."""
    return _workload(f"one group of {rows}", [rows])


def skewed(rows: int) -> Workload:
    """One group of a quarter of the rows among univariate ones."""
    large = rows // 4
    return _workload(of_rows(f"one of {large} among univariate", rows), [1] * (rows - large) + [large])


def ragged(rows: int) -> Workload:
    """Univariate rows whose lengths are log-uniform from 64 to 2048."""
    work = _workload(of_rows("ragged", rows), [1] * rows, 2048)
    lengths = np.exp(np.random.default_rng(1).uniform(np.log(64), np.log(2048), rows)).astype(int)
    for row, length in enumerate(lengths):
        work.context[row, : 2048 - length] = torch.nan
    return work


def long_context(rows: int) -> Workload:
    """Univariate rows of the longest context that the model reads."""
    return _workload(of_rows("context 8192", rows), [1] * rows, 8192)


def _workload(name: str, sizes: list[int], length: int = CONTEXT) -> Workload:
    random, shape = np.random.default_rng(0), (sum(sizes), length)
    wave = np.sin(2 * np.pi * np.arange(length) / random.uniform(5, 60, (shape[0], 1)))
    values = wave + random.normal(0, 0.1, shape).cumsum(axis=1) * 0.1 + random.normal(0, 0.2, shape)
    ids = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
    return Workload(name, torch.from_numpy(values.astype(np.float32)), ids)
