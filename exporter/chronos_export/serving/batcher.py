"""Requests of many clients merged into batches, each answered as if it were alone.

    client threads -> bounded queue -> a free worker takes what waits -> one batch -> to each its own rows

Groups never see each other, so requests may share a batch once their group ids are made distinct, and so may
contexts of different lengths once the shorter are padded with missing steps in front. Requests of different
horizons, in patches, may not: surplus future tokens change a forecast. Nothing waits for company: a batch is
what has queued up while the worker was busy.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.forecaster.model import Rows
from chronos_export.runtime.session import Floats, Ints
from chronos_export.serving.limits import BusyError, DeadlineError, ServingLimits


@dataclass(frozen=True)
class Served:
    """What became of one batch; for metrics.

    Attributes:
        requests: How many were merged.
        rows: Their rows.
        seconds: How long the batch took.
        waited: Seconds that each request waited before it.
        failed: How many ended with an error.
    """

    requests: int
    rows: int
    seconds: float
    waited: tuple[float, ...]
    failed: int


@dataclass(frozen=True)
class _Request:
    context: Floats
    group_ids: Ints
    output_patches: int
    future: Floats | None
    steps: int
    arrived: float
    answer: Future[Floats] = field(default_factory=Future)


class Batcher:
    """A `Rows` that many threads call, merging their calls.

    Args:
        rows: Answers the batches; called by the workers.
        patch: Time steps per output patch.
        limits: What is taken on.
        workers: Threads that answer batches; one per session that can be called at a time.
        observe: Told of each batch, on a worker's thread.
    """

    def __init__(
        self,
        rows: Rows,
        patch: int,
        limits: ServingLimits | None = None,
        workers: int = 1,
        observe: Callable[[Served], None] = lambda served: None,
    ) -> None:
        self._rows, self.patch, self._observe = rows, patch, observe
        self.limits = limits or ServingLimits()
        self._queue: deque[_Request] = deque()
        self._queued_steps, self._closed = 0, False
        self._changed = threading.Condition()
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for worker in self._workers:
            worker.start()

    @property
    def context_length(self) -> int:
        """Return the longest context of what answers the batches, time steps."""
        return self._rows.context_length

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    def forecast(
        self,
        context: NDArray[Any],
        group_ids: NDArray[Any] | None,
        output_patches: int,
        future_covariates: NDArray[Any] | None,
    ) -> Floats:
        """Forecast as `BatchedSession.forecast`, perhaps together with what other threads ask.

        Raises:
            TooLargeError: It is more than `limits` allow one request.
            BusyError: The queue is full, or the batcher is closed.
            DeadlineError: It was not answered in time.
        """
        return OneRequest(self).forecast(context, group_ids, output_patches, future_covariates)

    def submit(
        self,
        context: NDArray[Any],
        group_ids: NDArray[Any] | None,
        output_patches: int,
        future_covariates: NDArray[Any] | None,
    ) -> Future[Floats]:
        """Queue what `forecast` waits for; who cancels it before its batch begins takes it off.

        Raises:
            TooLargeError: It is more than `limits` allow one request.
            BusyError: The queue is full, or the batcher is closed.
        """
        request = self._request(context, group_ids, output_patches, future_covariates)
        self._put(request)
        return request.answer

    def close(self) -> None:
        """Take on nothing more, answer what waits, and end the workers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _request(
        self,
        context: NDArray[Any],
        group_ids: NDArray[Any] | None,
        output_patches: int,
        future: NDArray[Any] | None,
    ) -> _Request:
        rows, length = context.shape
        steps = rows * (length + output_patches * self.patch)
        self.limits.check(rows, steps)
        return _Request(
            np.asarray(context, dtype=np.float32),
            np.arange(rows) if group_ids is None else np.asarray(group_ids, dtype=np.int64),
            output_patches,
            None if future is None else np.asarray(future, dtype=np.float32),
            steps,
            arrived=monotonic(),
        )

    def _put(self, request: _Request) -> None:
        with self._changed:
            if self._closed:
                raise BusyError("the server is about to stop", fix="ask another replica")
            queued = self._queued_steps + request.steps
            if self._queue and queued > self.limits.queued_steps:
                raise BusyError(
                    f"{len(self._queue)} requests with {self._queued_steps} time steps already wait",
                    allowed=f"at most {self.limits.queued_steps} time steps",
                    fix="ask again later",
                )
            self._queue.append(request)
            self._queued_steps = queued
            self._changed.notify()

    def _work(self) -> None:
        while taken := self._take():
            self._answer(taken)

    def _take(self) -> list[_Request]:
        """The oldest request and those that may share its batch; [] when closed and nothing waits."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return []
                taken = self._compatible()
                running = [request for request in taken if request.answer.set_running_or_notify_cancel()]
                if running:
                    return running

    def _compatible(self) -> list[_Request]:
        """Take the oldest request off the queue, and later ones of its horizon while they fit."""
        taken: list[_Request] = []
        left: deque[_Request] = deque()
        rows = longest = 0
        for request in self._queue:
            count, length = request.context.shape
            area = (rows + count) * (max(longest, length) + request.output_patches * self.patch)
            alike = not taken or request.output_patches == taken[0].output_patches
            if taken and not (alike and area <= self.limits.merged_steps):
                left.append(request)
                continue
            taken.append(request)
            rows, longest = rows + count, max(longest, length)
            self._queued_steps -= request.steps
        self._queue = left
        return taken

    def _answer(self, requests: Sequence[_Request]) -> None:
        begin = monotonic()
        failed = 0
        try:
            answers: Sequence[Floats | BaseException] = self._together(requests)
        except BaseException:  # one of them may be to blame: each is asked alone
            answers = [self._alone(request) for request in requests]
        for request, answer in zip(requests, answers, strict=True):
            failed += isinstance(answer, BaseException)
            _settle(request.answer, answer)
        self._observe(
            Served(
                requests=len(requests),
                rows=sum(len(request.context) for request in requests),
                seconds=monotonic() - begin,
                waited=tuple(begin - request.arrived for request in requests),
                failed=failed,
            )
        )

    def _together(self, requests: Sequence[_Request]) -> list[Floats]:
        first = requests[0]
        if len(requests) == 1:
            return [self._rows.forecast(first.context, first.group_ids, first.output_patches, first.future)]
        ids = distinct_ids([request.group_ids for request in requests])
        context = _stacked([request.context for request in requests])
        future = None
        if any(request.future is not None for request in requests):
            future = self._futures(requests)
        forecast = self._rows.forecast(context, ids, first.output_patches, future)
        ends = np.cumsum([len(request.context) for request in requests])
        return [piece.copy() for piece in np.split(forecast, ends[:-1])]

    def _alone(self, request: _Request) -> Floats | BaseException:
        try:
            return self._together([request])[0]
        except BaseException as error:
            return error

    def _futures(self, requests: Sequence[_Request]) -> Floats:
        """float32 [rows, horizon]: known future values, NaN = unknown."""
        steps = requests[0].output_patches * self.patch
        rows = sum(len(request.context) for request in requests)
        out, row = np.full((rows, steps), np.nan, dtype=np.float32), 0
        for request in requests:
            if request.future is not None:
                out[row : row + len(request.context), : request.future.shape[1]] = request.future
            row += len(request.context)
        return out


class OneRequest:
    """The `Rows` of one client's request: a time limit over all its batches, and a way to give it up.

    Args:
        batcher: Answers them.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._deadline = monotonic() + batcher.limits.seconds
        self._lock, self._given_up = threading.Lock(), False
        self._answer: Future[Floats] | None = None

    @property
    def patch(self) -> int:
        """Return the time steps of one token."""
        return self._batcher.patch

    @property
    def context_length(self) -> int:
        """Return the longest context, time steps."""
        return self._batcher.context_length

    def forecast(
        self,
        context: NDArray[Any],
        group_ids: NDArray[Any] | None,
        output_patches: int,
        future_covariates: NDArray[Any] | None,
    ) -> Floats:
        """See `Batcher.forecast`."""
        with self._lock:
            if self._given_up:
                raise DeadlineError("the client has left")
            self._answer = answer = self._batcher.submit(
                context, group_ids, output_patches, future_covariates
            )
        try:
            return answer.result(timeout=self._deadline - monotonic())
        except (FutureTimeoutError, CancelledError) as error:
            answer.cancel()  # a worker that comes to it drops it
            raise DeadlineError(
                f"the request was not answered within {self._batcher.limits.seconds:g} s",
                fix="ask again later, or for fewer rows at a time",
            ) from error

    def give_up(self) -> None:
        """Drop it: a batch that has not begun is not computed, nor any that would follow."""
        with self._lock:
            self._given_up = True
            if self._answer is not None:
                self._answer.cancel()


def distinct_ids(group_ids: Sequence[Ints]) -> Ints:
    """Return int64 [rows of all]: equal only where they were equal within one of the requests.

    Args:
        group_ids: int64 [rows] of each request.
    """
    out, used = [], 0
    for ids in group_ids:
        groups, number = np.unique(ids, return_inverse=True)
        out.append(number + used)
        used += len(groups)
    return np.concatenate(out)


def _stacked(contexts: Sequence[Floats]) -> Floats:
    """float32 [rows of all, longest], missing steps in front of the shorter."""
    longest = max(context.shape[1] for context in contexts)
    pads = [((0, 0), (longest - context.shape[1], 0)) for context in contexts]
    return np.concatenate(
        [np.pad(context, pad, constant_values=np.nan) for context, pad in zip(contexts, pads, strict=True)]
    )


def _settle(future: Future[Floats], answer: Floats | BaseException) -> None:
    try:
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
    except InvalidStateError:
        pass  # its client has left
