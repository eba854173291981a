"""Many connections, many bytes, cancellation at random moments, an agent that is restarted under way: everything arrives or fails, and
nothing is left. FARSOCK_LONG=1 makes it long; FARSOCK_SEED takes one walk again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

import farsock
from farsock import _io, v1
from farsock.testing import EmbeddedAgent

LONG = bool(os.environ.get("FARSOCK_LONG"))
SEED = int(os.environ.get("FARSOCK_SEED") or random.randrange(1 << 32))
CONNECTIONS = 1000 if LONG else 60
EACH = 100_000
BYTES = (100 if LONG else 8) << 20
CANCELLED = 2000 if LONG else 80
RESTARTS = 10 if LONG else 2
CHUNK = 64 << 10


def open_sockets(host: farsock.Host) -> list[str]:
    with host.channel() as channel:
        request = v1.ListSocketsRequest(session_id=host.session_id)
        return [one.socket_id for one in v1.SocketServiceStub(channel).ListSockets(request).sockets]


def tasks_of_the_loop() -> int:
    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return _io.run(count())


def eventually(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        gc.collect()
        threading.Event().wait(0.02)


class Measured:
    """Descriptors, threads and tasks, before and after."""

    def __enter__(self) -> None:
        _io.loop()
        gc.collect()
        self.before = self.count()

    def count(self) -> tuple[int, int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count(), tasks_of_the_loop()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            # gRPC itself ends connections a moment later.
            eventually(
                f"descriptors, threads, tasks: {self.before} became {self.count()}",
                lambda: all(now <= then for now, then in zip(self.count(), self.before, strict=True)),
            )


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def there_and_back(host: farsock.Host, address: tuple[str, int], size: int, seed: int) -> None:
    """Send so many bytes, get them back, and compare the hashes of both ways."""
    reader, writer = await host.open_connection(*address)
    sent, got = hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        source = random.Random(seed)
        left = size
        while left:
            data = source.randbytes(min(CHUNK, left))
            sent.update(data)
            left -= len(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    try:
        total = 0
        while data := await reader.read(CHUNK):
            got.update(data)
            total += len(data)
        await sending
        assert total == size
        assert got.digest() == sent.digest()
    finally:
        sending.cancel()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def run(agents: tuple[EmbeddedAgent, EmbeddedAgent], work: Callable[[farsock.Host, farsock.Host], Awaitable[None]]) -> None:
    async def main() -> None:
        async with agents[0].host() as a, agents[1].host() as b:
            await work(a, b)
            await asyncio.to_thread(eventually, "all far sockets are closed", lambda: not open_sockets(a) and not open_sockets(b))

    with Measured():
        asyncio.run(main())


@pytest.mark.timeout(1200)
def test_many_connections_at_once(agents: tuple[EmbeddedAgent, EmbeddedAgent]) -> None:
    async def work(a: farsock.Host, b: farsock.Host) -> None:
        async with await a.start_server(echo, "127.0.0.1", 0, backlog=CONNECTIONS) as server:
            address = server.sockets[0].getsockname()
            await asyncio.gather(*(there_and_back(b, address, EACH, at) for at in range(CONNECTIONS)))

    run(agents, work)


@pytest.mark.timeout(1200)
def test_many_bytes(agents: tuple[EmbeddedAgent, EmbeddedAgent]) -> None:
    async def work(a: farsock.Host, b: farsock.Host) -> None:
        async with await a.start_server(echo, "::1", 0) as server:
            await there_and_back(b, server.sockets[0].getsockname()[:2], BYTES, SEED)

    run(agents, work)


@pytest.mark.timeout(1200)
def test_cancellation_at_random_moments(agents: tuple[EmbeddedAgent, EmbeddedAgent]) -> None:
    print(f"FARSOCK_SEED={SEED}")
    chance = random.Random(SEED)

    async def work(a: farsock.Host, b: farsock.Host) -> None:
        async with await a.start_server(echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            for _ in range(CANCELLED // 20):
                tasks = [asyncio.ensure_future(there_and_back(b, address, EACH, at)) for at in range(20)]
                for task in tasks:
                    asyncio.get_running_loop().call_later(chance.random() * 0.2, task.cancel)
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    assert result is None or isinstance(result, asyncio.CancelledError), repr(result)

    run(agents, work)


@pytest.mark.timeout(1200)
def test_an_agent_that_is_restarted_under_way() -> None:
    chance = random.Random(SEED)

    async def keep_going(host: farsock.Host, address: list[tuple[str, int]], stop: asyncio.Event) -> int:
        done = 0
        while not stop.is_set():
            try:
                await there_and_back(host, address[0], EACH, done)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                done += 1
        return done

    async def main(agents: tuple[EmbeddedAgent, EmbeddedAgent]) -> None:
        async with agents[0].host() as a, agents[1].host() as b:
            server = await a.start_server(echo, "127.0.0.1", 0)
            address = [server.sockets[0].getsockname()]
            stop = asyncio.Event()
            workers = [asyncio.ensure_future(keep_going(b, address, stop)) for _ in range(8)]
            for _ in range(RESTARTS):
                await asyncio.sleep(0.3 + chance.random() * 0.3)
                await asyncio.to_thread(agents[1].kill)
                await asyncio.to_thread(agents[1].start)
                await there_and_back_at_last(b, address[0])
            stop.set()
            counts = await asyncio.gather(*workers)
            assert sum(counts) > 0
            server.close()
            await server.wait_closed()
            await asyncio.to_thread(eventually, "all far sockets are closed", lambda: not open_sockets(a) and not open_sockets(b))

    async def there_and_back_at_last(host: farsock.Host, address: tuple[str, int]) -> None:
        """After a restart everything works again, as soon as the connections to the agent are made anew."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return await there_and_back(host, address, 1000, 0)
            except OSError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    with EmbeddedAgent("a") as one, EmbeddedAgent("b") as other, Measured():
        asyncio.run(main((one, other)))
