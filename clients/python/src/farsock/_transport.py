"""Transports of asyncio over far sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from farsock import _address, _datagram, _errors, _far, _io, v1
from farsock._pull import Pull
from farsock._stream import Stream

if TYPE_CHECKING:
    from farsock._connection import Connection

READ_SIZE = 256 << 10
"""The most bytes that a protocol gets at a time, as in asyncio."""
BATCH = 64
"""How many datagrams are sent in one call."""


class Caller:
    """Calls something on the event loop of a program whenever a far socket has news, once for all of them that come together."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._callback = callback
        self._pending = False

    def __call__(self) -> None:
        if not self._pending:
            self._pending = True
            # Nobody is there any more when the program's loop is closed.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._pending = False
        self._callback()


class StreamTransport(asyncio.Transport):
    """The transport of a far TCP connection."""

    # What `loop.start_tls` asks of a transport.
    _start_tls_compatible = True

    def __init__(self, stream: Stream, extra: dict[str, Any], protocol: asyncio.BaseProtocol, reading: bool = True) -> None:
        super().__init__(extra)
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._protocol = protocol
        self._reading = reading
        self._eof_told = False
        self._ending = False
        self._closing = False
        self._lost_told = False
        self._writing_paused = False
        self._high, self._low = 64 << 10, 16 << 10
        self.begun: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._protocol.connection_made(self)
        if not self.begun.done():
            self.begun.set_result(None)
        self._stream.listener = Caller(self._pump)
        self._pump()

    def _pump(self) -> None:
        """Bring the protocol up to date."""
        if self._lost_told:
            return
        if self._writing_paused and self._stream.unsent <= self._low:
            self._writing_paused = False
            self._guard(self._protocol.resume_writing)
        if self._reading and not self._closing and not self._eof_told:
            try:
                self._read()
            except OSError as error:
                self._fail(error)

    def _read(self) -> None:
        data = self._stream.take(READ_SIZE)
        if data is None:
            return
        if data:
            if isinstance(self._protocol, asyncio.BufferedProtocol):
                self._feed(self._protocol, memoryview(data))
            elif isinstance(self._protocol, asyncio.Protocol):
                self._guard(self._protocol.data_received, data)
            # Others get their turn before the rest.
            self._loop.call_soon(self._pump)
            return
        self._eof_told = True
        stays_open = False
        if isinstance(self._protocol, (asyncio.Protocol, asyncio.BufferedProtocol)):
            stays_open = bool(self._protocol.eof_received())
        if not stays_open:
            self.close()

    def _feed(self, protocol: asyncio.BufferedProtocol, data: memoryview) -> None:
        while data and not self._closing:
            buffer = memoryview(protocol.get_buffer(len(data))).cast("B")
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            self._guard(protocol.buffer_updated, size)

    def _guard(self, callback: Callable[..., object], *args: object) -> None:
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.call_exception_handler(
                {"message": "a protocol has failed", "exception": error, "transport": self, "protocol": self._protocol}
            )
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """The connection has broken, or the protocol."""
        if not self._closing:
            self._closing = True
            self._stream.abort()
            self._close_far(error if isinstance(error, Exception) else None)

    # What TLS of asyncio asks of a transport when it has failed.
    _force_close = _fail

    def _close_far(self, error: Exception | None) -> None:
        done = _io.submit(_closed(self._stream))
        done.add_done_callback(lambda _: self._call_soon(self._tell_lost, error))

    def _call_soon(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def _tell_lost(self, error: Exception | None) -> None:
        if not self._lost_told:
            self._lost_told = True
            self._protocol.connection_lost(error)

    # === What asyncio.Transport has ===

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Change the protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Answer the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closing, or closed."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether the protocol gets what comes."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Read nothing for now: the window of the peer closes when what may be under way has come."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read again."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.call_soon(self._pump)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as soon as they can be."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._ending:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        try:
            self._stream.put(memoryview(data).cast("B"), bounded=False)
        except OSError as error:
            self._fail(error)
            return
        if not self._writing_paused and self._stream.unsent > self._high:
            self._writing_paused = True
            self._guard(self._protocol.pause_writing)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send bytes, as soon as they can be."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Answer True."""
        return True

    def write_eof(self) -> None:
        """Send a FIN after what was written."""
        if not self._ending and not self._closing:
            self._ending = True
            self._stream.end()

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""
        return self._stream.unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Answer (low, high)."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say when the protocol is paused and resumed."""
        if high is None:
            high = 64 << 10 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    def close(self) -> None:
        """Send what waits, then close."""
        if not self._closing:
            self._closing = True
            self._close_far(None)

    def abort(self) -> None:
        """Reset the connection at once: what waits is lost, and the peer is told so by a RST."""
        self._stream.abort()
        self.close()


async def _closed(stream: Stream) -> None:
    # The connection waits for it, too, when the program does not any more.
    await asyncio.shield(stream.connection.close_later(stream.close()))


class DatagramTransport(asyncio.DatagramTransport):
    """The transport of a far UDP socket."""

    def __init__(self, connection: Connection, far: v1.Socket, extra: dict[str, Any], protocol: asyncio.BaseProtocol) -> None:
        super().__init__(extra)
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._far = far
        self._protocol = protocol
        self._closing = False
        self._unsent: list[v1.Datagram] = []
        self._unsent_bytes = 0
        self._sending = False
        self._writing_paused = False
        self._high, self._low = 64 << 10, 16 << 10
        self._pull: Pull[_datagram.Received] = Pull(lambda timeout: _datagram.receive(connection, far, timeout), lambda _: None)
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._protocol.connection_made(self)
        self._pull.listener = Caller(self._received)
        self._pull.want()

    def _received(self) -> None:
        if self._closing or not isinstance(self._protocol, asyncio.DatagramProtocol):
            return
        try:
            got = self._pull.take()
        except _errors.AgentError as error:
            self._close(error)
            return
        except OSError as error:
            self._protocol.error_received(error)
            got = None
        self._pull.want()
        if got is not None:
            self._protocol.datagram_received(got.data, got.source)

    # === What asyncio.DatagramTransport has ===

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Send a datagram."""
        if self._closing:
            return
        family = socket.AF_INET6 if self._far.family == v1.FAMILY_IPV6 else socket.AF_INET
        if addr is not None and self._far.HasField("remote"):
            if tuple(addr[:2]) != tuple(self.get_extra_info("peername")[:2]):
                raise ValueError(f"Invalid address: must be None or {self.get_extra_info('peername')}")
            addr = None
        self._unsent.append(_datagram.made(bytes(data), "" if addr is None else _address.to_text(family, addr, "sendto")))
        self._unsent_bytes += len(data)
        self._send()
        if not self._writing_paused and self._unsent_bytes > self._high:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _send(self) -> None:
        if self._sending or not self._unsent:
            return
        self._sending = True
        batch, self._unsent = self._unsent[:BATCH], self._unsent[BATCH:]
        done = _io.submit(_send_all(self._connection, self._far, batch))
        done.add_done_callback(lambda _: self._call_soon(self._sent, sum(len(one.payload.data) for one in batch), done))

    def _call_soon(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def _sent(self, size: int, done: Any) -> None:
        self._sending = False
        self._unsent_bytes -= size
        if (lost := done.exception()) is not None:
            self._close(lost)
            return
        for error in done.result():
            if isinstance(self._protocol, asyncio.DatagramProtocol):
                self._protocol.error_received(error)
        self._send()
        if self._writing_paused and self._unsent_bytes <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._closing and not self._unsent:
            self._close_far(None)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Change the protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Answer the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closing, or closed."""
        return self._closing

    def close(self) -> None:
        """Send what waits, then close."""
        if not self._closing:
            self._closing = True
            self._pull.close()
            if not self._sending:
                self._close_far(None)

    def abort(self) -> None:
        """Close at once."""
        self._close(None)

    def _close(self, error: Exception | None) -> None:
        if not self._closing or self._unsent:
            self._closing = True
            self._unsent.clear()
            self._pull.close()
            self._close_far(error)

    def _close_far(self, error: Exception | None) -> None:
        done = _io.submit(_closed_datagram(self._connection, self._far))
        done.add_done_callback(lambda _: self._call_soon(self._protocol.connection_lost, error))


async def _closed_datagram(connection: Connection, far: v1.Socket) -> None:
    await asyncio.shield(connection.close_later(_far.close(connection, far)))


async def _send_all(connection: Connection, far: v1.Socket, batch: list[v1.Datagram]) -> list[OSError]:
    """Send datagrams, and go on behind each that the kernel does not take."""
    errors: list[OSError] = []
    while batch:
        request = v1.SendDatagramsRequest(session_id=far.session_id, socket_id=far.socket_id, datagrams=batch)
        answer: v1.SendDatagramsResponse = await connection.wait("SendDatagrams", request, None)
        batch = batch[answer.datagrams_sent :]
        if answer.report.HasField("error"):
            errors.append(_errors.of_socket(answer.report.error))
            batch = batch[1:]
    return errors
