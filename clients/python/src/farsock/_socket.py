"""A far socket with the interface of `socket.socket`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import io
import socket
from collections.abc import Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from farsock import _address, _datagram, _errors, _far, _io, _options, v1
from farsock._base import Base, weakly
from farsock._connection import raise_report
from farsock._pull import Pull
from farsock._stream import Stream

if TYPE_CHECKING:
    from farsock._host import Host

Buffer = bytes | bytearray | memoryview

CLOSE_WAIT = 1.0
"""How many seconds `close` waits for the far socket to be closed; when the peer takes the rest so slowly, closing goes on by itself."""


class Socket(Base):
    """A TCP or UDP socket on a far host. Everything is as the documentation of `socket.socket` says, but for what the README lists."""

    def __init__(self, host: Host, family: int = -1, type: int = -1, proto: int = -1) -> None:
        family = socket.AF_INET if family == -1 else family
        type = socket.SOCK_STREAM if type == -1 else type
        connection = host._connection()
        far = _io.run(_far.create(connection, family, type, proto), lambda made: connection.close_later(_far.close(connection, made)))
        self._begin(host, far, host.getdefaulttimeout())

    @classmethod
    def _of_stream(cls, host: Host, stream: Stream, timeout: float | None) -> Socket:
        made = cls.__new__(cls)
        made._begin(host, stream.socket, timeout)
        made._attach(stream)
        return made

    @classmethod
    def _of_far(cls, host: Host, far: v1.Socket) -> Socket:
        made = cls.__new__(cls)
        made._begin(host, far, host.getdefaulttimeout())
        return made

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # === Addresses and connections ===

    def bind(self, address: Any) -> None:
        """Take a local address. An empty host is the wildcard address."""
        self._check_open()
        local = _address.to_text(self.family, address, "bind")
        _io.run(self._bind(local))

    async def _bind(self, local: str) -> None:
        request = v1.BindSocketRequest(session_id=self._far.session_id, socket_id=self._far.socket_id, local=local)
        answer = await self._connection.call(self._connection.sockets.BindSocket, request)
        raise_report(answer.report)
        self._far.CopyFrom(answer.socket)

    def listen(self, backlog: int | None = None) -> None:
        """Wait for connections."""
        self._check_open()
        _io.run(self._listen(min(socket.SOMAXCONN, 128) if backlog is None else backlog))

    async def _listen(self, backlog: int) -> None:
        far = self._far
        request = v1.ListenSocketRequest(session_id=far.session_id, socket_id=far.socket_id)
        request.backlog = min(max(backlog, 1), 65535)
        answer = await self._connection.call(self._connection.sockets.ListenSocket, request)
        raise_report(answer.report)
        far.CopyFrom(answer.socket)
        self._listens()

    def _listens(self) -> None:
        if self._accepts is None:
            connection, far = self._connection, self._far
            self._accepts = Pull(
                lambda timeout: _far.accept(connection, far, timeout),
                lambda got: _far.discard(got[0]),
            )
            self._accepts.listener = weakly(self._changed)

    def accept(self) -> tuple[Socket, Any]:
        """Take the oldest connection that waits, with its remote address."""
        self._check_open()
        if self._accepts is None:
            raise _errors.of_number(errno.EINVAL)
        stream, address = self._pulled(self._accepts)
        return Socket._of_stream(self._host, stream, self._host.getdefaulttimeout()), address

    def connect(self, address: Any) -> None:
        """Connect to a remote address. A host name is looked up by the far host."""
        self._check_open()
        if self._connecting is not None and not self._connecting.done():
            raise _errors.of_number(errno.EALREADY)
        remote = _address.to_text(self.family, address, "connect")
        timeout = self._timeout
        if timeout != 0:
            _io.run(self._connect(remote, timeout))
            return
        if self.type == socket.SOCK_DGRAM:
            _io.run(self._connect(remote, None))
            return
        if self._stream is not None:
            raise _errors.of_number(errno.EISCONN)
        self._connecting = _io.submit(self._connect(remote, None))
        self._connecting.add_done_callback(self._connected)
        raise _errors.of_number(errno.EINPROGRESS)

    def _connected(self, done: Future[None]) -> None:
        if not done.cancelled() and isinstance(error := done.exception(), OSError):
            self._connect_error = error
        self._changed()

    def connect_ex(self, address: Any) -> int:
        """Connect, and answer an errno instead of raising it."""
        try:
            self.connect(address)
        except socket.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    async def _connect(self, remote: str, timeout: float | None) -> None:
        far = self._far
        request = v1.ConnectSocketRequest(session_id=far.session_id, socket_id=far.socket_id, remote=remote)
        answer: v1.ConnectSocketResponse = await self._connection.wait("ConnectSocket", request, timeout)
        raise_report(answer.report)
        far.CopyFrom(answer.socket)
        if self.type == socket.SOCK_STREAM:
            self._attach(await _far.take_over(self._connection, far))

    # === Receiving ===

    def _readable_stream(self) -> Stream:
        self._check_open()
        if self._stream is None:
            if self._connect_error is not None:
                error, self._connect_error = self._connect_error, None
                raise error
            raise _errors.of_number(errno.ENOTCONN)
        return self._stream

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Take up to so many bytes; none at the end of a TCP stream."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if self._datagrams is not None:
            return self._pulled(self._datagrams, flags).data[:bufsize]
        stream = self._readable_stream()
        if flags & socket.MSG_WAITALL and not flags & socket.MSG_PEEK:
            buffer = bytearray(bufsize)
            return bytes(buffer[: self.recv_into(buffer, bufsize, flags)])
        if bufsize == 0:
            return b""
        return self._until(stream.changed, lambda: stream.take(bufsize, bool(flags & socket.MSG_PEEK)), flags)

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> int:
        """Take bytes into a buffer, and answer how many."""
        view = memoryview(buffer).cast("B")
        if nbytes < 0 or nbytes > len(view):
            raise ValueError("nbytes is greater than the length of the buffer" if nbytes > 0 else "negative buffersize in recv_into")
        view = view[: nbytes or len(view)]
        if self._datagrams is not None:
            data = self._pulled(self._datagrams, flags).data[: len(view)]
            view[: len(data)] = data
            return len(data)
        stream = self._readable_stream()
        peek = bool(flags & socket.MSG_PEEK)
        done = 0
        while len(view) > done:
            try:
                size = self._until(stream.changed, lambda: stream.take_into(view[done:], peek), flags)  # noqa: B023
            except OSError:
                if done:
                    break
                raise
            done += size
            if size == 0 or peek or not flags & socket.MSG_WAITALL:
                break
        return done

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        """Take a datagram, with who sent it; of TCP, bytes and None."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        if self._datagrams is None:
            return self.recv(bufsize, flags), None
        got = self._pulled(self._datagrams, flags)
        return got.data[:bufsize], got.source

    def recvfrom_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Take a datagram into a buffer, with who sent it."""
        if self._datagrams is None:
            return self.recv_into(buffer, nbytes, flags), None
        view = memoryview(buffer).cast("B")
        data, source = self.recvfrom(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), source

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> tuple[bytes, list[_datagram.Ancillary], int, Any]:
        """Take a datagram with its control messages, as far as options ask for them: (data, ancdata, msg_flags, address)."""
        if self._datagrams is None:
            return self.recv(bufsize, flags), [], 0, None
        got = self._pulled(self._datagrams, flags)
        messages = _datagram.ancillary(got, self._wanted_messages) if ancbufsize else []
        return got.data[:bufsize], messages, socket.MSG_TRUNC if len(got.data) > bufsize else 0, got.source

    def recvmsg_into(
        self, buffers: Iterable[bytearray | memoryview], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[_datagram.Ancillary], int, Any]:
        """Take a datagram into several buffers, one after the other."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data, messages, told, source = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        at = 0
        for view in views:
            part = data[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
        return len(data), messages, told, source

    # === Sending ===

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Hand over bytes, and answer how many there was room for; of UDP, send a datagram to the remote address."""
        self._check_open()
        if self._datagrams is not None:
            return self._send_datagram(_datagram.made(bytes(data), ""), len(memoryview(data).cast("B")))
        stream = self._writable_stream()
        view = memoryview(data).cast("B")
        if not view:
            return 0
        return self._until(stream.changed, lambda: stream.put(view) or None, flags)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """Hand over all bytes, within one timeout for all of them."""
        view = memoryview(data).cast("B")
        if self._datagrams is not None:
            self.send(view, flags)
            return
        self._check_open()
        stream = self._writable_stream()
        at = 0

        def attempt() -> bool | None:
            nonlocal at
            at += stream.put(view[at:])
            return True if at == len(view) else None

        if view:
            self._until(stream.changed, attempt, flags)

    def sendto(self, data: Buffer, *args: Any) -> int:
        """Send a datagram: sendto(data, address) or sendto(data, flags, address)."""
        if not 1 <= len(args) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args) + 1} given)")
        self._check_open()
        if self._datagrams is None:
            if self._stream is not None:
                return self.send(data)
            raise _errors.of_number(errno.EPIPE)
        destination = _address.to_text(self.family, args[-1], "sendto")
        return self._send_datagram(_datagram.made(bytes(data), destination), len(memoryview(data).cast("B")))

    def sendmsg(self, buffers: Iterable[Buffer], ancdata: Iterable[tuple[int, int, Any]] = (), flags: int = 0, address: Any = None) -> int:
        """Send a datagram of several buffers with control messages (IP_TTL, IP_TOS, IP_PKTINFO, and those of IPv6); of TCP, bytes."""
        data = b"".join(buffers)
        if self._datagrams is None:
            return self.send(data, flags)
        self._check_open()
        destination = "" if address is None else _address.to_text(self.family, address, "sendmsg")
        return self._send_datagram(_datagram.made(data, destination, ancdata), len(data))

    def _send_datagram(self, datagram: v1.Datagram, size: int) -> int:
        answer = _io.run(_datagram.send(self._connection, self._far, [datagram], self._timeout))
        self._far.CopyFrom(answer.socket)
        return size

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:
        """Send a file from `offset` until its end, or so many bytes of it."""
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("file should be opened in binary mode")
        if self.type != socket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if count is not None and count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
        if offset:
            file.seek(offset)
        sent = 0
        while data := file.read(64 << 10 if count is None else min(64 << 10, count - sent)):
            self.sendall(data)
            sent += len(data)
            if count is not None and sent >= count:
                break
        return sent

    def _writable_stream(self) -> Stream:
        if self._stream is None:
            if self._connect_error is not None:
                return self._readable_stream()
            raise _errors.of_number(errno.EAGAIN if self._connecting is not None and not self._connecting.done() else errno.EPIPE)
        return self._stream

    # === Options ===

    def setsockopt(self, level: int, optname: int, value: int | Buffer | None, optlen: int | None = None) -> None:
        """Set an option of the far socket, by this machine's number of it."""
        self._check_open()
        plain = value if isinstance(value, int) else bytes(optlen or 0) if value is None else bytes(value)
        for name, its_level in _datagram.SO_NAMES:
            if level == its_level and optname == _options.number_of(name):
                (self._wanted_messages.add if plain not in {0, bytes(4)} else self._wanted_messages.discard)(name)
                return
        _io.run(_options.set_option(self._connection, self._far, level, optname, plain))
        if (level, optname) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._linger_zero = plain == b"\1\0\0\0\0\0\0\0"

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """Answer an option of the far socket: an integer, or bytes where `buflen` asks for them."""
        self._check_open()
        if (level, optname) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self._pop_error()
        for name, its_level in _datagram.SO_NAMES:
            if level == its_level and optname == _options.number_of(name):
                return int(name in self._wanted_messages)
        value = _io.run(_options.get_option(self._connection, self._far, level, optname))
        if buflen:
            return (value if isinstance(value, bytes) else value.to_bytes(4, "little", signed=True))[:buflen]
        return int.from_bytes(value[:4], "little") if isinstance(value, bytes) else value

    def _pop_error(self) -> int:
        error: OSError | None
        if self._stream is not None:
            error = self._stream.pop_error()
        elif self._datagrams is not None:
            error = self._datagrams.pop_error()
        else:
            error, self._connect_error = self._connect_error, None
        return 0 if error is None else error.errno or errno.EIO

    # === The end ===

    def shutdown(self, how: int) -> None:
        """End one direction, or both."""
        self._check_open()
        if how not in {socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR}:
            raise _errors.of_number(errno.EINVAL)
        if self._stream is None:
            if self._accepts is not None and how != socket.SHUT_WR:
                _io.run(self._shutdown_listener())
                return
            raise _errors.of_number(errno.ENOTCONN)
        if self._stream.over:
            raise _errors.of_number(errno.ENOTCONN)
        if how != socket.SHUT_RD:
            self._stream.end()
        if how != socket.SHUT_WR:
            self._stream.stop_reading()

    async def _shutdown_listener(self) -> None:
        far = self._far
        request = v1.ShutdownSocketRequest(session_id=far.session_id, socket_id=far.socket_id, how=v1.SHUTDOWN_HOW_RECEIVE)
        raise_report((await self._connection.call(self._connection.sockets.ShutdownSocket, request)).report)

    def close(self) -> None:
        """Close the socket: what was written is handed over first. Files of `makefile` keep it open until they are closed."""
        with self._lock:
            if self._closed or self._io_refs > 0:
                self._closing = True
                return
            self._closed = True
        done = _io.submit(self._close())
        self._leave()
        with contextlib.suppress(concurrent.futures.TimeoutError, OSError):
            done.result(CLOSE_WAIT)

    _closing = False

    def abort(self) -> None:
        """Reset the connection and close the socket: the peer gets a RST."""
        self._linger_zero = True
        self._io_refs = 0
        self.close()

    def detach(self) -> int:
        """Refuse: there is no descriptor that could live on."""
        raise _errors.of_number(errno.EOPNOTSUPP)

    def _leave(self) -> None:
        for changed in (source.changed for source in (self._stream, self._accepts, self._datagrams) if source is not None):
            with changed:
                changed.notify_all()
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None

    async def _close(self) -> None:
        """Close the far socket, in a task that the connection waits for."""
        await asyncio.shield(self._connection.close_later(self._close_far()))

    async def _close_far(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        for pull in (self._accepts, self._datagrams):
            if pull is not None:
                pull.close()
        if self._stream is not None:
            # As Linux: a RST where bytes are left unread.
            if self._linger_zero or (self._stream.unread and not self._stream.over):
                self._stream.abort()
            await self._stream.close()
            return
        await _far.close(self._connection, self._far)

    def _decref_socketios(self) -> None:
        # For socket.SocketIO, which `makefile` uses.
        if self._io_refs > 0:
            self._io_refs -= 1
        if self._closing:
            self.close()

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Answer a file that reads and writes this socket, as `socket.socket.makefile` does."""
        if not set(mode) <= {"r", "w", "b"}:
            raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
        writing = "w" in mode
        reading = "r" in mode or not writing
        raw = socket.SocketIO(cast("socket.socket", self), cast("Any", "r" * reading + "w" * writing))
        self._io_refs += 1
        if buffering == 0:
            if "b" not in mode:
                raise ValueError("unbuffered streams must be binary")
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
        buffer: Any
        if reading and writing:
            buffer = io.BufferedRWPair(raw, raw, size)
        elif reading:
            buffer = io.BufferedReader(raw, size)
        else:
            buffer = io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffer
        text = io.TextIOWrapper(buffer, encoding, errors, newline)
        text.mode = mode  # type: ignore[misc]
        return text
