"""Before and around an HTTP application: what is too much, too slow or has left never reaches it.

A body is read whole before the application sees it, so that its size and its time are known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from time import monotonic
from typing import Any

from chronos_export.errors import ChronosExportError
from chronos_export.serving.admission import Admission
from chronos_export.serving.limits import ServingLimits, SlowError, TooLargeError
from chronos_export.serving.refusals import message_of, refusal_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Observe = Callable[[str, str, float], None]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
APIS = {"/v2/": "open inference", "/invocations": "sagemaker", "/v1/timeseries/": "timeseries"}
LEFT = 499
RETRY = 1  # seconds after which a client that was refused may ask again


class _LeftError(Exception):
    """The client has closed the connection."""


class Guard:
    """An ASGI application around another.

    Args:
        application: Answers what is let through.
        admission: Lets it.
        limits: Of time and size.
        observe: Told of each request: its API, its status, its seconds.
    """

    def __init__(
        self, application: Application, admission: Admission, limits: ServingLimits, observe: Observe
    ) -> None:
        self._application, self._admission = application, admission
        self._limits, self._observe = limits, observe

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request as ASGI has it."""
        if scope["type"] != "http":
            return await self._application(scope, receive, send)
        begin, status = monotonic(), LEFT

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if scope["method"] == "POST":
                await self._post(scope, receive, watched)
            else:
                await self._application(scope, receive, watched)
        except _LeftError:
            status = LEFT
        finally:
            if scope["method"] == "POST":
                self._observe(_api(scope["path"]), str(status), monotonic() - begin)
        return None

    async def _post(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            with self._admission.request(_declared(scope)):
                body = await self._body_in_time(receive)
                await self._until_left(scope, body, receive, send)
        except ChronosExportError as error:
            await refuse(send, refusal_of(error).http, message_of(error))

    async def _body_in_time(self, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._body(receive)
        except TimeoutError as error:
            raise SlowError(f"the request did not arrive within {self._limits.seconds:g} s") from error

    async def _body(self, receive: Receive) -> bytes:
        pieces, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _LeftError
            pieces.append(message.get("body", b""))
            size, more = size + len(pieces[-1]), message.get("more_body", False)
            if size > self._limits.body:
                raise TooLargeError(
                    f"the request has more than {self._limits.body} bytes",
                    allowed=f"at most {self._limits.body} bytes",
                )
        return b"".join(pieces)

    async def _until_left(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        """Let the application answer, and stop it if the client leaves."""
        given = iter([{"type": "http.request", "body": body, "more_body": False}])
        has_left = asyncio.create_task(_left(receive))

        async def replay() -> Message:
            message = next(given, None)
            return message if message is not None else await asyncio.shield(has_left)

        answer = asyncio.ensure_future(self._application(scope, replay, send))
        try:
            await asyncio.wait((answer, has_left), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise _LeftError
            answer.result()
        finally:
            for task in (answer, has_left):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await answer


async def _left(receive: Receive) -> Message:
    while (message := await receive())["type"] != "http.disconnect":
        pass
    return message


async def refuse(send: Send, status: int, message: str) -> None:
    """Answer with an error, and close the connection: what is left of the request is not read."""
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))
    if status == 429:
        headers.append((b"retry-after", str(RETRY).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _declared(scope: Message) -> int | None:
    """The size of the body, if the client says it."""
    found = dict(scope["headers"]).get(b"content-length", b"").decode("latin-1")
    return int(found) if found.isdecimal() and len(found) < 20 else None


def _api(path: str) -> str:
    return next((api for start, api in APIS.items() if path.startswith(start)), "other")
