"""Synthetic training tasks: groups of series that need every part of the model.

A task is a group of rows: targets, then past-only covariates, then known future covariates. Each comes from
a seed of its own, so a pool is the same whatever order it is drawn in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from chronos.chronos2.preprocess import PreparedInput
from numpy.typing import NDArray
from scipy.signal import lfilter

Curve = NDArray[np.float64]
Rng = np.random.Generator

PERIODS = (4, 5, 7, 8, 10, 11, 12, 13, 22, 24, 26, 30, 48, 52, 60, 96, 144, 168, 336, 365)
SHORTEST, LONGEST = 64, 2700


def standard(curve: Curve) -> Curve:
    """The curve with mean 0 and deviation 1; a constant one becomes 0."""
    spread = curve.std()
    return (curve - curve.mean()) / spread if spread > 1e-9 else np.zeros_like(curve)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def season(rng: Rng, length: int) -> Curve:
    """A fixed pattern repeated, smooth or jagged, its strength drifting in one series of three."""
    longest = length / 4
    if rng.random() < 0.8:
        period = float(rng.choice([period for period in PERIODS if period <= longest]))
    else:
        period = log_uniform(rng, 2.5, longest)
    time = np.arange(length) + rng.uniform(0, period)
    if rng.random() < 0.7:
        harmonics = np.arange(1, 1 + rng.integers(1, 1 + max(1, min(6, int(period / 2)))))
        size = rng.normal(size=harmonics.size) / harmonics ** rng.uniform(0.3, 2.0)
        phase = rng.uniform(0, 2 * np.pi, (harmonics.size, 1))
        curve = size @ np.sin(2 * np.pi * harmonics[:, None] * time / period + phase)
    else:
        pattern = rng.normal(size=max(2, round(period)))
        pattern *= rng.random(pattern.size) < rng.uniform(0.1, 1)
        curve = pattern[time.astype(int) % pattern.size]
    if rng.random() < 0.33:
        curve = curve * (1 + 0.5 * standard(walk(rng, length)))
    return curve


def cycle(rng: Rng, length: int) -> Curve:
    """A stochastic cycle: an AR(2) process with complex roots, like sunspots."""
    radius, angle = 1 - log_uniform(rng, 1e-3, 0.15), 2 * np.pi / log_uniform(rng, 3.0, 120.0)
    shocks = rng.normal(size=length + 200)
    return lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], shocks)[200:]


def autoregression(rng: Rng, length: int) -> Curve:
    """AR(1) around a fixed level."""
    return lfilter([1.0], [1.0, -rng.uniform(-0.3, 0.99)], rng.normal(size=length + 200))[200:]


def noise(rng: Rng, length: int) -> Curve:
    """White noise, Gaussian or heavy-tailed, in calm and in wild stretches."""
    curve = rng.standard_t(4, length) if rng.random() < 0.3 else rng.normal(size=length)
    if rng.random() < 0.2:
        curve = curve * np.exp(0.7 * standard(autoregression(rng, length)))
    return curve


def walk(rng: Rng, length: int) -> Curve:
    """An integrated process: a walk with drift, persistent steps, or a wandering slope."""
    steps = rng.normal(size=length)
    kind = rng.random()
    if kind < 0.4:
        steps = lfilter([1.0], [1.0, -rng.uniform(0.0, 0.95)], steps)
    elif kind < 0.55:
        steps = np.cumsum(steps) + 3 * rng.normal() * np.sqrt(length)
    return np.cumsum(steps + rng.normal() * log_uniform(rng, 0.01, 2.0))


def trend(rng: Rng, length: int) -> Curve:
    """A deterministic trend: a line, a bent line, exponential growth or saturation."""
    time = np.linspace(0, 1, length)
    kind = rng.integers(4)
    if kind == 0:
        return time * rng.choice([-1.0, 1.0])
    if kind == 1:
        bends = rng.uniform(0, 1, rng.integers(1, 5))
        return rng.normal() * time + np.maximum(time[:, None] - bends, 0) @ rng.normal(size=bends.size) * 2
    if kind == 2:
        return np.exp(rng.uniform(-4, 4) * time)
    return 1 / (1 + np.exp(-rng.uniform(5, 30) * (time - rng.uniform(0, 1))))


def steps(rng: Rng, length: int) -> Curve:
    """Level shifts at random times."""
    return np.cumsum(rng.normal(size=length) * (rng.random(length) < rng.uniform(1, 8) / length))


PARTS: tuple[tuple[float, Callable[[Rng, int], Curve]], ...] = (
    (0.60, season),
    (0.15, season),
    (0.15, cycle),
    (0.20, autoregression),
    (0.35, walk),
    (0.30, trend),
    (0.05, steps),
)


def series(rng: Rng, length: int) -> Curve:
    """A random sum of parts, sometimes bent: grown exponentially, counted, cut at zero."""
    curve = np.zeros(length)
    for probability, part in PARTS:
        if rng.random() < probability:
            curve += log_uniform(rng, 0.2, 3.0) * standard(part(rng, length))
    curve = standard(curve) + log_uniform(rng, 0.002, 0.7) * standard(noise(rng, length))
    bend = rng.random()
    if bend < 0.2:
        curve = np.exp(rng.uniform(0.1, 1.2) * standard(curve))
    elif bend < 0.25:
        curve = np.round(standard(curve) * log_uniform(rng, 1, 30))
    elif bend < 0.30:
        curve = np.maximum(curve, np.quantile(curve, rng.uniform(0.02, 0.5)))
    return standard(curve)


def lagged(curve: Curve, lag: int) -> Curve:
    """The curve `lag` steps late; its first value stands for what came before."""
    return np.concatenate([np.full(lag, curve[0]), curve[: curve.size - lag]])


def loading(rng: Rng) -> float:
    """How strongly one series drives another: mostly upwards, so that the sign can be learnt last."""
    size = abs(rng.normal())
    return size if rng.random() < 0.8 else -size


def shared_factors(rng: Rng, length: int) -> Curve:
    """Rows that mix a few common series, some of them late, plus something of their own: [rows, length]."""
    factors = [series(rng, length) for _ in range(rng.integers(1, 4))]
    own = log_uniform(rng, 0.02, 1.0)
    rows = []
    for _ in range(rng.integers(2, 7)):
        mixed = sum(loading(rng) * lagged(factor, rng.integers(0, 9)) for factor in factors)
        rows.append(standard(np.asarray(mixed)) + own * series(rng, length))
    return np.stack(rows)


def driver(rng: Rng, length: int) -> Curve:
    """A covariate: events, a calendar flag, or any series."""
    kind = rng.random()
    if kind < 0.25:
        return (rng.random(length) < rng.uniform(0.01, 0.2)).astype(float)
    if kind < 0.4:
        period = rng.integers(4, 31)
        return ((np.arange(length) + rng.integers(period)) % period < rng.integers(1, period)).astype(float)
    return autoregression(rng, length) if kind < 0.7 else series(rng, length)


def driven(rng: Rng, length: int) -> tuple[Curve, int]:
    """Targets driven by covariates: [rows, length], the covariates last, and the number of targets."""
    covariates = [driver(rng, length) for _ in range(rng.integers(1, 4))]
    own = log_uniform(rng, 0.02, 0.5)
    targets = []
    for _ in range(rng.integers(1, 3)):
        effect = np.zeros(length)
        for covariate in covariates:
            lag = rng.integers(0, 4) if rng.random() < 0.2 else 0
            effect += loading(rng) * standard(lagged(covariate, lag))
        targets.append(standard(effect) + own * series(rng, length))
    return np.stack(targets + covariates), len(targets)


def with_gaps(rng: Rng, rows: Curve) -> Curve:
    """The rows with values missing here and there, or for whole stretches."""
    rows = rows.copy()
    length = rows.shape[1]
    for row in rows:
        row[rng.random(length) < log_uniform(rng, 0.005, 0.3)] = np.nan
        if rng.random() < 0.5:
            start = rng.integers(length)
            row[start : start + rng.integers(1, 1 + length // 5)] = np.nan
    return rows


def task(seed: int, index: int) -> PreparedInput:
    """Task `index` of the pool `seed`, in the form upstream's dataset takes.

    Returns:
        context float32 [rows, length], NaN = missing, and how many rows are targets and covariates.
    """
    rng = np.random.default_rng([seed, index])
    length = int(log_uniform(rng, SHORTEST, LONGEST))
    known = 0
    kind = rng.random()
    if kind < 0.45:
        rows, targets = series(rng, length)[None], 1
    elif kind < 0.65:
        rows = shared_factors(rng, length)
        targets = rows.shape[0] if rng.random() < 0.7 else 1
    else:
        rows, targets = driven(rng, length)
        known = rows.shape[0] - targets
        if rng.random() < 0.3:
            known = int(rng.integers(0, known + 1))
    if rng.random() < 0.15:
        observed = rows.shape[0] - known
        rows = np.concatenate([with_gaps(rng, rows[:observed]), rows[observed:]])
    return PreparedInput(
        context=torch.from_numpy(rows.astype(np.float32)),
        future_covariates=torch.empty(rows.shape[0], 0),
        n_targets=targets,
        n_covariates=rows.shape[0] - targets,
        n_future_covariates=known,
    )


def pool(seed: int, size: int) -> list[PreparedInput]:
    """`size` tasks; the same seed gives the same tasks."""
    return [task(seed, index) for index in range(size)]
