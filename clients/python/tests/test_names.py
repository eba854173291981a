"""The socket module's functions, as the far host answers them. Here that is this host, so that Python's own answers can be compared."""

from __future__ import annotations

import socket

import pytest

import farsock


def test_constants_exceptions_and_literals_are_python_s_own(a: farsock.Host) -> None:
    assert a.AF_INET is socket.AF_INET
    assert a.SO_REUSEADDR == socket.SO_REUSEADDR
    assert a.error is OSError
    assert a.timeout is TimeoutError
    assert a.gaierror is socket.gaierror
    assert a.inet_aton("1.2.3.4") == b"\1\2\3\4"
    assert a.ntohs(a.htons(80)) == 80
    with pytest.raises(AttributeError):
        _ = a.socketpair


@pytest.mark.parametrize(
    "query",
    [
        ("localhost", 80),
        ("127.0.0.1", "http"),
        ("::1", None),
        ("127.0.0.1", 0, socket.AF_INET, socket.SOCK_DGRAM),
        ("::1", 53, 0, 0, socket.IPPROTO_UDP),
        (None, 80, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_PASSIVE),
        (None, 80, 0, socket.SOCK_STREAM),
    ],
)
def test_getaddrinfo(a: farsock.Host, query: tuple[str | None, str | int | None]) -> None:
    own = [entry for entry in socket.getaddrinfo(*query) if entry[1] != socket.SOCK_RAW]
    assert sorted(a.getaddrinfo(*query)) == sorted(own)


@pytest.mark.parametrize(
    "query",
    [("no-such-host.invalid", 80), ("localhost", 80, 0, 0, 0, socket.AI_NUMERICHOST), ("127.0.0.1", "no-such-service")],
)
def test_getaddrinfo_fails_as_python_s_own(a: farsock.Host, query: tuple[str, int]) -> None:
    with pytest.raises(socket.gaierror) as own:
        socket.getaddrinfo(*query)
    with pytest.raises(socket.gaierror) as far:
        a.getaddrinfo(*query)
    assert far.value.errno in {own.value.errno, socket.EAI_NONAME}


def test_names(a: farsock.Host) -> None:
    assert a.gethostname() == socket.gethostname()
    assert a.gethostbyname("localhost") == "127.0.0.1"
    assert a.gethostbyname_ex("127.0.0.1")[2] == ["127.0.0.1"]
    assert a.gethostbyaddr("127.0.0.1")[0] == socket.gethostbyaddr("127.0.0.1")[0]
    assert a.getfqdn("127.0.0.1") == socket.getfqdn("127.0.0.1")
    assert a.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST) == ("127.0.0.1", "http")
    assert a.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == ("127.0.0.1", "80")
    assert a.getprotobyname("tcp") == socket.IPPROTO_TCP


def test_services_and_interfaces(a: farsock.Host) -> None:
    assert a.getservbyname("http") == a.getservbyname("http", "tcp") == 80
    assert a.getservbyport(80) == "http"
    for call in (lambda: a.getservbyname("no-such-service"), lambda: a.getservbyport(1, "udp"), lambda: a.getservbyname("http", "x")):
        with pytest.raises(OSError, match="proto not found"):
            call()
    assert a.if_nameindex() == socket.if_nameindex()
    assert a.if_indextoname(a.if_nametoindex("lo")) == "lo"
    with pytest.raises(OSError, match="no interface"):
        a.if_nametoindex("no-such")
