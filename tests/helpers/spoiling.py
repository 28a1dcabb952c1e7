"""Changes of JSON that an attacker, or an accident, would make."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

STRANGE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "a", "../a", "\x1b[31m", "a\nb", "$(touch x)", "'; rm -rf /; '", "\ud800", "x" * 100_000),
    *([], [None], [[]], {}, {"": {}}, {"a": 1}, [1, "2", 3.0]),
]
NAMES = ["new", "", "\x1b]0;", "sha256", "path"]


def spoil(content: dict[str, Any], random: np.random.Generator) -> None:
    """Change one value of a JSON object, drop it, or add another beside it."""
    everywhere = list(_places(content))
    *path, last = everywhere[random.integers(len(everywhere))]
    holder: Any = content
    for key in path:
        holder = holder[key]
    how = random.integers(4)
    strange = copy.deepcopy(STRANGE[random.integers(len(STRANGE))])
    if how == 0:
        del holder[last]
    elif how == 1 and isinstance(holder, dict):
        holder[NAMES[random.integers(len(NAMES))]] = strange
    else:
        holder[last] = strange


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON object."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))
