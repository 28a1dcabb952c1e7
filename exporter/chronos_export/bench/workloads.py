"""The batches that peers are timed on. A sample is one group, as in pull request 442's numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CONTEXT, HORIZON = 1440, 96  # pull request 442's setting


@dataclass(frozen=True)
class Workload:
    """One batch.

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


def groups_of_20(rows: int) -> Workload:
    """Pull request 442's: context 1440, 20 series a group, horizon 96."""
    return _workload(f"groups of 20, {rows} rows", [20] * (rows // 20), CONTEXT)


def univariate(rows: int) -> Workload:
    return _workload(f"univariate, {rows} rows", [1] * rows, CONTEXT)


def one_group(rows: int) -> Workload:
    """Cross learning."""
    return _workload(f"one group of {rows}", [rows], CONTEXT)


def skewed(rows: int) -> Workload:
    """One group of a quarter of the rows among singles."""
    large = rows // 4
    return _workload(f"one of {large} among singles, {rows} rows", [large] + [1] * (rows - large), CONTEXT)


def ragged(rows: int) -> Workload:
    """Univariate rows whose lengths are log-uniform from 64 to 2048."""
    work = _workload(f"ragged, {rows} rows", [1] * rows, 2048)
    lengths = np.exp(np.random.default_rng(1).uniform(np.log(64), np.log(2048), rows)).astype(int)
    for row, length in enumerate(lengths):
        work.context[row, : 2048 - length] = torch.nan
    return work


def long_context(rows: int) -> Workload:
    return _workload(f"context 8192, {rows} rows", [1] * rows, 8192)


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
