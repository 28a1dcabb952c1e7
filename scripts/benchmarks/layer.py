"""One layer's group attention by itself: our kernel and what PyTorch has, over segment lengths and dtypes.

All segments of a problem have one length and all tokens are alive, which is the best case for every peer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from chronos_export.errors import MachineError
from chronos_export.model.cuda_kernel import register_built
from chronos_export.model.group_attention import Arguments

from .peers import Answer, Peer
from .timing import tf32

LAYER, KERNEL = "group attention alone", "ours, kernel"
CALLS = 20  # of a batch: one by one they would end before they can be timed
HEAD_DIM = 64
LENGTHS = (20, 1, 5, 100, 500, 2000)
# A peer further from ours than this has computed something else.
MAX_ERROR = {"float32": 1e-3, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2}

Attend = Callable[[Arguments], Tensor]


@dataclass(frozen=True)
class Layer:
    """A problem as a workload: all of it, `CALLS` times.

    Attributes:
        dtype: Of the products.
        length: Of every segment.
        arguments: What the operator takes.
    """

    dtype: str
    length: int
    arguments: Arguments

    @property
    def name(self) -> str:
        return f"{LAYER}, {self.dtype}, segments of {self.length}"

    @property
    def rows(self) -> int:
        return len(self.arguments.query)

    @property
    def samples(self) -> int:
        return self.rows // self.length

    @property
    def bytes_moved(self) -> int:
        """The least: queries, keys, values and outputs; of rows alone in their group, the last two."""
        return CALLS * self.arguments.query.nbytes * (2 if self.length == 1 else 4)

    def ends(self) -> Layer:
        """See `Workload.ends`: it is warmed up on itself."""
        return self

    def pieces(self, calls: tuple[int, ...]) -> list[Layer]:
        """See `Workload.pieces`: there is one."""
        return [self]


def make_layer(dtype: str, length: int, rows: int, tokens: int, heads: int, device: str) -> Layer:
    """Random queries, keys and values of [rows, tokens, heads * 64]."""
    kind = getattr(torch, "float32" if dtype == "tf32" else dtype)
    generator = torch.Generator(device).manual_seed(0)
    shape = rows // length * length, tokens, heads * HEAD_DIM
    query, key, value = (
        (0.6 * torch.randn(shape, generator=generator, device=device)).to(kind) for _ in range(3)
    )
    begin = torch.arange(shape[0], device=device, dtype=torch.int32) // length * length
    alive = torch.ones(shape[:2], dtype=torch.bool, device=device)
    return Layer(dtype, length, Arguments(query, key, value, begin, begin + length, alive, heads))


def layer_peers(layer: Layer) -> Iterator[Peer]:
    """The kernel first. What a peer prepares for a problem, masks and indices, is not timed."""
    for name, prepare in {KERNEL: kernel, **PEERS}.items():
        yield Peer(name, partial(_checked, prepare, layer), layer.dtype)


def _checked(prepare: Callable[[Arguments], Attend], layer: Layer) -> Answer:
    attend, arguments = prepare(layer.arguments), layer.arguments
    with tf32(layer.dtype == "tf32"):
        error = float((attend(arguments) - kernel(arguments)(arguments)).abs().max())
    if not error <= MAX_ERROR[layer.dtype]:
        raise MachineError(f"differs from ours by {error:.3g}")

    def answer(_: Any) -> Tensor:
        with tf32(layer.dtype == "tf32"):
            for _ in range(CALLS):
                out = attend(arguments)
        return out[: layer.length, :1].float().cpu()

    return answer


def kernel(arguments: Arguments) -> Attend:
    """Our operator; on a GPU with the compiled kernel behind it."""
    if arguments.query.is_cuda and register_built() is None:
        raise MachineError("the kernel was not compiled: chronos-export plugin build")
    return lambda given: torch.ops.chronos.group_attention(*given[:7])


def dense_masked(arguments: Arguments) -> Attend:
    """All rows against all rows under a mask, as upstream does it; the mask is contiguous."""
    begin, query = arguments.segment_begin, arguments.query
    bias = torch.zeros(len(query), len(query), dtype=query.dtype, device=query.device)
    bias.masked_fill_(begin[:, None] != begin[None, :], torch.finfo(query.dtype).min)

    def run(given: Arguments) -> Tensor:
        q, k, v = (x.unflatten(-1, (given.num_heads, -1)).permute(1, 2, 0, 3) for x in given[:3])
        return (
            F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).permute(2, 0, 1, 3).flatten(-2)
        )

    return run


def padded(arguments: Arguments) -> Attend:
    """[groups, longest]: one batched call; with one length there is no padding, and views suffice."""
    length = _length(arguments)

    def run(given: Arguments) -> Tensor:
        q, k, v = (_packed(x).unflatten(0, (-1, length)).transpose(1, 2) for x in given[:3])
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return out.transpose(1, 2).reshape(given.query.shape)

    return run


def group_loop(arguments: Arguments) -> Attend:
    """One call per group, as pull request 442 does it."""
    length = _length(arguments)

    def run(given: Arguments) -> Tensor:
        out = torch.empty_like(given.query)
        for first in range(0, len(out), length):
            q, k, v = (_packed(x[first : first + length]).transpose(0, 1) for x in given[:3])
            attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
            out[first : first + length] = attended.transpose(0, 1).reshape(length, *out.shape[1:])
        return out

    return run


def varlen(arguments: Arguments) -> Attend:
    """torch.nn.attention.varlen: FlashAttention over packed sequences, one per group, without a copy."""
    from torch.nn.attention.varlen import varlen_attn

    length, limits = _length(arguments), _limits(arguments)
    scaled = "scale" in inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"scale": 1.0} if scaled else {}

    def run(given: Arguments) -> Tensor:
        q, k, v = (_packed(x) for x in given[:3])
        q = q if scaled else q * HEAD_DIM**0.5
        out: Any = varlen_attn(q, k, v, limits, limits, length, length, **options)
        attended: Tensor = out.view(given.query.shape)
        return attended

    return run


def nested(arguments: Arguments) -> Attend:
    """Nested (jagged) tensors, one sequence per group, without a copy."""
    length, limits = _length(arguments), _limits(arguments)
    jagged = torch.nested.nested_tensor_from_jagged

    def run(given: Arguments) -> Tensor:
        q, k, v = (
            jagged(_packed(x), limits, min_seqlen=length, max_seqlen=length).transpose(1, 2)
            for x in given[:3]
        )
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)
        return out.values().reshape(given.query.shape)

    return run


def flex(arguments: Arguments) -> Attend:
    """flex_attention, compiled, with a block mask of the segments."""
    from torch.nn.attention.flex_attention import create_block_mask

    rows, device = len(arguments.query), str(arguments.query.device)
    begin, same_segment = _segments(rows, device)
    begin.copy_(arguments.segment_begin)
    mask, attend = create_block_mask(same_segment, None, None, rows, rows, device=device), _compiled_flex()

    def run(given: Arguments) -> Tensor:
        q, k, v = (x.unflatten(-1, (given.num_heads, -1)).permute(1, 2, 0, 3) for x in given[:3])
        out: Tensor = attend(q, k, v, block_mask=mask, scale=1.0).permute(2, 0, 1, 3).flatten(-2)
        return out

    return run


PEERS: dict[str, Callable[[Arguments], Attend]] = {
    "dense masked SDPA": dense_masked,
    "padded [groups, longest] SDPA": padded,
    "loop over groups": group_loop,
    "torch varlen_attn": varlen,
    "nested tensor SDPA": nested,
    "flex_attention": flex,
}


@cache
def _segments(rows: int, device: str) -> tuple[Tensor, Callable[..., Tensor]]:
    """A buffer that keeps its place and the mask over it: a new mask function would be compiled anew."""
    begin = torch.zeros(rows, dtype=torch.int32, device=device)
    return begin, lambda batch, head, query, key: begin[query] == begin[key]


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _packed(x: Tensor) -> Tensor:
    """[rows, tokens * heads, 64], a view: the rows of a group are a sequence of as many heads."""
    return x.view(len(x), -1, HEAD_DIM)


def _length(arguments: Arguments) -> int:
    return int(arguments.segment_end[0] - arguments.segment_begin[0])


def _limits(arguments: Arguments) -> Tensor:
    """int32 [groups + 1], where each sequence begins and the last one ends."""
    rows, length = len(arguments.query), _length(arguments)
    return torch.arange(0, rows + 1, length, dtype=torch.int32, device=arguments.query.device)
