"""The weights of a graph, taken from bytes that were verified.

A runtime that is given a path opens `weights.bin`, and whatever else a graph names, by itself: after it was
hashed, and whether or not it was. So runtimes get the graph as bytes, and its weights as arrays over bytes.
For that the graph's tensors are looked up here, in its protobuf encoding: who forecasts need not have `onnx`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import IntegrityError
from chronos_export.graph_contract import WEIGHTS

Place = tuple[int, int]  # where a message begins and ends
Pieces = list[bytes]  # of an encoded message, in order

# The messages that may hold a tensor, however deep: field number -> what it holds.
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
GRAPH, INITIALIZER = 7, 5  # fields of a model and of a graph
DIMS, KIND, NAME, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 8, 9, 13, 14  # fields of a tensor
LOCATION = b"location"  # the key without which no tensor has external data
BFLOAT16 = 16
NUMPY_TYPES = {1: "f4", 2: "u1", 3: "i1", 6: "i4", 7: "i8", 9: "?", 10: "f2", 11: "f8", BFLOAT16: "u2"}


@dataclass(frozen=True)
class Weight:
    """A tensor over bytes of the weights.

    Attributes:
        values: The array; bfloat16 as uint16, since numpy has no such type.
        kind: ONNX's number of the type.
    """

    values: NDArray[np.generic]
    kind: int


class _MalformedError(ValueError):
    """A graph is not encoded as a graph is, or asks for other files."""


def weights_of(graph: bytes, weights: memoryview) -> dict[str, Weight]:
    """Name -> tensor, of all tensors that a graph keeps in `weights.bin`.

    Args:
        graph: An ONNX model.
        weights: The content of `weights.bin`; nothing is copied.

    Raises:
        IntegrityError: The graph is no such model, keeps a tensor in another file, outside of the weights, or
            where only a runtime would look for it.
    """
    found: dict[str, Weight] = {}
    try:
        for number, _, model_part in _fields(graph, (0, len(graph))):
            if number != GRAPH:
                continue
            for part, _, place in _fields(graph, model_part):
                if part == INITIALIZER and _mentions(graph, place):
                    name, weight = _weight(graph, place, weights)
                    if name in found:
                        raise _MalformedError(f"the tensor {name!r} is there twice")
                    found[name] = weight
        if len(found) != _tensors_elsewhere(graph, (0, len(graph)), "model"):
            raise _MalformedError("a tensor that is no weight of the graph is kept in a file of its own")
    except (_MalformedError, IndexError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"this graph cannot be used: {error}", allowed=f"weights in {WEIGHTS}"
        ) from error
    return found


def with_weights(graph: bytes, weights: memoryview) -> bytes:
    """Return a graph that holds its weights itself, for a runtime that cannot be given them beside it.

    Args:
        graph: An ONNX model.
        weights: The content of `weights.bin`.

    Raises:
        IntegrityError: See `weights_of`.
    """
    values = weights_of(graph, weights)

    def tensor(place: Place) -> Pieces | None:
        if not _mentions(graph, place):
            return None
        name, _ = _weight(graph, place, weights)
        kept = _rewritten(graph, place, {EXTERNAL_DATA: _dropped, DATA_LOCATION: _dropped})
        return [*kept, *_message(RAW_DATA, [values[name].values.tobytes()])]

    def graph_part(place: Place) -> Pieces:
        return _rewritten(graph, place, {INITIALIZER: tensor})

    return b"".join(_rewritten(graph, (0, len(graph)), {GRAPH: graph_part}))


def _dropped(_: Place) -> Pieces:
    return []


def _rewritten(graph: bytes, place: Place, changes: Mapping[int, Callable[[Place], Pieces | None]]) -> Pieces:
    """A message with some fields changed: a change gives their new content, [] for none, None to keep it."""
    pieces, begin = [], place[0]
    for number, _, inner in _fields(graph, place):
        content = changes[number](inner) if number in changes else None
        if content is None:
            pieces.append(graph[begin : inner[1]])
        elif content:
            pieces += _message(number, content)
        begin = inner[1]
    return pieces


def _message(number: int, content: Pieces) -> Pieces:
    """A field of protobuf that has a length."""
    header = bytearray()
    for value in (number << 3 | 2, sum(map(len, content))):
        while value >= 0x80:
            header.append(value & 0x7F | 0x80)
            value >>= 7
        header.append(value)
    return [bytes(header), *content]


def _weight(graph: bytes, place: Place, weights: memoryview) -> tuple[str, Weight]:
    shape: list[int] = []
    kind, name, entries = 0, "", dict[str, str]()
    for number, value, inner in _fields(graph, place):
        if number == DIMS:
            shape += [value] if inner[0] == inner[1] else _packed(graph, inner)
        elif number == KIND:
            kind = value
        elif number == NAME:
            name = graph[slice(*inner)].decode()
        elif number == EXTERNAL_DATA:
            key, entry = _entry(graph, inner)
            if key in entries:
                raise _MalformedError(f"{name!r} has two entries {key!r}")
            entries[key] = entry
    if entries.get("location") != WEIGHTS:
        raise _MalformedError(f"{name!r} is kept in {entries.get('location')!r}")
    if kind not in NUMPY_TYPES:
        raise _MalformedError(f"{name!r} is of type {kind}")
    return name, Weight(_array(name, shape, kind, entries, weights), kind)


def _array(
    name: str, shape: list[int], kind: int, entries: dict[str, str], weights: memoryview
) -> NDArray[np.generic]:
    kept = {key: entries.get(key, "") for key in ("offset", "length")}
    if not all(value.isascii() and value.isdigit() and len(value) < 16 for value in kept.values()):
        raise _MalformedError(f"{name!r} is kept at {kept}")
    begin, size = int(kept["offset"]), int(kept["length"])
    if size != math.prod(shape) * np.dtype(NUMPY_TYPES[kind]).itemsize or begin + size > len(weights):
        raise _MalformedError(
            f"{name!r} of shape {shape} is kept in {size} bytes from {begin} of {len(weights)}"
        )
    return np.frombuffer(weights[begin : begin + size], NUMPY_TYPES[kind]).reshape(shape)


def _entry(graph: bytes, place: Place) -> tuple[str, str]:
    parts = {number: graph[slice(*inner)].decode() for number, _, inner in _fields(graph, place)}
    return parts.get(1, ""), parts.get(2, "")


def _tensors_elsewhere(graph: bytes, place: Place, message: str) -> int:
    """How many tensors at any depth have external data."""
    if not _mentions(graph, place):
        return 0
    if message == "tensor":
        return int(any(number == EXTERNAL_DATA for number, _, _ in _fields(graph, place)))
    holding = MESSAGES[message]
    return sum(
        _tensors_elsewhere(graph, inner, holding[number])
        for number, _, inner in _fields(graph, place)
        if number in holding
    )


def _mentions(graph: bytes, place: Place) -> bool:
    """Whether a message can have external data in it; most nodes are not looked at any further."""
    return graph.find(LOCATION, *place) >= 0


def _fields(graph: bytes, place: Place) -> Iterator[tuple[int, int, Place]]:
    """The fields of a message: number, value if it is a whole number, and place if it has one."""
    at, end = place
    while at < end:
        tag, at = _varint(graph, at)
        number, wire = tag >> 3, tag & 7
        value, size = 0, 0
        if wire == 0:
            value, at = _varint(graph, at)
        elif wire == 2:
            size, at = _varint(graph, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _MalformedError("it is not protobuf")
        if at + size > end:
            raise _MalformedError("it is truncated")
        yield number, value, (at, at + size)
        at += size


def _packed(graph: bytes, place: Place) -> list[int]:
    values, at = [], place[0]
    while at < place[1]:
        value, at = _varint(graph, at)
        values.append(value)
    return values


def _varint(graph: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = graph[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError("it is not protobuf")
