"""What TensorRT says while it builds: errors, the memory its engine will take, its layers, its progress."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from typing import Any

Say = Callable[..., Any]

_SCRATCH = re.compile(r"Total Activation Memory: (\d+) bytes")  # once for every profile
_LAYERS = "Layers:\n"


def make_logger(trt: Any) -> Any:
    """Return an ILogger that keeps what a build must know.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`.

    Returns:
        A logger with `errors()`, one line; `scratch_bytes`, of each profile so far; and `layers`, TensorRT's
        own list of the layers of the engine, which it makes where the profiling verbosity is detailed.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Prints errors too, in case TensorRT crashes before anyone asks for them."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []
            self.scratch_bytes: list[int] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                print(message, file=sys.stderr, flush=True)
                self._errors.append(message)
            elif found := _SCRATCH.match(message):
                self.scratch_bytes.append(int(found[1]))
            elif message.startswith(_LAYERS):
                self.layers = message.removeprefix(_LAYERS)

        def errors(self) -> str:
            return "; ".join(dict.fromkeys(self._errors)) or "no reason was given"

    return Logger()


def make_monitor(trt: Any, say: Say) -> Any:
    """Return an IProgressMonitor that says `progress=[phase, fraction]`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Nested phases as one fraction that never goes back.

        TensorRT calls it from several threads, and takes an exception as the wish to stop the build.
        """

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._phases: dict[str, tuple[int, int]] = {}  # name -> steps done, steps; outermost first
            self._fraction = 0.0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with self._lock:
                self._phases[name] = (0, max(steps, 1))

        def step_complete(self, name: str, step: int) -> bool:
            with self._lock:
                if name in self._phases:
                    self._phases[name] = (step + 1, self._phases[name][1])
                fraction = 0.0
                for done, steps in reversed(self._phases.values()):
                    fraction = min(1.0, (done + fraction) / steps)
                if fraction > self._fraction:
                    self._fraction = fraction
                    say(progress=[name, fraction])
            return True

        def phase_finish(self, name: str) -> None:
            with self._lock:
                self._phases.pop(name, None)

    return Monitor()
