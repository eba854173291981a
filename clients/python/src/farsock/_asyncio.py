"""asyncio over far sockets: its own stream, transport and protocol types."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from farsock import _address, _errors, _far, _io, v1
from farsock._pull import Pull
from farsock._stream import Stream
from farsock._transport import Caller, DatagramTransport, StreamTransport
from farsock._transport_socket import TransportSocket

if TYPE_CHECKING:
    from farsock._connection import Connection

P = TypeVar("P", bound=asyncio.BaseProtocol)
ProtocolFactory = Callable[[], P]
ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]

LIMIT = 64 << 10
"""How many bytes a StreamReader holds, as in asyncio; when there are twice as many, nothing more is read."""


class Streams:
    """What `Host` has of asyncio."""

    def _connection(self) -> Connection:
        raise NotImplementedError

    async def open_connection(
        self, host: str | None = None, port: int | str | None = None, *, limit: int = LIMIT, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to (host, port), as `asyncio.open_connection`."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self.create_stream_connection(lambda: protocol, host, port, **kwargs)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def start_server(
        self,
        client_connected_cb: ClientConnected,
        host: str | Iterable[str] | None = None,
        port: int | str | None = None,
        *,
        limit: int = LIMIT,
        **kwargs: Any,
    ) -> Server:
        """Serve connections to (host, port), as `asyncio.start_server`."""
        loop = asyncio.get_running_loop()

        def factory() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(limit=limit, loop=loop)
            return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=loop)

        return await self.create_stream_server(factory, host, port, **kwargs)

    async def create_stream_connection(
        self,
        protocol_factory: ProtocolFactory[P],
        host: str | None = None,
        port: int | str | None = None,
        *,
        ssl: ssl_module.SSLContext | bool | None = None,
        family: int = 0,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to (host, port), as `loop.create_connection`. The far host looks the name up and tries each address."""
        spec = v1.TcpSocketSpec(connect=_address.join(host or "localhost", 0 if port is None else port))
        if family:
            spec.family = _address.of_family(family)
        if local_addr is not None:
            spec.bind = _address.to_text(socket.AF_INET6 if ":" in local_addr[0] else socket.AF_INET, local_addr, "bind")
        connection = self._connection()
        stream, extra = await _io.wait(_connect(connection, spec, timeout), lambda made: _far.discard(made[0]))
        return await _start(stream, extra, protocol_factory(), _context(ssl), server_hostname or host)

    async def create_stream_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Iterable[str] | None = None,
        port: int | str | None = None,
        *,
        family: int = 0,
        backlog: int = 100,
        ssl: ssl_module.SSLContext | None = None,
        reuse_port: bool = False,
        start_serving: bool = True,
    ) -> Server:
        """Serve connections to (host, port), as `loop.create_server`; without a host, by all addresses of the far host."""
        connection = self._connection()
        hosts = ["0.0.0.0", "::"] if not host else [host] if isinstance(host, str) else list(host)
        wanted = [one for one in hosts if host or family in {0, socket.AF_INET6 if ":" in one else socket.AF_INET}]
        listeners = await _io.wait(
            _listen(connection, wanted, port, family, backlog, reuse_port),
            lambda made: [connection.close_later(_far.close(connection, far)) for far, _ in made],
        )
        server = Server(connection, listeners, protocol_factory, ssl)
        if start_serving:
            await server.start_serving()
        return server

    async def create_datagram_endpoint(
        self,
        protocol_factory: ProtocolFactory[P],
        local_addr: tuple[str, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
        *,
        family: int = 0,
        reuse_port: bool = False,
        allow_broadcast: bool = False,
    ) -> tuple[asyncio.DatagramTransport, P]:
        """Make a UDP socket, as `loop.create_datagram_endpoint`."""
        connection = self._connection()
        far, extra = await _io.wait(
            _datagram_socket(connection, local_addr, remote_addr, family, reuse_port, allow_broadcast),
            lambda made: connection.close_later(_far.close(connection, made[0])),
        )
        protocol = protocol_factory()
        transport = DatagramTransport(connection, far, extra, protocol)
        return transport, protocol


async def _connect(connection: Connection, spec: v1.TcpSocketSpec, timeout: float | None) -> tuple[Stream, dict[str, Any]]:
    stream = await _far.connect(connection, spec, timeout)
    try:
        return stream, await _extra(connection, stream.socket)
    except BaseException:
        _far.discard(stream)
        raise


async def _extra(connection: Connection, far: v1.Socket) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if far.HasField("local"):
        extra["sockname"] = await connection.address(far.local)
    if far.HasField("remote"):
        extra["peername"] = await connection.address(far.remote)
    extra["socket"] = TransportSocket(connection, far, extra)
    return extra


async def _listen(
    connection: Connection, hosts: list[str], port: int | str | None, family: int, backlog: int, reuse_port: bool
) -> list[tuple[v1.Socket, Any]]:
    made: list[tuple[v1.Socket, Any]] = []
    try:
        for host in hosts:
            its = family or (socket.AF_INET6 if ":" in host else socket.AF_INET)
            far = await _far.listen(connection, its, _address.join(host, 0 if port is None else port), backlog, reuse_port)
            made.append((far, await connection.address(far.local)))
    except BaseException:
        for far, _ in made:
            connection.close_later(_far.close(connection, far))
        raise
    return made


async def _datagram_socket(
    connection: Connection, local: Any, remote: Any, family: int, reuse_port: bool, allow_broadcast: bool
) -> tuple[v1.Socket, dict[str, Any]]:
    spec = v1.UdpSocketSpec()
    spec.delivery.mode = v1.DELIVERY_MODE_PULL
    given = local or remote
    if given is None and not family:
        raise ValueError("unexpected address family")
    if family:
        spec.family = _address.of_family(family)
    if local is not None:
        spec.bind = _address.join(local[0] or ("::" if family == socket.AF_INET6 else "0.0.0.0"), local[1])
    if remote is not None:
        spec.connect = _address.join(*remote[:2])
    if reuse_port:
        spec.options.append(v1.SocketOption(name="SO_REUSEPORT", enabled=True))
    if allow_broadcast:
        spec.options.append(v1.SocketOption(name="SO_BROADCAST", enabled=True))
    far = await _far.create_udp(connection, spec)
    return far, await _extra(connection, far)


def _context(ssl: ssl_module.SSLContext | bool | None) -> ssl_module.SSLContext | None:
    return ssl_module.create_default_context() if ssl is True else ssl or None


async def _start(
    stream: Stream,
    extra: dict[str, Any],
    protocol: P,
    context: ssl_module.SSLContext | None,
    server_hostname: str | None,
    server_side: bool = False,
) -> tuple[asyncio.Transport, P]:
    # `start_tls` lets it read.
    first: asyncio.BaseProtocol = protocol if context is None else asyncio.Protocol()
    transport = StreamTransport(stream, extra, first, reading=context is None)
    try:
        await transport.begun
        if context is None:
            return transport, protocol
        loop = asyncio.get_running_loop()
        name = None if server_side else server_hostname
        secure = await loop.start_tls(transport, protocol, context, server_side=server_side, server_hostname=name)
        if secure is None:
            raise ConnectionAbortedError("the TLS handshake was aborted")
    except BaseException:
        transport.abort()
        raise
    protocol.connection_made(secure)
    return secure, protocol


class Server(asyncio.AbstractServer):
    """Listeners on a far host, and what serves their connections. As `asyncio.Server`."""

    def __init__(
        self,
        connection: Connection,
        listeners: list[tuple[v1.Socket, Any]],
        factory: Callable[[], asyncio.BaseProtocol],
        context: ssl_module.SSLContext | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._listeners = listeners
        self._factory = factory
        self._context = context
        self._pulls: list[Pull[tuple[Stream, Any]]] = []
        self._serving: set[asyncio.Task[Any]] = set()
        self._closed = self._loop.create_future()
        self._closing = False

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listeners; none once they are closed."""
        return () if self._closing else tuple(TransportSocket(self._connection, far, {"sockname": name}) for far, name in self._listeners)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Answer the event loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return bool(self._pulls) and not self._closing

    async def start_serving(self) -> None:
        """Accept connections from now on."""
        if not self._pulls and not self._closing:
            for far, _ in self._listeners:
                self._pulls.append(self._pull(far))

    def _pull(self, far: v1.Socket) -> Pull[tuple[Stream, Any]]:
        connection = self._connection
        pull: Pull[tuple[Stream, Any]] = Pull(lambda timeout: _far.accept(connection, far, timeout), lambda got: _far.discard(got[0]))
        pull.listener = Caller(lambda: self._accept(pull))
        pull.want()
        return pull

    def _accept(self, pull: Pull[tuple[Stream, Any]]) -> None:
        if self._closing:
            return
        try:
            got = pull.take()
        except OSError as error:
            if self._connection.closed:
                self.close()
                return
            if isinstance(error, _errors.AgentError) or error.errno in _FATAL:
                self._loop.call_exception_handler({"message": "a far listener has failed", "exception": error})
                self.close()
                return
            got = None
        pull.want()
        if got is not None:
            task = self._loop.create_task(self._serve(got[0]))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, stream: Stream) -> None:
        try:
            extra = await _io.wait(_extra(self._connection, stream.socket))
        except BaseException:
            _io.soon(_far.discard, stream)
            raise
        try:
            await _start(stream, extra, self._factory(), self._context, None, server_side=True)
        except (OSError, ssl_module.SSLError) as error:
            self._loop.call_exception_handler({"message": "a connection could not be served", "exception": error})

    async def serve_forever(self) -> None:
        """Accept connections until cancelled or closed."""
        await self.start_serving()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    def close(self) -> None:
        """Accept no more; connections stay."""
        if not self._closing:
            self._closing = True
            for pull in self._pulls:
                pull.close()
            done = _io.submit(self._close_far())
            done.add_done_callback(lambda _: self._told())

    async def _close_far(self) -> None:
        closing = [self._connection.close_later(_far.close(self._connection, far)) for far, _ in self._listeners]
        await asyncio.gather(*closing, return_exceptions=True)

    def _told(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closed.set_result, None)

    async def wait_closed(self) -> None:
        """Wait until the far listeners are closed."""
        await asyncio.shield(self._closed)


# Errors of the listener; others are of one connection. accept(2).
_FATAL = {errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP, errno.ECANCELED}
