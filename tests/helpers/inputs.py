"""Whatever a pipeline can be given to forecast, for hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import NDArray

NUMERIC, CATEGORICAL = ("float32", "float64", "integers"), ("booleans", "strings", "gaps", "objects")
WORDS = np.array(["fair", "rain", "snow", "nan", "Z", "a", ""])
OBJECTS = np.array(["fair", "rain", None, float("nan"), True, 3, 2.5], dtype=object)


def series(random: Generator, *shape: int) -> NDArray[Any]:
    """Random walks with gaps, or constants, of some type."""
    values = random.standard_normal(shape).cumsum(-1) * 10.0 ** random.integers(-2, 4)
    if random.random() < 0.15:
        values = np.full(shape, float(random.integers(-3, 4)))
    values[random.random(shape) < random.choice([0, 0.2])] = np.nan
    if random.random() < 0.2:
        return np.nan_to_num(values).astype(random.choice(["int64", "int16", "bool"]))
    return values.astype(random.choice(["float32", "float64"]))


def covariate(random: Generator, kind: str, steps: int) -> NDArray[Any]:
    """Values of a kind."""
    match kind:
        case "booleans":
            return random.random(steps) < 0.5
        case "strings":
            return random.choice(WORDS[: random.integers(1, len(WORDS) + 1)], steps)
        case "gaps":
            return np.where(random.random(steps) < 0.3, None, covariate(random, "strings", steps))
        case "objects":
            return random.choice(OBJECTS, steps)
        case "integers":
            return random.integers(-5, 6, steps)
    values = random.standard_normal(steps)
    values[random.random(steps) < 0.1] = np.nan
    return values.astype(kind)


def dictionaries(random: Generator, prediction_length: int, names: dict[str, str], known: set[str]) -> Any:
    """A list of dictionaries with covariates, name -> kind, some of them known ahead."""
    targets = int(random.integers(0, 4))
    unavailable = {name for name in known if random.random() < 0.2}
    ahead = {
        name: kind if kind in NUMERIC else random.choice([kind, *CATEGORICAL, "integers"])
        for name, kind in names.items()
    }
    nothing = random.choice(np.array([None, []], dtype=object))
    items = []
    for _ in range(random.integers(1, 7)):
        steps = int(random.integers(1, 90))
        item: dict[str, Any] = {"target": series(random, *([targets] if targets else []), steps)}
        if names:
            item["past_covariates"] = {name: covariate(random, kind, steps) for name, kind in names.items()}
        if known:
            item["future_covariates"] = {
                name: nothing if name in unavailable else covariate(random, ahead[name], prediction_length)
                for name in known
            }
        items.append(item)
    return items


@st.composite
def inputs(draw: st.DrawFn, prediction_length: int) -> Any:
    """An array, a list of arrays, or a list of dictionaries."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    form = draw(st.sampled_from(["array", "arrays", "dictionaries"]))
    if form == "array":
        return series(random, *random.integers(1, 6, 2), random.integers(1, 90))
    if form == "arrays":
        shapes = [[*random.integers(1, 4, random.integers(0, 2)), random.integers(1, 90)] for _ in range(8)]
        return [series(random, *shape) for shape in shapes[: random.integers(1, 9)]]
    names = draw(
        st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(NUMERIC + CATEGORICAL), max_size=4)
    )
    known = draw(st.sets(st.sampled_from(sorted(names)))) if names else set()
    return dictionaries(random, prediction_length, names, known)
