"""How large the tensors of a call are, which TensorRT's list leaves open.

The list is of a profile whose rows are fixed, so an extent of -1 is a number of tokens, or of rows x tokens.
Of the last block and the head only the forecast's tokens are computed, of the embedding all but [REG].
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from .listing import Layer, View

_BLOCK = re.compile(r"blocks\.(\d+)/")
_KEYS_AND_VALUES = re.compile(r"/time/[kv]/")


@dataclass(frozen=True)
class Call:
    """What an engine is asked.

    Attributes:
        rows: Rows of the call.
        context: Time steps.
        horizon: Time steps.
        group: Rows of every group.
        patch: Time steps a token.
        heads: Attention heads.
        head_dim: Numbers a head.
    """

    rows: int
    context: int
    horizon: int
    group: int
    patch: int
    heads: int
    head_dim: int

    @property
    def ahead(self) -> int:
        """Tokens of the forecast."""
        return -(-self.horizon // self.patch)

    @property
    def patches(self) -> int:
        """Tokens that are embedded."""
        return -(-self.context // self.patch) + self.ahead

    @property
    def tokens(self) -> int:
        """Tokens a row, [REG] included."""
        return self.patches + 1


def block_of(layer: Layer) -> int | None:
    """Return the first block that a layer computes something of, or None."""
    numbers = [int(found[1]) for node in layer.nodes if (found := _BLOCK.match(node))]
    return min(numbers, default=None)


class Sizes:
    """The sizes of the tensors of one engine.

    Args:
        layers: Of the engine, in order.
        call: What it is asked.
    """

    def __init__(self, layers: Iterable[Layer], call: Call) -> None:
        self.call, self._tokens = call, dict[str, int]()
        layers = list(layers)
        last = max((block for layer in layers if (block := block_of(layer)) is not None), default=0)
        for layer in layers:
            for output in layer.outputs:
                readers = [
                    other for other in layers if any(view.name == output.name for view in other.inputs)
                ]
                self._tokens[output.name] = self._tokens_of(output, layer, readers, last)

    def elements(self, view: View) -> int:
        """Return how many numbers a layer reads or writes there."""
        known = prod(extent for extent in view.dims if extent > 0)
        unknown = sum(extent < 0 for extent in view.dims)
        if not unknown:
            return known
        tokens = self._tokens.get(view.name, self.call.tokens)
        by_row = any(extent > 1 and extent % self.call.rows == 0 for extent in view.dims)
        of_table = known == self.call.head_dim  # the rotary tables are the same for every row
        return known * (tokens**unknown if by_row or of_table else self.call.rows * tokens)

    def bytes(self, view: View) -> int:
        """Return the bytes of it."""
        return self.elements(view) * view.bytes_each

    def _tokens_of(self, output: View, layer: Layer, readers: list[Layer], last: int) -> int:
        """Return the tokens a row of a tensor, from the layers that write and read it."""
        nodes, block = " ".join(layer.nodes), block_of(layer)
        if not nodes:  # a copy, of as much as was written before
            return self._tokens.get(layer.inputs[0].name, self.call.tokens)
        if block is None and "head/" in nodes:
            return self.call.ahead
        if block is None:
            return self.call.patches if "/embedding/" in nodes and "Concat" not in nodes else self.call.tokens
        if block < last:
            return self.call.tokens
        if layer.type == "gemm":
            return self.call.tokens if _KEYS_AND_VALUES.search(nodes) else self.call.ahead
        return self.call.tokens if any(_reads_all(reader, output) for reader in readers) else self.call.ahead


def _reads_all(reader: Layer, view: View) -> bool:
    """Whether a layer of the last block reads all tokens of a tensor: as keys or values."""
    if "mha" in reader.name:
        return view.name != reader.inputs[0].name
    return any(_KEYS_AND_VALUES.search(node) for node in reader.nodes)
