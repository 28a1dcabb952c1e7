"""One call of an engine: its tensors bound to an execution context, and the same in a CUDA graph."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from chronos_export.errors import BuildError
from chronos_export.graph_contract import OUTPUT

ALIGNMENT = 256  # bytes; TensorRT takes no other address, and goes on with the one it had
_CAPTURING = threading.Lock()  # PyTorch allows one capture at a time in a process


def on_device(x: Tensor, device: torch.device) -> Tensor:
    """`x` where an engine takes it; a view into a larger tensor may have to be copied for that."""
    there = x.to(device, non_blocking=True).contiguous()
    return there.clone() if there.data_ptr() % ALIGNMENT else there


class EngineCall:
    """A call that has its tensors.

    Args:
        context: An IExecutionContext with its profile and its memory; bound to these tensors until the next.
        feed: Inputs by name, as `on_device` gives them.

    Raises:
        BuildError: TensorRT refuses a shape or an address.
    """

    def __init__(self, context: Any, feed: dict[str, Tensor]) -> None:
        self._context, self._feed = context, feed  # kept: TensorRT has their addresses only
        for name, tensor in feed.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise BuildError(f"the engine refuses {name} of shape {tuple(tensor.shape)}")
            self._bind(name, tensor)
        device = next(iter(feed.values())).device
        shape = tuple(context.get_tensor_shape(OUTPUT))
        self.output = torch.empty(shape, dtype=torch.float32, device=device)
        self._bind(OUTPUT, self.output)

    def _bind(self, name: str, tensor: Tensor) -> None:
        if not self._context.set_tensor_address(name, tensor.data_ptr()):
            raise BuildError(f"the engine refuses {name} at address {tensor.data_ptr():#x}")

    def enqueue(self, stream: torch.cuda.Stream) -> None:
        """Start it.

        Raises:
            BuildError: TensorRT refuses.
        """
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise BuildError(f"the engine failed on {len(self.output)} rows")


class CapturedCall:
    """A call in a CUDA graph, with tensors that keep their place.

    Args:
        context: As for `EngineCall`, and for this call alone: a graph refers to the state of its context.
        feed: Inputs of the shapes to capture, on the CPU or the GPU.
        device: The GPU.
        stream: Where all of it runs; the current stream.

    Raises:
        BuildError: TensorRT refuses.
        RuntimeError: CUDA cannot capture what the engine does.
    """

    def __init__(
        self, context: Any, feed: dict[str, Tensor], device: torch.device, stream: torch.cuda.Stream
    ) -> None:
        self._feed = {
            name: torch.empty(x.shape, dtype=x.dtype, device=device).copy_(x) for name, x in feed.items()
        }
        self._call = EngineCall(context, self._feed)
        self._call.enqueue(stream)  # the first call at a shape settles the context, which cannot be captured
        self._graph = torch.cuda.CUDAGraph()
        with _CAPTURING, torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._call.enqueue(stream)

    def run(self, feed: dict[str, Tensor]) -> Tensor:
        """Replay it on other inputs of the same shapes; the answer is the caller's to keep."""
        for name, tensor in feed.items():
            self._feed[name].copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._call.output.clone()
