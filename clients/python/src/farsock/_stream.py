"""A TCP connection's bytes, both ways, through a TransferSocket stream."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from farsock import _errors, _io, v1
from farsock._connection import DEADLINE, LONG, duration, raise_report
from farsock._transfer import FrameError, Transfer

if TYPE_CHECKING:
    from farsock._connection import Connection, Slot

    Call = grpc.aio.StreamStreamCall[v1.TransferSocketRequest, v1.TransferSocketResponse]

WINDOW = 512 << 10
"""How many bytes of the peer are taken before the program has read them. What is beyond stays in the far kernel, and closes the window."""
FRAME = 128 << 10
"""The most bytes that are sent in one frame."""
UNSENT = 512 << 10
"""How many bytes wait to be sent before a write has to."""
TURN = 1.0
"""How many seconds a stream that is closing waits for a peer that does not read, before it is another one's turn."""


class Stream:
    """One stream. Methods may be called from any thread and never wait, but for those that are coroutines: these run on the loop of `_io`.

    `changed` is notified, and `listener` called on that loop, whenever something can be read, can be written, or has ended.
    """

    _answers: AsyncIterator[v1.TransferSocketResponse]

    def __init__(self, connection: Connection, session: str) -> None:
        self.changed = threading.Condition()
        self.listener: Callable[[], None] | None = None
        self.session = session
        self.socket = v1.Socket()
        self.over = False
        """The stream has ended: no frame goes either way any more."""
        self.connection = connection
        self._slot: Slot | None = None
        self._call: Call | None = None
        self._transfer = Transfer()
        self._wake = asyncio.Event()
        self._wake.set()
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        # All below is guarded by `changed`.
        self._inbox: deque[memoryview] = deque()
        self._readable = 0
        # What was read and not granted again; at first the whole window is to be granted.
        self._consumed = WINDOW
        self._outbox: deque[memoryview] = deque()
        self._unsent = 0
        self._woken = False
        self._ending = False
        self._aborting = False
        self._closing = False
        self._deaf = False
        self._error: OSError | None = None
        self._lost: OSError | None = None
        self._broken = False

    # === Beginning and end ===

    @classmethod
    async def open(cls, connection: Connection, session: str, request: v1.TransferSocketRequest) -> Stream:
        """Take a connection over, or make one. Raises OSError as connect(2) does, TimeoutError, AgentError."""
        stream = cls(connection, session)
        stream._slot = connection.streams.slot()
        stream._call = stream._slot.sockets.TransferSocket(None, metadata=connection.metadata)
        # Not `read`: it gives up what has come already when a frame of ours meets the end of the stream.
        stream._answers = aiter(stream._call)
        wait = request.create.call.timeout.ToTimedelta().total_seconds() if request.HasField("create") else LONG
        try:
            opened = await asyncio.wait_for(stream._first(request), wait + DEADLINE)
        except BaseException as error:
            stream._give_up()
            if isinstance(error, grpc.aio.AioRpcError):
                raise _errors.of_status(error, connection.name) from None
            if isinstance(error, asyncio.TimeoutError):
                raise _errors.lost(connection.name, "it does not answer") from None
            if isinstance(error, asyncio.CancelledError) and request.HasField("create"):
                connection.cancel_later(session, request.create.call.request_id)
            raise
        try:
            raise_report(opened.report)
        except OSError:
            stream._give_up()
            raise
        stream.socket = opened.socket
        _io.spawn(stream._run())
        return stream

    def _give_up(self) -> None:
        assert self._call is not None
        assert self._slot is not None
        self._call.cancel()
        self._slot.release()

    @classmethod
    def failed(cls, connection: Connection, session: str, socket: v1.Socket, error: OSError) -> Stream:
        """Make the stream of a connection that has broken before it could be taken over."""
        stream = cls(connection, session)
        stream.socket = socket
        stream._error = error
        stream.over = True
        return stream

    async def _first(self, request: v1.TransferSocketRequest) -> v1.TransferOpened:
        assert self._call is not None
        self._transfer.send("open")
        await self._call.write(request)
        answer = await anext(self._answers, None)
        if answer is None or not answer.HasField("opened"):
            raise OSError(errno.EPROTO, "the agent has not answered the first frame")
        self._transfer.receive("opened", answer.opened.window)
        return answer.opened

    async def _run(self) -> None:
        """Carry frames until the stream ends, then tell."""
        assert self._call is not None
        assert self._slot is not None
        writer = asyncio.ensure_future(self._write_frames(self._call))
        lost: OSError | None = None
        try:
            await self._read_frames()
        except grpc.aio.AioRpcError as error:
            lost = _errors.of_status(error, self.connection.name)
        except FrameError as mistake:
            lost = OSError(errno.EPROTO, f"the agent has sent what it must not: {mistake}")
        except asyncio.CancelledError:
            lost = _errors.of_number(errno.ECONNABORTED)
        finally:
            writer.cancel()
            self._call.cancel()
            self._slot.release()
            with self.changed:
                self.over = True
                if not self._transfer.closed and not (self._transfer.agent_ended and self._transfer.client_ended):
                    self._lost = lost or _errors.of_number(errno.ECONNABORTED)
            self._tell()

    async def _read_frames(self) -> None:
        async for answer in self._answers:
            kind = answer.WhichOneof("frame")
            if kind == "data":
                data = answer.data
                if not self._transfer.receive("data", len(data)):
                    continue
                with self.changed:
                    if self._closing:
                        self._took(len(data), 0)
                    else:
                        self._inbox.append(memoryview(data))
                        self._readable += len(data)
            elif kind == "window":
                self._transfer.receive("window", answer.window)
                self._wake.set()
            elif kind is not None:
                self._transfer.receive(kind)
                if kind == "error":
                    with self.changed:
                        self._error = _errors.of_socket(answer.error)
                elif kind == "closed":
                    self._gone()
            self._tell()

    def _gone(self) -> None:
        """The socket is gone. Where nobody here and no error has ended it, that must not look like the end of the peer's bytes."""
        with self.changed:
            expected = self._closing or self._aborting or self._broken or self._error is not None
            if not expected and not self._transfer.agent_ended:
                self._lost = _errors.of_number(errno.ECONNABORTED)
            self._broken = True

    async def _write_frames(self, call: Call) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (frame := self._next_frame()) is not None:
                    await call.write(frame)
                    self._tell()
                if self._transfer.client_ended and self._transfer.agent_ended:
                    await call.done_writing()
                    return

    def _next_frame(self) -> v1.TransferSocketRequest | None:
        with self.changed:
            self._woken = False
            transfer = self._transfer
            if transfer.closed or transfer.aborted:
                return None
            if self._aborting:
                transfer.send("abort")
                return v1.TransferSocketRequest(abort=v1.TransferAbort())
            if self._consumed >= WINDOW // 2 and not transfer.agent_ended:
                size, self._consumed = self._consumed, 0
                transfer.send("window", size)
                return v1.TransferSocketRequest(window=size)
            if self._unsent:
                size = min(transfer.to_agent, FRAME, self._unsent)
                if size <= 0:
                    return None
                transfer.send("data", size)
                return v1.TransferSocketRequest(data=self._take_unsent(size))
            if self._ending and not transfer.client_ended:
                transfer.send("end")
                return v1.TransferSocketRequest(end=v1.TransferEnd())
            return None

    def _take_unsent(self, size: int) -> bytes:
        self._unsent -= size
        parts = []
        while size:
            part = self._outbox.popleft()
            if len(part) > size:
                self._outbox.appendleft(part[size:])
                part = part[:size]
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _tell(self) -> None:
        with self.changed:
            self.changed.notify_all()
            listener = self.listener
        if listener is not None:
            listener()
        for waiter in self._waiters:
            if waiter[0]() and not waiter[1].done():
                waiter[1].set_result(None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        if not condition():
            waiter = (condition, asyncio.get_running_loop().create_future())
            self._waiters.append(waiter)
            try:
                await waiter[1]
            finally:
                self._waiters.remove(waiter)

    def _wake_writer(self) -> None:
        # Called with `changed` held: one wake-up is enough until the writer has looked.
        if not self._woken:
            self._woken = True
            _io.soon(self._wake.set)

    # === For programs ===

    @property
    def readable(self) -> bool:
        """A read would not wait."""
        with self.changed:
            return bool(self._readable or self._has_ended or self._error)

    @property
    def writable(self) -> bool:
        """A write would not wait."""
        with self.changed:
            return self._unsent < UNSENT or self._is_mute or self._error is not None

    @property
    def unread(self) -> int:
        """How many bytes have come that nobody has read."""
        return self._readable

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent."""
        return self._unsent

    @property
    def ended(self) -> bool:
        """Everything has been read, and nothing more comes."""
        with self.changed:
            return not self._readable and self._has_ended

    @property
    def _has_ended(self) -> bool:
        return self._transfer.agent_ended or self._broken or self._deaf or self.over

    @property
    def _is_mute(self) -> bool:
        return self._ending or self._aborting or self._broken or self._transfer.failed or self.over

    def take(self, size: int, peek: bool = False) -> bytes | None:
        """Take up to so many bytes; empty at the end, None when there is nothing yet. Raises what recv(2) answers, once."""
        with self.changed:
            if not self._readable:
                return self._nothing()
            first = self._inbox[0]
            if not peek and len(first) <= size and (len(self._inbox) == 1 or len(first) == size):
                self._inbox.popleft()
                self._took(len(first))
                return bytes(first)
            buffer = bytearray(min(size, self._readable))
            self._copy(memoryview(buffer), peek)
            return bytes(buffer)

    def take_into(self, buffer: memoryview, peek: bool = False) -> int | None:
        """Take as many bytes as `buffer` holds; otherwise as `take`."""
        with self.changed:
            if not self._readable:
                return None if self._nothing() is None else 0
            return self._copy(buffer, peek)

    def _copy(self, buffer: memoryview, peek: bool) -> int:
        done = 0
        for part in list(self._inbox):
            size = min(len(part), len(buffer) - done)
            buffer[done : done + size] = part[:size]
            done += size
            if not peek:
                if size == len(part):
                    self._inbox.popleft()
                else:
                    self._inbox[0] = part[size:]
            if done == len(buffer):
                break
        if not peek:
            self._took(done)
        return done

    def _took(self, size: int, kept: int | None = None) -> None:
        self._readable -= size if kept is None else kept
        self._consumed += size
        if self._consumed >= WINDOW // 2:
            self._wake_writer()

    def _nothing(self) -> bytes | None:
        self._raise_error()
        if self._lost is not None and not (self._transfer.agent_ended or self._deaf):
            raise _again(self._lost)
        return b"" if self._has_ended else None

    def _raise_error(self) -> None:
        # As SO_ERROR: told once, and the connection is over.
        error, self._error = self._error, None
        if error is not None:
            self._broken = True
            raise error

    def put(self, data: memoryview, bounded: bool = True) -> int:
        """Hand over bytes to be sent, up to what there is room for; 0: wait. Raises what send(2) answers."""
        with self.changed:
            self._raise_error()
            if self._is_mute:
                if self._lost is not None and not self._ending:
                    raise _again(self._lost)
                raise _errors.of_number(errno.EPIPE)
            size = min(len(data), UNSENT - self._unsent) if bounded else len(data)
            if size > 0:
                self._outbox.append(memoryview(bytes(data[:size])))
                self._unsent += size
                self._wake_writer()
            return max(size, 0)

    def pop_error(self) -> OSError | None:
        """Answer the pending error, and forget it: SO_ERROR."""
        with self.changed:
            error, self._error = self._error, None
            if error is not None:
                self._broken = True
            return error or self._lost

    def end(self) -> None:
        """Send a FIN after what was written. shutdown(2) with SHUT_WR."""
        with self.changed:
            self._ending = True
            self._wake_writer()

    def stop_reading(self) -> None:
        """Read nothing more. shutdown(2) with SHUT_RD."""
        with self.changed:
            self._deaf = True
        _io.soon(self._tell)

    def abort(self) -> None:
        """Reset the connection."""
        with self.changed:
            self._aborting = True
            self._outbox.clear()
            self._unsent = 0
            self._wake_writer()

    async def close(self) -> None:
        """Hand everything over and close the far socket, or reset it after `abort`. It may take as long as the peer does not read."""
        transfer = self._transfer
        # A peer that waits until we read what it sends would not read what we send.
        with self.changed:
            self._closing = True
            self._inbox.clear()
            self._took(self._readable)
        if not self._aborting:
            self.end()
        await self._until(lambda: self.over or transfer.client_ended or transfer.failed or transfer.aborted)
        if not self.over and not self._aborting and not transfer.failed:
            if transfer.agent_ended:
                # The agent ends the stream when it has handed over everything.
                await self._until(lambda: self.over)
            else:
                # CloseSocket goes another way and must not overtake the bytes.
                await self._shut_down()
        await self._close_far()
        await self._until(lambda: self.over)

    async def _shut_down(self) -> None:
        """Wait until the agent has handed over everything: then it has ended the direction."""
        names = v1.EventFilter(socket_ids=[self.socket.socket_id], kinds=["shut_down", "closed"])
        request = v1.WaitEventRequest(session_id=self.session, filter=names, timeout=duration(TURN))
        connection = self.connection
        while not self.over:
            async with connection.waiting:
                if not (await connection.call(connection.events.WaitEvent, request, TURN)).timed_out:
                    return

    async def _close_far(self) -> None:
        if self._transfer.closed or not self.socket.socket_id:
            return
        connection = self.connection
        name = self.socket.socket_id
        if self._aborting:
            abort = v1.AbortSocketRequest(session_id=self.session, socket_id=name, allow_missing=True)
            await connection.call(connection.sockets.AbortSocket, abort)
        else:
            close = v1.CloseSocketRequest(session_id=self.session, socket_id=name, allow_missing=True)
            await connection.call(connection.sockets.CloseSocket, close)


def _again(error: OSError) -> OSError:
    """An exception that is raised more than once must not gather the traces of all of them."""
    return error.with_traceback(None)
