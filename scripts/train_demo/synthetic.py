"""Synthetic training tasks: series, and groups of series that need every part of the model.

Series are drawn once, many at a time, into a pool; tasks cut windows out of them and join rows to groups.
All curves are [rows, time].
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from chronos.chronos2.preprocess import PreparedInput
from numpy.typing import NDArray

Curves = NDArray[np.float32]
Rng = np.random.Generator

PERIODS = (*range(3, 31), 4, 7, 7, 12, 12, 12, 24, 24, 36, 48, 52, 52, 60)
CHUNK = 2048
KINDS = (0.75, 0.15, 0.10)  # of tasks: alone, driven, related


def standard(curves: Curves) -> Curves:
    """Each row with mean 0 and deviation 1; a constant row becomes 0."""
    centred = curves - curves.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-6), np.float32)


def column(rng: Rng, rows: int, low: float, high: float) -> Curves:
    """One log-uniform value a row: [rows, 1]."""
    return np.exp(rng.uniform(np.log(low), np.log(high), (rows, 1))).astype(np.float32)


def normal(rng: Rng, *shape: int) -> Curves:
    return rng.standard_normal(shape, dtype=np.float32)


def chance(rng: Rng, rows: int, probability: float) -> NDArray[np.bool_]:
    """One flag a row: [rows, 1]."""
    return rng.random((rows, 1)) < probability


def seasons(rng: Rng, rows: int, length: int) -> Curves:
    """A fixed pattern repeated: smooth, or any values at all; four periods of five are whole."""
    whole = rng.choice(PERIODS, (rows, 1)).astype(np.float32)
    period = np.where(chance(rng, rows, 0.8), whole, column(rng, rows, 3, 70))
    time = np.arange(length, dtype=np.float32) + rng.uniform(0, 70, (rows, 1)).astype(np.float32)
    smooth, decay = np.zeros((rows, length), np.float32), rng.uniform(0.5, 3, (rows, 1))
    for harmonic in range(1, 6):
        size = normal(rng, rows, 1) * harmonic**-decay * (harmonic <= period / 2)
        turn = np.float32(2 * np.pi) * (harmonic * time / period + rng.random((rows, 1)))
        smooth += (size * np.sin(turn, dtype=np.float32)).astype(np.float32)
    step = (time.astype(int) % np.round(period).astype(int)).astype(int)
    jagged = np.take_along_axis(normal(rng, rows, 71), step, axis=1)
    return standard(np.where(chance(rng, rows, 0.8), smooth, jagged))


def recursion(shocks: Curves, first: Curves, second: Curves) -> Curves:
    """An AR(2) process: x[t] = first x[t-1] + second x[t-2] + shock[t]; the first 100 steps are dropped."""
    curves = shocks.copy()
    for time in range(2, curves.shape[1]):
        curves[:, time] += first[:, 0] * curves[:, time - 1] + second[:, 0] * curves[:, time - 2]
    return standard(curves[:, 100:])


def cycles(rng: Rng, rows: int, length: int) -> Curves:
    """Stochastic cycles, like sunspots."""
    radius, angle = 1 - column(rng, rows, 0.003, 0.15), 2 * np.pi / column(rng, rows, 4, 60)
    return recursion(normal(rng, rows, length + 100), 2 * radius * np.cos(angle), -(radius**2))


def autoregressions(rng: Rng, rows: int, length: int) -> Curves:
    """AR(1) around a fixed level."""
    damping = 1 - column(rng, rows, 0.01, 1)
    return recursion(normal(rng, rows, length + 100), damping, np.zeros_like(damping))


def walks(rng: Rng, rows: int, length: int) -> Curves:
    """Walks with drift; in one row of two the drift itself wanders."""
    drift = normal(rng, rows, 1) * column(rng, rows, 0.01, 1)
    wander = np.cumsum(normal(rng, rows, length), axis=1) * column(rng, rows, 0.003, 0.3)
    steps = normal(rng, rows, length) + drift + wander * chance(rng, rows, 0.5)
    return standard(np.cumsum(steps, axis=1))


def trends(rng: Rng, rows: int, length: int) -> Curves:
    """A line that bends once, or exponential growth, up or down."""
    time = np.linspace(0, 1, length, dtype=np.float32)
    bent = normal(rng, rows, 1) * time + normal(rng, rows, 1) * np.maximum(time - rng.random((rows, 1)), 0)
    growth = np.exp(rng.uniform(-4, 4, (rows, 1)) * time) * rng.choice([-1, 1], (rows, 1))
    return standard(np.where(chance(rng, rows, 0.7), bent, growth))


def series(rng: Rng, rows: int, length: int) -> Curves:
    """A random sum of parts, with a little or much noise."""
    parts = (
        (0.65, seasons),
        (0.15, seasons),
        (0.15, cycles),
        (0.15, autoregressions),
        (0.30, walks),
        (0.30, trends),
    )
    curves = np.zeros((rows, length), np.float32)
    for probability, part in parts:
        size = column(rng, rows, 0.3, 3) * chance(rng, rows, probability)
        curves += size * part(rng, rows, length)
    return standard(standard(curves) + column(rng, rows, 0.01, 0.7) * normal(rng, rows, length))


def drivers(rng: Rng, rows: int, length: int) -> Curves:
    """Covariates: noise, rare events, or an autoregression."""
    events = rng.random((rows, length)) < column(rng, rows, 0.05, 0.5)
    kind = rng.integers(0, 3, (rows, 1))
    noise = normal(rng, rows, length)
    curves = np.where(kind == 0, noise, np.where(kind == 1, events, autoregressions(rng, rows, length)))
    return standard(curves.astype(np.float32))


class Pool:
    """Curves drawn once, from which tasks are cut."""

    def __init__(self, seed: int, rows: int, length: int) -> None:
        rng = np.random.default_rng(seed)
        chunks = [min(CHUNK, rows - begin) for begin in range(0, rows, CHUNK)]
        few = chunks[: len(chunks) // 4 + 1]
        self.series = np.concatenate([series(rng, size, length) for size in chunks])
        self.drivers = np.concatenate([drivers(rng, size, length) for size in few])


class Tasks(Sequence[PreparedInput]):
    """Training tasks in the form of upstream's `fit`, drawn when asked for: task `i` is always the same.

    Half of the tasks' rows are series alone, three in ten are driven by covariates, the rest are related.

    Args:
        pool: What the curves are cut from.
        seed: Another seed gives other tasks.
        count: How many there are.
        shortest: Steps of the shortest task; lengths are log-uniform.
        longest: Steps of the longest.
        horizon: Steps to forecast.
    """

    def __init__(self, pool: Pool, seed: int, count: int, shortest: int, longest: int, horizon: int) -> None:
        self.pool, self.seed, self.count = pool, seed, count
        self.shortest, self.longest, self.horizon = shortest, longest, horizon
        self.drawn = functools.lru_cache(maxsize=4096)(self.draw)  # upstream asks for each task three times

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> PreparedInput:
        return self.drawn(int(index))

    def draw(self, index: int) -> PreparedInput:
        """Task `index`: rows as [targets, covariates], all of one length."""
        rng = np.random.default_rng((self.seed, index))
        length = int(column(rng, 1, self.shortest, self.longest)[0, 0])
        kind = rng.choice(3, p=KINDS)
        if kind == 0:
            curves, targets, known = self.cut(rng, self.pool.series, 1, length), 1, 0
        elif kind == 1:
            curves, targets, known = self.driven(rng, length), 1, 2 * int(rng.random() < 0.85)
        else:
            curves, targets, known = self.related(rng, length), 3, 0
        rows = len(curves)
        gaps = chance(rng, rows, 0.1) & (rng.random(curves.shape) < column(rng, rows, 0.01, 0.3))
        late = rng.integers(0, np.where(chance(rng, rows, 0.2), length // 2, 1))
        curves[gaps | (np.arange(length) < late)] = np.nan
        return {
            "context": torch.from_numpy(curves),
            "future_covariates": torch.full((rows, self.horizon), torch.nan),
            "n_targets": targets,
            "n_covariates": rows - targets,
            "n_future_covariates": known,
        }

    def cut(self, rng: Rng, curves: Curves, rows: int, length: int) -> Curves:
        """Windows of random curves, half of them upside down: [rows, length]."""
        row = rng.integers(0, curves.shape[0], rows)
        start = rng.integers(0, curves.shape[1] - length + 1, (rows, 1))
        sign = rng.choice(np.array([-1, 1], np.float32), (rows, 1))
        return sign * curves[row[:, None], start + np.arange(length)]

    def driven(self, rng: Rng, length: int) -> Curves:
        """A target that is a sum of two covariates and something of its own, and the covariates."""
        own = self.cut(rng, self.pool.series, 1, length) * column(rng, 1, 0.02, 0.5)
        known = self.cut(rng, self.pool.drivers, 2, length)
        weights = normal(rng, 1, 2) * np.where(rng.random((1, 2)) < 0.7, 1, 0)
        return np.concatenate([weights @ known + own, known]).astype(np.float32)

    def related(self, rng: Rng, length: int) -> Curves:
        """Three series that share two factors."""
        factors = self.cut(rng, self.pool.series, 2, length)
        own = self.cut(rng, self.pool.series, 3, length)
        return np.asarray(normal(rng, 3, 2) @ factors + own * column(rng, 1, 0.02, 1), np.float32)
