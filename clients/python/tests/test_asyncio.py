"""asyncio over far sockets: its own stream, transport and protocol types."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from conftest import loopback

import farsock


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 40))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pair(a: farsock.Host, b: farsock.Host, family: int, **kwargs: Any) -> tuple[Streams, Streams]:
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await a.start_server(lambda *streams: accepted.set_result(streams), loopback(family), 0)
    client = await b.open_connection(*server.sockets[0].getsockname()[:2], **kwargs)
    streams = await accepted
    server.close()
    await server.wait_closed()
    return client, streams


async def close(*streams: Streams) -> None:
    for _, writer in streams:
        writer.close()
    for _, writer in streams:
        await writer.wait_closed()


def test_an_echo_server(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main() -> None:
        async with await a.start_server(echo, loopback(family), 0) as server:
            assert server.is_serving()
            reader, writer = await b.open_connection(*server.sockets[0].getsockname()[:2])
            assert isinstance(reader, asyncio.StreamReader)
            assert isinstance(writer, asyncio.StreamWriter)
            assert writer.get_extra_info("peername") == server.sockets[0].getsockname()
            assert writer.get_extra_info("sockname")[0] == loopback(family)
            shown = writer.get_extra_info("socket")
            assert (shown.family, shown.type, shown.getpeername()) == (family, socket.SOCK_STREAM, server.sockets[0].getsockname())
            shown.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert shown.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            writer.writelines([b"hola", b" que tal\n"])
            assert await reader.readline() == b"hola que tal\n"
            writer.write(b"bye")
            assert writer.can_write_eof()
            writer.write_eof()
            assert await reader.read() == b"bye"
            writer.close()
            await writer.wait_closed()
        assert not server.is_serving()

    run(main())


def test_half_close(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main() -> None:
        client, server = await pair(a, b, family)
        client[1].write(b"question")
        client[1].write_eof()
        assert await server[0].read() == b"question"
        server[1].write(b"answer")
        server[1].write_eof()
        assert await client[0].read() == b"answer"
        await close(client, server)

    run(main())


def test_a_reader_that_is_slow_closes_the_window(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main() -> None:
        client, server = await pair(a, b, family, limit=1024)
        data = os.urandom(1 << 20) * 24
        writing = asyncio.ensure_future(_write(server[1], data))
        # The reader's limit, this client's window, and what two kernels hold: then the far end cannot write any more.
        stuck = await asyncio.wait({writing}, timeout=1)
        assert stuck[1] == {writing}
        assert server[1].transport.get_write_buffer_size() > 0
        digest = hashlib.sha256()
        while part := await client[0].read(1 << 20):
            digest.update(part)
        await writing
        assert digest.digest() == hashlib.sha256(data).digest()
        await close(client, server)

    run(main())


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    for at in range(0, len(data), 65536):
        writer.write(data[at : at + 65536])
        await writer.drain()
    writer.write_eof()


def test_resets(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main() -> None:
        client, server = await pair(a, b, family)
        client[1].transport.abort()
        with pytest.raises(ConnectionResetError):
            await server[0].read()
        with pytest.raises(ConnectionResetError):
            await server[1].wait_closed()
        await client[1].wait_closed()

    run(main())


def test_errors(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await b.open_connection(loopback(family), 1)
        with pytest.raises(socket.gaierror):
            await b.open_connection("no-such-host.invalid", 80)
        server = await a.start_server(echo, loopback(family), 0)
        address = server.sockets[0].getsockname()[:2]
        with pytest.raises(OSError, match="Address already in use"):
            await a.start_server(echo, *address)
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await b.open_connection(*address)

    run(main())


def test_a_server_on_all_addresses(a: farsock.Host, b: farsock.Host) -> None:
    async def main() -> None:
        async with await a.start_server(echo, port=0) as server:
            assert len(server.sockets) == 2
            for address in [one.getsockname() for one in server.sockets]:
                reader, writer = await b.open_connection("::1" if ":" in address[0] else "127.0.0.1", address[1])
                writer.write(b"x")
                assert await reader.read(1) == b"x"
                await close((reader, writer))

    run(main())


def test_cancellation_stops_the_far_operation(a: farsock.Host) -> None:
    async def main() -> None:
        with a.create_server(("127.0.0.1", 0), backlog=1) as server:
            # Two fit into the queue; the third gets no answer.
            waiting = [await a.open_connection(*server.getsockname()) for _ in range(2)]
            third = asyncio.ensure_future(a.open_connection(*server.getsockname()))
            with a.events(kinds=["connect_started"], after=0) as watch:
                for _ in range(3):
                    begun = await anext(watch)
            assert isinstance(begun, farsock.v1.Event)
            third.cancel()
            with pytest.raises(asyncio.CancelledError):
                await third
            with a.events(sockets=[begun.socket_id], kinds=["closed"], after=0) as watch:
                await anext(watch)
            await close(*waiting)

    run(main())


class Recorder(asyncio.Protocol):
    def __init__(self) -> None:
        self.told: list[str] = []
        self.news = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def tell(self, what: str) -> None:
        self.told.append(what)
        self.news.set()

    async def until(self, what: str) -> None:
        while what not in self.told:
            self.news.clear()
            await self.news.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tell("made")

    def data_received(self, data: bytes) -> None:
        self.tell(data.decode())

    def eof_received(self) -> bool:
        self.tell("eof")
        return False

    def pause_writing(self) -> None:
        self.tell("pause")

    def resume_writing(self) -> None:
        self.tell("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.tell("lost")
        self.lost.set_result(error)


def test_protocols(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main() -> None:
        served: list[Recorder] = []

        def factory() -> Recorder:
            served.append(Recorder())
            return served[-1]

        async with await a.create_stream_server(factory, loopback(family), 0) as server:
            transport, protocol = await b.create_stream_connection(Recorder, *server.sockets[0].getsockname()[:2])
            transport.write(b"hola")
            transport.write_eof()
            assert await protocol.lost is None
            assert protocol.told == ["made", "eof", "lost"]
            assert await served[0].lost is None
            assert served[0].told == ["made", "hola", "eof", "lost"]
            with pytest.raises(RuntimeError):
                transport.write(b"more")

    run(main())


def test_flow_control_of_protocols(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main() -> None:
        server = a.create_server((loopback(family), 0), family=family)
        transport, protocol = await b.create_stream_connection(Recorder, *server.getsockname()[:2])
        transport.set_write_buffer_limits(high=100_000)
        assert transport.get_write_buffer_limits() == (25_000, 100_000)
        transport.write(b"x" * (8 << 20))
        assert protocol.told == ["made", "pause"]
        accepted, _ = await asyncio.to_thread(server.accept)
        left = 8 << 20
        while left:
            left -= len(await asyncio.to_thread(accepted.recv, 1 << 20))
        await protocol.until("resume")
        transport.pause_reading()
        accepted.sendall(b"paused")
        assert not transport.is_reading()
        transport.resume_reading()
        await protocol.until("paused")
        accepted.close()
        server.close()
        await protocol.lost

    run(main())


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def test_datagram_endpoints(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main() -> None:
        server, got = await a.create_datagram_endpoint(Datagrams, (loopback(family), 0))
        address = server.get_extra_info("sockname")
        client, answers = await b.create_datagram_endpoint(Datagrams, remote_addr=address[:2])
        assert client.get_extra_info("peername") == address
        sent = [b"%d" % at for at in range(200)]
        for data in sent:
            client.sendto(data)
        for data in sent:
            received, source = await got.got.get()
            assert received == data
            assert source == client.get_extra_info("sockname")
        server.sendto(b"", source)
        assert await answers.got.get() == (b"", address)
        with pytest.raises(ValueError, match="Invalid address"):
            client.sendto(b"x", (loopback(family), 1))
        server.close()
        await got.lost
        client.sendto(b"to nobody")
        assert isinstance(await answers.errors.get(), ConnectionRefusedError)
        client.close()
        assert await answers.lost is None

    run(main())


def test_the_program_that_python_s_own_documentation_has(a: farsock.Host, b: farsock.Host) -> None:
    """asyncio-stream.html, "TCP echo server using streams", with the host in place of asyncio."""

    async def handle_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(100)
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await a.start_server(handle_echo, "127.0.0.1", 0)
        assert ", ".join(str(sock.getsockname()) for sock in server.sockets).startswith("('127.0.0.1', ")
        async with server:
            serving = asyncio.ensure_future(server.serve_forever())
            reader, writer = await b.open_connection(*server.sockets[0].getsockname())
            writer.write(b"Hello World!")
            await writer.drain()
            assert (await reader.read(100)).decode() == "Hello World!"
            writer.close()
            await writer.wait_closed()
            serving.cancel()

    run(main())


def test_two_loops_and_a_thread_share_a_host(a: farsock.Host, b: farsock.Host) -> None:
    """A host is bound to no event loop."""
    with a.create_server(("127.0.0.1", 0)) as server:

        async def once() -> None:
            reader, writer = await b.open_connection(*server.getsockname())
            accepted, _ = await asyncio.to_thread(server.accept)
            accepted.sendall(b"x")
            assert await reader.read(1) == b"x"
            accepted.close()
            await close((reader, writer))

        work: Callable[[], Awaitable[None]] = once
        for _ in range(2):
            run(work())  # type: ignore[arg-type]
