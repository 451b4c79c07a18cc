"""Connections as this server holds them: so many at a time, and none for whoever keeps it waiting while others come.

A connection waits for its client while the head or the body of a request is coming, while an answer is not taken, and between requests.
One that moves too little meanwhile is ended: after `PATIENCE_SECONDS` always, and sooner where others want its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from segpipe.server.faults import answer
from segpipe.server.settings import MOST_CONNECTIONS, MOST_REQUESTS

PATIENCE_SECONDS = 70.0
"""A little more than an upload has, which is told why it ends, and than uvicorn keeps a connection on which nothing is asked."""
RUSH_SECONDS = 2.0
"""For which a request may keep the server waiting while others want its place; a connection without one gives way at once."""
MOVE_BYTES = 1 << 14
"""So much, or the whole head of a request, or its end, counts as a move."""
_UNSENT_BYTES = 1 << 17
"""Of an answer, that the system takes from here before it has sent what it has: it takes megabytes else, and one that reads 300 KB a second
is not seen to move for five seconds."""
_LOOK_SECONDS = 1.0
_STATE = "/health"
_SLOW = "the request came, or its answer was taken, too slowly: ask again"
_BUSY = f"the server has {MOST_REQUESTS} requests in hand, the most that it takes at a time: ask again in a moment"


class Connection(H11Protocol):
    """One connection, spoken in HTTP/1.1 by uvicorn, and watched. For its arguments see there."""

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
        self._inside = self.app
        self.app = cast(Any, self._admitted)
        self._moved = time.monotonic()
        self._came = 0  # bytes since it has moved
        self._left = 0  # bytes of answers that the client had not taken at the last look
        self._look_task: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`: taken, if need be in the place of another one."""
        super().connection_made(transport)
        with contextlib.suppress(OSError, AttributeError):  # its client has left already, or the system knows no such limit
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._look()
        if len(self._others()) >= MOST_CONNECTIONS and not self._make_room():
            self._end(_BUSY, 503)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._look_task is not None:
            self._look_task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`: a whole head counts, and what is large, so that who sends byte by byte has not moved."""
        before = self.cycle
        super().data_received(data)
        self._came += len(data)
        if self.cycle is not before or self._came >= MOVE_BYTES:
            self._moves()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`: much of what waited was taken."""
        self._moves()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """See uvicorn: now the client has its time to take it, or to ask for something else."""
        self._moves()
        super().on_response_complete()

    @property
    def in_hand(self) -> bool:
        """Whether a request has begun and its answer was not taken to its end."""
        return self.cycle is not None and (not self.cycle.response_complete or self.transport.get_write_buffer_size() > 0)

    @property
    def there(self) -> bool:
        """Whether it takes a place; one that is being closed does, as long as its client takes the end of an answer."""
        return not self.transport.is_closing() or self.transport.get_write_buffer_size() > 0

    def stale(self, now: float) -> float:
        """Seconds for which it has waited for its client; 0: it is the server that others wait for."""
        return max(0.0, now - self._moved) if self._waits() else 0.0

    def _waits(self) -> bool:
        if self.transport.get_write_buffer_size():
            return True
        return not self.in_hand or (self.cycle.more_body and not self.flow.read_paused)

    def _moves(self) -> None:
        self._moved, self._came = time.monotonic(), 0

    def _look(self) -> None:
        """End it where nothing moves; looked at again after a moment."""
        left = self.transport.get_write_buffer_size()
        if not self._waits() or self._left - left >= MOVE_BYTES:
            self._moves()
            self._left = left
        self._left = max(self._left, left)
        if self.stale(time.monotonic()) > PATIENCE_SECONDS:
            self._end(_SLOW)
            return
        self._look_task = self.loop.call_later(_LOOK_SECONDS, self._look)

    async def _admitted(self, scope: Any, receive: Any, send: Any) -> None:
        """The application, unless too many requests are in hand, all of which move; the state is told in any case."""
        requests = sum(1 for one in self._others() if one.in_hand) + 1
        if requests > MOST_REQUESTS and scope["path"] != _STATE and not self._make_room(in_hand=True):
            await answer(503, _BUSY)(scope, receive, send)
            return
        await self._inside(scope, receive, send)

    def _others(self) -> list[Connection]:
        return [one for one in self.connections if isinstance(one, Connection) and one is not self and one.there]

    def _make_room(self, in_hand: bool = False) -> bool:
        """End one without a request, or else the one that has kept the server waiting for longest; False: none has for long.

        Args:
            in_hand: one with a request.
        """
        now = time.monotonic()
        seconds = {one: one.stale(now) for one in self._others() if one.in_hand or not in_hand}
        found = [one for one, stale in seconds.items() if not one.in_hand or stale >= RUSH_SECONDS]
        if not found:
            return False
        max(found, key=lambda one: (not one.in_hand, seconds[one]))._end(_SLOW)
        return True

    def send_400_response(self, msg: str) -> None:
        """See uvicorn: in one line of JSON, as every error."""
        self._say(400, "this is no request in HTTP/1.1, or its head is too long: send it again, by http and not https")

    def _end(self, text: str, status: int = 408) -> None:
        """Close it, with one line where a request waits for its answer, or a new client is refused."""
        waits = self.in_hand and not self.cycle.response_started if self.cycle is not None else status != HTTPStatus.REQUEST_TIMEOUT
        if waits and not self.transport.get_write_buffer_size():
            self._say(status, text)
        else:
            self.transport.abort()

    def _say(self, status: int, text: str) -> None:
        """The last words on it, for which its client has a moment."""
        reply = answer(status, text)
        words = b"".join(name + b": " + value + b"\r\n" for name, value in reply.raw_headers)
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
        self.transport.write(head + words + b"connection: close\r\n\r\n" + bytes(reply.body))
        self.transport.close()
        self.loop.call_later(_LOOK_SECONDS, self.transport.abort)
