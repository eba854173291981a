"""Events of a session, as they happen and as they have happened, across lost connections."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from farsock import _errors, _io, v1
from farsock._connection import Connection

if TYPE_CHECKING:
    Call = grpc.aio.UnaryStreamCall[v1.WatchEventsRequest, v1.WatchEventsResponse]

SILENCE = 20.0
"""How many seconds without a frame an agent is waited for: four heartbeats."""
PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""How many seconds pass before the watch is tried again after it was lost; the last one then stays."""


@dataclass(frozen=True)
class Gap:
    """Events that are missing: they are not kept any more. The watch goes on after them."""

    first_seq: int
    last_seq: int
    payload_bytes: int | None
    """How many bytes of payload they had. None: that is not known any more."""


@dataclass(frozen=True)
class Restarted:
    """The agent was restarted, or has forgotten the session: all sockets are gone, and numbers begin anew."""

    instance_id: str


Item = v1.Event | Gap | Restarted


class Watch:
    """An endless iterator over events (`farsock.v1.Event`) in the order of their numbers, for `for` and for `async for`.

    When the connection to the agent is lost it comes back by itself and goes on where it was; what is missing is a `Gap`, another life of
    the agent a `Restarted`. Iterating waits; `next` does so with a timeout. Nothing is fetched ahead of who iterates but one batch.

    A watch with a name has no gaps: the agent holds what it has not taken yet, to the end of the session, and rather stops reading and
    accepting, and refuses what would cause events (LOG_FULL), than let go of it.
    """

    def __init__(self, connection: Connection, sockets: list[str], kinds: list[str], after: int | None, from_now: bool, name: str) -> None:
        self._connection = connection
        self._name = name
        self._acknowledged = 0
        self._filter = v1.EventFilter(socket_ids=sockets, kinds=kinds)
        self._after = after
        self._from_now = from_now
        self._session = ""
        self._instance = ""
        self._items: deque[Item] = deque()
        self._call: Call | None = None
        self._reading: asyncio.Future[object] | None = None
        self._closed = False
        self._seen = False
        self._tries = 0
        if from_now:
            # What happens after this is in the watch.
            _io.run(self._open())

    @property
    def through_seq(self) -> int | None:
        """The number up to which everything was seen: what `after` goes on from. None: nothing yet."""
        return self._after

    def close(self) -> None:
        """End the watch, and whoever waits for it."""
        self._closed = True
        _io.soon(self._cancel)

    def _cancel(self) -> None:
        self._reading = None
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Item:
        item = _io.run(self._next())
        if item is None:
            raise StopIteration
        return item

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Item:
        item = await _io.wait(self._next())
        if item is None:
            raise StopAsyncIteration
        return item

    def next(self, timeout: float | None = None) -> Item:
        """Wait for the next item. Raises TimeoutError, and ValueError once the watch is closed."""
        try:
            item = _io.run(asyncio.wait_for(self._next(), timeout))
        except asyncio.TimeoutError:
            raise TimeoutError("timed out") from None
        if item is None:
            raise ValueError("the watch is closed")
        return item

    async def _next(self) -> Item | None:
        while not self._items:
            if self._closed or self._connection.closed:
                return None
            try:
                if self._call is None:
                    await self._open()
                self._acknowledge()
                await self._read()
            except _errors.AgentError as error:
                self._cancel()
                self._call = None
                if self._closed:
                    return None
                await self._lost(error)
        return self._items.popleft()

    def _acknowledge(self) -> None:
        """Let go of what has been taken; whoever asks for the next item is done with those before it."""
        if self._name and self._after is not None and self._after > self._acknowledged:
            self._acknowledged = self._after
            request = v1.AckEventsRequest(session_id=self._session, watcher_id=self._name, through_event_seq=self._after)
            self._connection.close_later(self._connection.call(self._connection.events.AckEvents, request))

    async def _lost(self, error: _errors.AgentError) -> None:
        """Make up one's mind what to do about it."""
        if error.reason in {"INSTANCE_CHANGED", "SESSION_NOT_FOUND", "LEASE_EXPIRED", "FUTURE_EVENT"}:
            self._after = None
            self._acknowledged = 0
            self._instance = ""
        elif not isinstance(error, _errors.AgentLostError):
            raise error
        await asyncio.sleep(PAUSES[min(self._tries, len(PAUSES) - 1)])
        self._tries += 1

    async def _open(self) -> None:
        connection = self._connection

        async def work(session: str) -> Call:
            request = v1.WatchEventsRequest(session_id=session, filter=self._filter, instance_id=self._instance)
            request.watcher_id = self._name
            self._session = session
            request.view.form = v1.PAYLOAD_FORM_DATA
            if self._after is not None:
                request.after_event_seq = self._after
            elif self._from_now:
                request.from_now = True
            call = connection.events.WatchEvents(request, metadata=connection.metadata)
            opened = (await self._frame(call)).opened
            if self._instance not in {"", opened.instance_id} or (self._seen and not self._instance):
                self._items.append(Restarted(opened.instance_id))
            self._instance = opened.instance_id
            if self._from_now:
                # Where it goes on after it was lost, and of another instance from its beginning.
                self._after = opened.head_seq
                self._from_now = False
            self._seen = True
            self._tries = 0
            return call

        self._call = await connection.in_session(work)

    async def _read(self) -> None:
        assert self._call is not None
        answer = await self._frame(self._call)
        if answer.HasField("batch"):
            self._items.extend(answer.batch.events)
            self._after = answer.batch.through_seq
        elif answer.HasField("gap"):
            gap = answer.gap
            self._items.append(Gap(gap.first_seq, gap.last_seq, gap.payload_bytes if gap.HasField("payload_bytes") else None))
            self._after = gap.last_seq

    async def _frame(self, call: Call) -> v1.WatchEventsResponse:
        name = self._connection.name
        # To cancel a read would cancel the call: who does not wait any more leaves it to the next one.
        if self._reading is None:
            self._reading = asyncio.ensure_future(_read(call))
        await asyncio.wait({self._reading}, timeout=SILENCE)
        reading = self._reading
        if not reading.done():
            raise _errors.lost(name, f"no sign of life for {SILENCE:.0f} s")
        self._reading = None
        answer = reading.result()
        if isinstance(answer, grpc.aio.AioRpcError):
            raise _errors.of_status(answer, name)
        if not isinstance(answer, v1.WatchEventsResponse):
            # With OK: the session was deleted, or the agent stops.
            raise _errors.lost(name, "the watch has ended")
        return answer


async def _read(call: Call) -> object:
    try:
        return await call.read()
    except grpc.aio.AioRpcError as error:
        return error
    except asyncio.CancelledError:
        return None
