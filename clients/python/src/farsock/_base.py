"""What all operations of a far socket stand on: what it is, its timeout, its descriptor, and waiting."""

from __future__ import annotations

import errno
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from farsock import _datagram, _errors, _far, _io, v1
from farsock._connection import Connection
from farsock._pull import Pull
from farsock._readiness import Readiness
from farsock._stream import Stream

if TYPE_CHECKING:
    from farsock._host import Host

T = TypeVar("T")

# A system that has no MSG_NOSIGNAL has another way to ask for it.
_ACCEPTED_FLAGS = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_WAITALL | socket.MSG_TRUNC | getattr(socket, "MSG_NOSIGNAL", 0)


class Base:
    """What a far socket is, and how its operations wait."""

    def _begin(self, host: Host, far: v1.Socket, timeout: float | None) -> None:
        self._host = host
        self._far = far
        self._connection: Connection = host._connection()
        self._timeout = timeout
        self._stream: Stream | None = None
        self._connecting: Future[None] | None = None
        self._connect_error: OSError | None = None
        self._accepts: Pull[tuple[Stream, Any]] | None = None
        self._datagrams: Pull[_datagram.Received] | None = None
        self._readiness: Readiness | None = None
        self._wanted_messages: set[str] = set()
        self._linger_zero = False
        self._io_refs = 0
        self._closed = False
        self._lock = threading.Lock()
        if self.type == socket.SOCK_DGRAM:
            connection = self._connection
            self._datagrams = Pull(lambda timeout: _datagram.receive(connection, far, timeout), lambda _: None)
            self._datagrams.listener = weakly(self._changed)

    def _attach(self, stream: Stream) -> None:
        self._stream = stream
        stream.listener = weakly(self._changed)

    # === What it is ===

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if self._far.family == v1.FAMILY_IPV6 else socket.AF_INET

    @property
    def type(self) -> socket.SocketKind:
        """SOCK_STREAM or SOCK_DGRAM."""
        return socket.SOCK_DGRAM if self._far.transport == v1.TRANSPORT_UDP else socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        """IPPROTO_TCP or IPPROTO_UDP."""
        return socket.IPPROTO_UDP if self._far.transport == v1.TRANSPORT_UDP else socket.IPPROTO_TCP

    @property
    def socket_id(self) -> str:
        """The name by which the agent and its events know this socket."""
        return self._far.socket_id

    def __repr__(self) -> str:
        state = " [closed]" if self._closed else ""
        return f"<farsock.Socket{state} {self._host.name}/{self.socket_id} {self.family.name} {self.type.name}>"

    def __getstate__(self) -> None:
        raise TypeError(f"cannot pickle {self.__class__.__name__!r} object")

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._connection.closed:
            _io.soon(_spawn_close, self._connection, self._far, self._stream)
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def getsockname(self) -> Any:
        """Answer the local address; of an unbound socket the wildcard address and port 0."""
        return _io.run(self._address("local"))

    def getpeername(self) -> Any:
        """Answer the remote address. Raises ENOTCONN."""
        return _io.run(self._address("remote"))

    async def _address(self, which: str) -> Any:
        self._check_open()
        if not self._far.HasField("remote" if which == "remote" else "local"):
            request = v1.GetSocketRequest(session_id=self._far.session_id, socket_id=self._far.socket_id)
            self._far.CopyFrom((await self._connection.call(self._connection.sockets.GetSocket, request)).socket)
        if which == "remote":
            if not self._far.HasField("remote") or self._far.state != v1.SOCKET_STATE_CONNECTED:
                raise _errors.of_number(errno.ENOTCONN)
            return await self._connection.address(self._far.remote)
        if not self._far.HasField("local"):
            return ("::", 0, 0, 0) if self.family == socket.AF_INET6 else ("0.0.0.0", 0)
        return await self._connection.address(self._far.local)

    def fileno(self) -> int:
        """Answer a descriptor for `select`, `selectors` and event loops: it is readable and writable when this socket is.

        It is of this process and carries no bytes. -1 once the socket is closed.
        """
        if self._closed:
            return -1
        if self._readiness is None:
            self._readiness = Readiness()
        self._changed()
        return self._readiness.fileno()

    def _changed(self) -> None:
        """Keep the descriptor in step. Called from any thread."""
        readiness = self._readiness
        if readiness is not None:
            readiness.update(lambda: (self._is_readable(), self._is_writable()))

    def _is_readable(self) -> bool:
        if self._stream is not None:
            return self._stream.readable
        pull = self._accepts or self._datagrams
        if pull is not None:
            pull.want()
            return pull.ready
        return self._connect_error is not None

    def _is_writable(self) -> bool:
        if self._stream is not None:
            return self._stream.writable
        return self._accepts is None and (self._connecting is None or self._connecting.done())

    # === Timeouts ===

    def settimeout(self, value: float | None) -> None:
        """Let operations wait for so many seconds; 0: not at all; None: for ever."""
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """Answer how many seconds operations wait."""
        return self._timeout

    @property
    def timeout(self) -> float | None:
        """How many seconds operations wait."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Let operations wait for ever, or not at all."""
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Whether operations wait."""
        return self._timeout != 0

    def get_inheritable(self) -> bool:
        """Answer False: no child process inherits a far socket."""
        return False

    def set_inheritable(self, inheritable: bool) -> None:
        """Accept False only."""
        if inheritable:
            raise _errors.of_number(errno.EOPNOTSUPP)

    def _check_open(self) -> None:
        if self._closed:
            raise _errors.of_number(errno.EBADF)

    def _until(self, changed: threading.Condition, attempt: Callable[[], T | None], flags: int = 0) -> T:
        """Attempt again whenever something has changed, as long as the timeout allows."""
        self._check_open()
        if flags & ~_ACCEPTED_FLAGS:
            raise _errors.of_number(errno.EOPNOTSUPP)
        timeout = 0.0 if flags & socket.MSG_DONTWAIT else self._timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            with changed:
                while True:
                    got = attempt()
                    if got is not None:
                        return got
                    if timeout == 0:
                        raise _errors.of_number(errno.EAGAIN)
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        raise TimeoutError("timed out")
                    changed.wait(left)
                    self._check_open()
        finally:
            self._changed()

    def _pulled(self, pull: Pull[T], flags: int = 0) -> T:
        if flags & socket.MSG_DONTWAIT or self._timeout == 0:
            pull.probe()

        def attempt() -> T | None:
            pull.want()
            return pull.take(peek=bool(flags & socket.MSG_PEEK))

        return self._until(pull.changed, attempt, flags)


def _spawn_close(connection: Connection, far: v1.Socket, stream: Stream | None) -> None:
    connection.close_later(_far.close(connection, far) if stream is None else stream.close())


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Call a method as long as its object is there: what runs in the background must not keep a socket that nobody has any more."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (found := reference()) is not None:
            found()

    return call
