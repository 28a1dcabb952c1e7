"""Synthetic training batches: series, and groups of series that need every part of the model.

Series are drawn once, many at a time, into a pool; batches cut windows out of them and join rows to groups.
All curves are [rows, time].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Curves = NDArray[np.float32]
Rng = np.random.Generator

PERIODS = (*range(3, 31), 4, 7, 7, 12, 12, 12, 24, 24, 36, 48, 52, 52, 60)
CHUNK = 2048


@dataclass(frozen=True)
class Batch:
    """What the model is trained on: the names are those of its `forward`."""

    context: torch.Tensor
    group_ids: torch.Tensor
    future_covariates: torch.Tensor
    future_target: torch.Tensor
    num_output_patches: int


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
    """Curves drawn once, from which batches are cut."""

    def __init__(self, seed: int, rows: int, length: int) -> None:
        self.rng = np.random.default_rng(seed)
        chunks = [min(CHUNK, rows - begin) for begin in range(0, rows, CHUNK)]
        few = chunks[: len(chunks) // 4 + 1]
        self.series = np.concatenate([series(self.rng, size, length) for size in chunks])
        self.drivers = np.concatenate([drivers(self.rng, size, length) for size in few])

    def cut(self, curves: Curves, rows: int, length: int) -> Curves:
        """Windows of random curves, half of them upside down: [rows, length]."""
        row = self.rng.integers(0, curves.shape[0], rows)
        start = self.rng.integers(0, curves.shape[1] - length + 1, (rows, 1))
        sign = self.rng.choice(np.array([-1, 1], np.float32), (rows, 1))
        return sign * curves[row[:, None], start + np.arange(length)]

    def driven(self, groups: int, length: int) -> Curves:
        """Targets that are sums of two covariates and something of their own: [groups, 3, length]."""
        own = self.cut(self.series, groups, length) * column(self.rng, groups, 0.02, 0.5)
        known = self.cut(self.drivers, 2 * groups, length).reshape(groups, 2, length)
        weights = normal(self.rng, groups, 2, 1) * np.where(self.rng.random((groups, 2, 1)) < 0.7, 1, 0)
        target = (weights * known).sum(axis=1, keepdims=True) + own[:, None]
        return np.concatenate([target, known], axis=1).astype(np.float32)

    def related(self, groups: int, length: int) -> Curves:
        """Series that share two factors: [groups, 3, length]."""
        factors = self.cut(self.series, 2 * groups, length).reshape(groups, 2, length)
        own = self.cut(self.series, 3 * groups, length).reshape(groups, 3, length)
        loadings = normal(self.rng, groups, 3, 2)
        return loadings @ factors + own * column(self.rng, groups, 0.02, 1)[..., None]

    def batch(self, rows: int, context: int, horizon: int, patch: int) -> Batch:
        """About `rows` rows: half alone, three in ten driven by covariates, the rest related.

        Args:
            rows: Rows, rounded down to whole groups.
            context: Steps of the past.
            horizon: Steps to forecast, whole patches.
            patch: Steps in a patch.
        """
        length, driven, related = context + horizon, rows // 10, rows // 15
        alone = rows - 3 * (driven + related)
        curves = np.concatenate(
            [
                self.cut(self.series, alone, length),
                self.driven(driven, length).reshape(-1, length),
                self.related(related, length).reshape(-1, length),
            ]
        )
        ids = np.concatenate([np.arange(alone), alone + np.arange(3 * (driven + related)) // 3])
        past, future = curves[:, :context].copy(), curves[:, context:].copy()
        gaps = chance(self.rng, rows, 0.1) & (self.rng.random(past.shape) < column(self.rng, rows, 0.01, 0.3))
        begin = self.rng.integers(0, np.where(chance(self.rng, rows, 0.2), context // 2, patch))
        past[gaps | (np.arange(context) < begin)] = np.nan
        known = np.full_like(future, np.nan)
        covariate = (np.arange(3 * driven) % 3 > 0).nonzero()[0] + alone
        told = covariate[np.repeat(self.rng.random(driven) < 0.85, 2)]
        known[told] = future[told]
        future[covariate] = np.nan
        return Batch(*map(torch.from_numpy, (past, ids, known, future)), num_output_patches=horizon // patch)
