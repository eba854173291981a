from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import NoReturn

import pytest

import farsock
from farsock.testing import EmbeddedAgent

LOOPBACKS = [socket.AF_INET, socket.AF_INET6]


def skipped(missing: str) -> NoReturn:
    """Leaves out a test whose needs this machine does not meet. With FARSOCK_NO_SKIP=1 that is a failure."""
    if os.environ.get("FARSOCK_NO_SKIP"):
        pytest.fail(f"FARSOCK_NO_SKIP forbids to skip this: {missing}")
    pytest.skip(missing)


def loopback(family: int) -> str:
    return "::1" if family == socket.AF_INET6 else "127.0.0.1"


@pytest.fixture(scope="session")
def agents() -> Iterator[tuple[EmbeddedAgent, EmbeddedAgent]]:
    with EmbeddedAgent("lab-a") as a, EmbeddedAgent("lab-b") as b:
        yield a, b


@pytest.fixture
def a(agents: tuple[EmbeddedAgent, EmbeddedAgent]) -> Iterator[farsock.Host]:
    with agents[0].host() as host:
        yield host


@pytest.fixture
def b(agents: tuple[EmbeddedAgent, EmbeddedAgent]) -> Iterator[farsock.Host]:
    with agents[1].host() as host:
        yield host


@pytest.fixture(params=LOOPBACKS, ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


Pair = tuple[farsock.Socket, farsock.Socket]


@pytest.fixture
def pair(a: farsock.Host, b: farsock.Host, family: int) -> Iterator[Pair]:
    """A connection from `b` to `a`: its end at the client, its end at the server."""
    with a.create_server((loopback(family), 0), family=family) as server:
        client = b.create_connection(server.getsockname()[:2])
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted
