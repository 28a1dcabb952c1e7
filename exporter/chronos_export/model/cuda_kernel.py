"""The compiled CUDA kernel as the implementation of `torch.ops.chronos.group_attention` on a GPU.

The library is optional: without it PyTorch's operators compute group attention on a GPU too.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chronos_export.errors import MachineError, UsageError
from chronos_export.machine.compiled import kernel_library
from chronos_export.model.group_attention import Arguments, group_attention, group_attention_reference

ABI = 1  # CHRONOS_GROUP_ATTENTION_ABI of plugins/group_attention/group_attention.h
_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_MAX_HEAD_DIM = 128
_BUILD = "chronos-export plugin build"


class _Strides(ctypes.Structure):
    """`ChronosStrides`, in elements."""

    _fields_ = (("row", ctypes.c_int64), ("token", ctypes.c_int64), ("head", ctypes.c_int64))


class _Parameters(ctypes.Structure):
    """`ChronosGroupAttentionParams`, field by field."""

    _fields_ = (
        ("query", ctypes.c_void_p),
        ("key", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("segment_begin", ctypes.c_void_p),
        ("segment_end", ctypes.c_void_p),
        ("key_mask", ctypes.c_void_p),
        ("key_mask_row_stride", ctypes.c_int64),
        ("key_mask_token_stride", ctypes.c_int64),
        ("query_stride", _Strides),
        ("key_stride", _Strides),
        ("value_stride", _Strides),
        ("output_stride", _Strides),
        ("rows", ctypes.c_int32),
        ("tokens", ctypes.c_int32),
        ("heads", ctypes.c_int32),
        ("head_dim", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
        ("allow_tf32", ctypes.c_int32),
    )


class Kernel:
    """An opened library. Calls may come from any thread."""

    def __init__(self, library: Path) -> None:
        """Open a library.

        Args:
            library: Path of `libchronos_group_attention.so`.

        Raises:
            MachineError: It is missing, cannot be opened, is another library or of another ABI.
        """
        if not library.is_file():
            raise MachineError(f"the kernel library {library} does not exist", fix=_BUILD)
        try:
            opened = ctypes.CDLL(str(library.resolve()))
            found = int(opened.chronos_group_attention_abi())
        except (OSError, AttributeError) as error:
            raise MachineError(
                f"{library} cannot be used as the kernel library: {error}", fix=_BUILD
            ) from error
        if found != ABI:
            raise MachineError(f"{library} has ABI {found}", allowed=f"ABI {ABI}", fix=_BUILD)
        self._call = opened.chronos_group_attention
        self._call.argtypes = (ctypes.POINTER(_Parameters), ctypes.c_void_p)
        self._message = opened.chronos_group_attention_message
        self._message.restype = ctypes.c_char_p

    def run(self, arguments: Arguments, *, stream: int) -> Tensor:
        """Enqueue the attention; the tensors are read in place by their strides.

        float32 is multiplied in tf32 where PyTorch's own matrix products are allowed to, and heads are of 64.

        Args:
            arguments: float32, float16 or bfloat16, without dropout.
            stream: The CUDA stream's handle.

        Returns:
            Like query.

        Raises:
            UsageError: Shapes, types or devices do not fit, or there is dropout.
            MachineError: The launch failed.
        """
        _check(arguments)
        query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in arguments[:3])
        segment_begin, segment_end = arguments.segment_begin.contiguous(), arguments.segment_end.contiguous()
        key_mask, num_heads = arguments.key_mask, arguments.num_heads
        output = torch.empty_like(query)
        rows, tokens, width = query.shape
        head_dim = width // num_heads
        parameters = _Parameters(
            query=query.data_ptr(),
            key=key.data_ptr(),
            value=value.data_ptr(),
            output=output.data_ptr(),
            segment_begin=segment_begin.data_ptr(),
            segment_end=segment_end.data_ptr(),
            key_mask=key_mask.data_ptr(),
            key_mask_row_stride=key_mask.stride(0),
            key_mask_token_stride=key_mask.stride(1),
            query_stride=_strides(query, head_dim),
            key_stride=_strides(key, head_dim),
            value_stride=_strides(value, head_dim),
            output_stride=_strides(output, head_dim),
            rows=rows,
            tokens=tokens,
            heads=num_heads,
            head_dim=head_dim,
            dtype=_DTYPES[query.dtype],
            allow_tf32=int(torch.backends.cuda.matmul.fp32_precision == "tf32"),
        )
        result = int(self._call(ctypes.byref(parameters), stream))
        if result != 0:
            message = self._message(result).decode()
            raise MachineError(f"the group-attention kernel was refused ({result}): {message}")
        return output


def register(library: Path) -> Kernel:
    """Make `torch.ops.chronos.group_attention` run the kernel for CUDA tensors, on their current stream.

    What the kernel does not have, float64, dropout and other sizes of a head, stays with PyTorch, and so does
    the gradient.

    Args:
        library: Path of `libchronos_group_attention.so`.

    Returns:
        The opened library.

    Raises:
        MachineError: As `Kernel`.
    """
    kernel = Kernel(library)

    def run_on_cuda(*given: Any) -> Tensor:
        arguments = Arguments(*given)
        if _lacking(arguments):
            return group_attention_reference(arguments)
        with torch.cuda.device(arguments.query.device):
            return kernel.run(arguments, stream=torch.cuda.current_stream().cuda_stream)

    group_attention.register_kernel("cuda")(run_on_cuda)
    return kernel


@cache
def register_built() -> Kernel | None:
    """Register the library that `chronos-export plugin build` made, once a process; None if there is none.

    Raises:
        MachineError: As `Kernel`.
    """
    library = kernel_library()
    return register(library) if library else None


def _strides(x: Tensor, head_dim: int) -> _Strides:
    return _Strides(x.stride(0), x.stride(1), head_dim)


def _lacking(arguments: Arguments) -> UsageError | None:
    """What PyTorch can and the kernel cannot."""
    query, head_dim = arguments.query, arguments.query.shape[-1] // arguments.num_heads
    if query.dtype not in _DTYPES:
        return UsageError(f"query is {query.dtype}", allowed=", ".join(map(str, _DTYPES)))
    if head_dim % 8 or not 8 <= head_dim <= _MAX_HEAD_DIM:
        return UsageError(f"head_dim is {head_dim}", allowed=f"a multiple of 8 up to {_MAX_HEAD_DIM}")
    if arguments.dropout > 0:
        return UsageError(f"dropout is {arguments.dropout}", allowed="0")
    return None


def _check(arguments: Arguments) -> None:
    """What the C interface cannot see for itself."""
    query, num_heads = arguments.query, arguments.num_heads
    if query.ndim != 3 or num_heads < 1 or query.shape[-1] % num_heads:
        raise UsageError(
            f"query is {list(query.shape)} with {num_heads} heads", allowed="[rows, tokens, heads * head_dim]"
        )
    if error := _lacking(arguments):
        raise error
    rows, tokens, _ = query.shape
    expected = {
        "key": (query.dtype, query.shape),
        "value": (query.dtype, query.shape),
        "segment_begin": (torch.int32, (rows,)),
        "segment_end": (torch.int32, (rows,)),
        "key_mask": (torch.bool, (rows, tokens)),
    }
    for name, (dtype, shape) in expected.items():
        x = getattr(arguments, name)
        if x.dtype != dtype or tuple(x.shape) != tuple(shape) or x.device != query.device:
            raise UsageError(
                f"{name} is {x.dtype} {list(x.shape)} on {x.device}",
                allowed=f"{dtype} {list(shape)} on {query.device}",
            )
