"""httpx from a far host: `httpx.Client(transport=farsock.httpx.Transport(host))`. Needs `farsock[httpx]`.

Connections are far, everything else is here: names are looked up by the far host, certificates are checked by this one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import anyio
import httpcore
import httpx

if TYPE_CHECKING:
    from farsock._host import Host
    from farsock._socket import Socket

_CHUNK = 64 << 10


class Transport(httpx.BaseTransport):
    """The transport of an `httpx.Client`, over connections of `host`. What else it takes is as in `httpcore.ConnectionPool`."""

    def __init__(self, host: Host, **pool: Any) -> None:
        self._pool = httpcore.ConnectionPool(network_backend=_Backend(host), **pool)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Carry out a request."""
        assert isinstance(request.stream, httpx.SyncByteStream)
        with _told():
            answer = self._pool.handle_request(_core(request))
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """The transport of an `httpx.AsyncClient`, over connections of `host`."""

    def __init__(self, host: Host, **pool: Any) -> None:
        self._pool = httpcore.AsyncConnectionPool(network_backend=_AsyncBackend(host), **pool)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry out a request."""
        with _told():
            answer = await self._pool.handle_async_request(_core(request))
        return httpx.Response(answer.status, headers=answer.headers, stream=_AsyncBody(answer), extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def _core(request: httpx.Request) -> httpcore.Request:
    url = request.url
    core = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    return httpcore.Request(request.method, core, headers=request.headers.raw, content=request.stream, extensions=request.extensions)


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _told():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _told():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


class _told:  # noqa: N801
    """Raises httpx's exception of the same name in place of httpcore's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for cls in type(error).__mro__ if error is not None else ():
            if cls.__module__.startswith("httpcore") and hasattr(httpx, cls.__name__):
                raise getattr(httpx, cls.__name__)(str(error)) from error


# === What httpcore asks of a network ===


class _Backend(httpcore.NetworkBackend):
    def __init__(self, host: Host) -> None:
        self._host = host

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        source = None if local_address is None else (local_address, 0)
        try:
            sock = self._host.create_connection((host, port), timeout, source)
            for option in socket_options or ():
                sock.setsockopt(*option)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return _Stream(sock)


class _Stream(httpcore.NetworkStream):
    def __init__(self, sock: Socket, tls: _Tls | None = None) -> None:
        self._socket = sock
        self._tls = tls

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.settimeout(timeout)
            if self._tls is not None:
                return self._tls.read(max_bytes)
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._socket.settimeout(timeout)
            if self._tls is not None:
                self._tls.write(buffer)
            else:
                self._socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._socket.settimeout(timeout)
            return _Stream(self._socket, _Tls(self._socket, ssl_context, server_hostname))
        except TimeoutError as error:
            self.close()
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(str(error)) from error

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return None if self._tls is None else self._tls.ssl
        if info == "client_addr":
            return self._socket.getsockname()
        if info == "server_addr":
            return self._socket.getpeername()
        if info == "is_readable":
            # httpcore asks it of an idle connection: readable means that the server has closed it.
            return self._socket._is_readable()
        return None


class _Tls:
    """TLS over a socket that has no descriptor for OpenSSL."""

    def __init__(self, sock: Socket, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._socket = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._in, self._out, server_hostname=server_hostname)
        self._do(self.ssl.do_handshake)

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._do(self.ssl.read, size))
        except ssl.SSLZeroReturnError:
            return b""

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._do(self.ssl.write, view) :]

    def _do(self, work: Any, *args: Any) -> Any:
        while True:
            try:
                return work(*args)
            except ssl.SSLWantReadError:
                self._flush()
                data = self._socket.recv(_CHUNK)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._out.pending:
            self._socket.sendall(self._out.read())


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, host: Host) -> None:
        self._host = host

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        local = None if local_address is None else (local_address, 0)
        try:
            _, protocol = await self._host.create_stream_connection(_Bytes, host, port, local_addr=local, timeout=timeout)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return _AsyncStream(protocol)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Bytes(asyncio.Protocol):
    """A connection as bytes. Its transport may be another one later: that of TLS over the first."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(loop=asyncio.get_running_loop())
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.reader.set_transport(transport)

    def data_received(self, data: bytes) -> None:
        self.reader.feed_data(data)

    def eof_received(self) -> bool:
        self.reader.feed_eof()
        return False

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.reader.feed_eof()
        else:
            self.reader.set_exception(exc)
        self.writable.set()
        self.lost.set()


class _AsyncStream(httpcore.AsyncNetworkStream):
    def __init__(self, protocol: _Bytes) -> None:
        self._protocol = protocol

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            with anyio.fail_after(timeout):
                return await self._protocol.reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            with anyio.fail_after(timeout):
                await self._protocol.writable.wait()
                if (error := self._protocol.reader.exception()) is not None:
                    raise error
                self._protocol.transport.write(buffer)
                await self._protocol.writable.wait()
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._protocol.transport.close()
        with anyio.move_on_after(1):
            await self._protocol.lost.wait()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        raw = self._protocol.transport
        secure = _Bytes()
        try:
            with anyio.fail_after(timeout):
                loop = asyncio.get_running_loop()
                transport = await loop.start_tls(raw, secure, ssl_context, server_hostname=server_hostname)
                assert transport is not None
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        secure.connection_made(transport)
        return _AsyncStream(secure)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._protocol.reader.at_eof() or self._protocol.lost.is_set()
        names = {"client_addr": "sockname", "server_addr": "peername", "ssl_object": "ssl_object"}
        return self._protocol.transport.get_extra_info(names[info]) if info in names else None
