"""What the guard lets through, against applications that wait to be stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from chronos_export.serving.admission import Admission
from chronos_export.serving.guard import Guard
from chronos_export.serving.limits import ServingLimits

Message = dict[str, Any]
LIMITS = ServingLimits(body=10, bodies=20, requests=3, seconds=0.2)
SCOPE = {"type": "http", "method": "POST", "path": "/invocations"}
LEAVES = {"type": "http.disconnect"}


async def echo(scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Stuck:
    """An application that never answers."""

    def __init__(self) -> None:
        self.begun, self.stopped = asyncio.Event(), False

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped = True


class Client:
    """One request: its pieces, and then silence, unless it leaves."""

    def __init__(self, *pieces: bytes, length: int | None = None, ends: bool = True) -> None:
        self.sent: list[Message] = []
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        for number, piece in enumerate(pieces, start=1):
            more = not ends or number < len(pieces)
            self._messages.put_nowait({"type": "http.request", "body": piece, "more_body": more})
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        self.scope = {**SCOPE, "headers": headers}

    def leave(self) -> None:
        self._messages.put_nowait(LEAVES)

    async def ask(self, guard: Guard) -> None:
        async def send(message: Message) -> None:
            self.sent.append(message)

        await guard(self.scope, self._messages.get, send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def error(self) -> str:
        return str(json.loads(self.sent[1]["body"])["error"])


def guarded(application: Any, limits: ServingLimits = LIMITS) -> tuple[Guard, Admission, list[str]]:
    seen: list[str] = []
    admission = Admission(limits)
    return Guard(application, admission, limits, lambda api, status, _: seen.append(status)), admission, seen


def test_a_body_arrives_whole() -> None:
    async def run() -> None:
        guard, admission, seen = guarded(echo)
        client = Client(b"abc", b"", b"def", length=6)
        await client.ask(guard)
        assert (client.status, client.sent[1]["body"]) == (200, b"abcdef")
        assert (seen, admission.requests) == (["200"], 0)

    asyncio.run(run())


def test_too_large_is_refused_whether_declared_or_not() -> None:
    async def run() -> None:
        guard, admission, seen = guarded(echo)
        for client in (
            Client(length=11),
            Client(b"x" * 6, b"y" * 6, length=None),
            Client(b"x" * 11, length=3),
        ):
            await client.ask(guard)
            assert client.status == 413
            assert "at most 10 bytes" in client.error
        assert (seen, admission.requests) == (["413"] * 3, 0)

    asyncio.run(run())


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def run() -> None:
        guard, admission, seen = guarded(echo)
        client = Client(b"abc", length=6, ends=False)
        await client.ask(guard)
        assert (client.status, client.error) == (408, "the request did not arrive within 0.2 s")
        gone = Client(b"abc", length=6, ends=False)
        gone.leave()
        await gone.ask(guard)
        assert (gone.sent, seen, admission.requests) == ([], ["408", "499"], 0)

    asyncio.run(run())


def test_one_request_or_byte_too_many_is_refused_at_once() -> None:
    async def run() -> None:
        stuck = Stuck()
        guard, admission, seen = guarded(stuck)
        first = Client(b"x" * 8, length=8)
        under_way = asyncio.create_task(first.ask(guard))
        await stuck.begun.wait()
        by_bytes = Client(b"x" * 5)  # of unknown length: counts as the most, 10, and 8 + 10 are still allowed
        second = asyncio.create_task(by_bytes.ask(guard))
        while admission.requests < 2:
            await asyncio.sleep(0)
        refused = Client(b"x" * 3, length=3)
        await refused.ask(guard)
        assert refused.status == 429
        assert refused.error.startswith("2 requests with 18 bytes are under way")
        assert (b"retry-after", b"1") in refused.sent[0]["headers"]
        empty = [Client(b"", length=0) for _ in range(2)]
        third = asyncio.create_task(empty[0].ask(guard))
        while admission.requests < 3:
            await asyncio.sleep(0)
        await empty[1].ask(guard)
        assert empty[1].error.startswith("3 requests with 18 bytes")
        for client in (first, by_bytes, empty[0]):
            client.leave()
        await asyncio.gather(under_way, second, third)
        assert (seen, admission.requests) == (["429", "429", "499", "499", "499"], 0)

    asyncio.run(run())


def test_who_leaves_stops_the_application() -> None:
    async def run() -> None:
        stuck = Stuck()
        guard, admission, seen = guarded(stuck)
        client = Client(b"abc", length=3)
        asked = asyncio.create_task(client.ask(guard))
        await stuck.begun.wait()
        client.leave()
        await asked
        assert (stuck.stopped, client.sent, seen, admission.requests) == (True, [], ["499"], 0)

    asyncio.run(run())


def test_a_fault_of_the_application_is_not_swallowed() -> None:
    async def fails(scope: Message, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        guard, admission, _ = guarded(fails)
        try:
            await Client(b"abc", length=3).ask(guard)
        except ZeroDivisionError:
            assert admission.requests == 0
        else:
            raise AssertionError

    asyncio.run(run())
