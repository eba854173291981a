"""How fast far sockets are beside local ones: the same program, once on `socket` and `asyncio`, once on a host of one agent.

    FARSOCK_BIN=… python bench.py

Both sides take turns in one run; the ratio of their medians counts, not the figures.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from farsock.testing import EmbeddedAgent

QUICK = bool(os.environ.get("FARSOCK_BENCH_QUICK"))
ROUNDS = 2 if QUICK else 7
SIZE = (8 if QUICK else 64) << 20
TURNS = 100 if QUICK else 2000
CONNECTS = 20 if QUICK else 200
CHUNK = 64 << 10
DATA = os.urandom(CHUNK)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def pair(net: Any) -> tuple[Any, Any]:
    with net.create_server(("127.0.0.1", 0)) as server:
        client = net.create_connection(server.getsockname())
        accepted, _ = server.accept()
    for end in (client, accepted):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, accepted


def stream(net: Any) -> float:
    """MiB/s from one end to the other."""
    client, accepted = pair(net)
    with client, accepted:

        def write() -> None:
            for _ in range(SIZE // CHUNK):
                client.sendall(DATA)

        began = time.perf_counter()
        thread = in_thread(write)
        left = SIZE
        buffer = bytearray(1 << 20)
        while left:
            left -= accepted.recv_into(buffer)
        took = time.perf_counter() - began
        thread.join()
    return SIZE / took / (1 << 20)


def turns(net: Any) -> float:
    """Round trips of a byte a second."""
    client, accepted = pair(net)
    with client, accepted:

        def answer() -> None:
            while data := accepted.recv(100):
                accepted.send(data)

        thread = in_thread(answer)
        began = time.perf_counter()
        for _ in range(TURNS):
            client.send(b"x")
            client.recv(100)
        took = time.perf_counter() - began
        client.shutdown(socket.SHUT_WR)
        thread.join()
    return TURNS / took


def connects(net: Any) -> float:
    """Connections made, accepted and closed a second."""
    with net.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        began = time.perf_counter()
        for _ in range(CONNECTS):
            client = net.create_connection(address)
            accepted, _ = server.accept()
            client.close()
            accepted.close()
        return CONNECTS / (time.perf_counter() - began)


def datagrams(net: Any) -> float:
    """Round trips of a datagram a second."""
    with net.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, net.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        there = other.getsockname()
        count = TURNS // 4
        began = time.perf_counter()
        for _ in range(count):
            one.sendto(b"x", there)
            data, source = other.recvfrom(100)
            other.sendto(data, source)
            one.recvfrom(100)
        return count / (time.perf_counter() - began)


async def stream_asyncio(net: Any) -> float:
    """MiB/s by StreamWriter and StreamReader."""
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = SIZE
        while left:
            left -= len(await reader.read(1 << 20))
        done.set_result(time.perf_counter())
        writer.close()

    server = await net.start_server(serve, "127.0.0.1", 0)
    _, writer = await net.open_connection(*_address(server))
    began = time.perf_counter()
    for _ in range(SIZE // CHUNK):
        writer.write(DATA)
        await writer.drain()
    took = await done - began
    await _close(server, writer)
    return SIZE / took / (1 << 20)


async def turns_asyncio(net: Any) -> float:
    """Round trips of a byte a second, by StreamWriter and StreamReader."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await net.start_server(serve, "127.0.0.1", 0)
    reader, writer = await net.open_connection(*_address(server))
    began = time.perf_counter()
    for _ in range(TURNS):
        writer.write(b"x")
        await reader.read(100)
    took = time.perf_counter() - began
    await _close(server, writer)
    return TURNS / took


def _address(server: Any) -> tuple[str, int]:
    where = server.sockets[0].getsockname()
    return str(where[0]), int(where[1])


async def _close(server: Any, writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()
    server.close()


def main() -> None:
    cases: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("stream, socket", "MiB/s", stream),
        ("stream, asyncio", "MiB/s", stream_asyncio),
        ("round trips, socket", "/s", turns),
        ("round trips, asyncio", "/s", turns_asyncio),
        ("connections", "/s", connects),
        ("datagram round trips", "/s", datagrams),
    ]
    with EmbeddedAgent() as agent, agent.host() as host:
        print(f"{'':22}{'local':>12}{'far':>12}{'far / local':>14}")
        for name, unit, case in cases:
            local, far = [], []
            for _ in range(ROUNDS):
                if asyncio.iscoroutinefunction(case):
                    local.append(asyncio.run(case(asyncio)))
                    far.append(asyncio.run(case(host)))
                else:
                    local.append(case(socket))
                    far.append(case(host))
            one, other = statistics.median(local), statistics.median(far)
            print(f"{name:22}{one:12.0f}{other:12.0f}{other / one:13.1%}  {unit}")


if __name__ == "__main__":
    main()
