"""A far UDP socket does what `socket.socket` does."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator

import pytest
from conftest import Pair, loopback

import farsock


@pytest.fixture
def ends(a: farsock.Host, b: farsock.Host, family: int) -> Iterator[Pair]:
    """Two bound sockets, one on each host."""
    with a.socket(family, socket.SOCK_DGRAM) as one, b.socket(family, socket.SOCK_DGRAM) as other:
        one.bind((loopback(family), 0))
        other.bind((loopback(family), 0))
        yield one, other


def test_datagrams_and_who_sent_them(ends: Pair) -> None:
    one, other = ends
    assert one.sendto(b"hola", other.getsockname()) == 4
    assert other.recvfrom(100) == (b"hola", one.getsockname())
    other.sendto(b"", 0, one.getsockname())
    assert one.recvfrom(100) == (b"", other.getsockname())
    assert (one.type, one.proto) == (socket.SOCK_DGRAM, socket.IPPROTO_UDP)


def test_datagrams_keep_their_order_and_their_edges(ends: Pair) -> None:
    one, other = ends
    sent = [bytes([at]) * at for at in range(50)]
    for data in sent:
        one.sendto(data, other.getsockname())
    assert [other.recv(100) for _ in sent] == sent


def test_what_is_longer_than_the_buffer_is_lost(ends: Pair) -> None:
    one, other = ends
    for _ in range(3):
        one.sendto(b"0123456789", other.getsockname())
    one.sendto(b"next", other.getsockname())
    assert other.recv(4) == b"0123"
    data, messages, flags, source = other.recvmsg(4)
    assert (data, messages, flags & socket.MSG_TRUNC, source) == (b"0123", [], socket.MSG_TRUNC, one.getsockname())
    assert other.recv(100, socket.MSG_PEEK) == b"0123456789"
    buffer = bytearray(20)
    assert other.recvfrom_into(buffer) == (10, one.getsockname())
    assert other.recv_into(buffer, 4) == 4
    assert bytes(buffer[:10]) == b"next456789"


def test_connected(ends: Pair, a: farsock.Host, family: int) -> None:
    one, other = ends
    one.connect(other.getsockname())
    assert one.getpeername() == other.getsockname()
    assert one.send(b"to the one") == 10
    assert other.recv(100) == b"to the one"
    one.sendall(b"again")
    assert other.recvfrom(100) == (b"again", one.getsockname())
    with a.socket(family, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"not heard", one.getsockname())
        other.sendto(b"heard", one.getsockname())
        assert one.recv(100) == b"heard"


def test_nobody_has_the_port(b: farsock.Host, family: int) -> None:
    with b.socket(family, socket.SOCK_DGRAM) as one, b.socket(family, socket.SOCK_DGRAM) as gone:
        gone.bind((loopback(family), 0))
        one.connect(gone.getsockname())
        gone.close()
        one.send(b"to nobody")
        one.settimeout(10)
        with pytest.raises(ConnectionRefusedError):
            one.recv(100)


def test_errors(ends: Pair, a: farsock.Host, family: int) -> None:
    one, other = ends
    with pytest.raises(OSError) as failure:
        one.sendto(b"x" * 65_530, other.getsockname())
    assert failure.value.errno == errno.EMSGSIZE
    with pytest.raises(OSError) as failure:
        one.send(b"x")
    assert failure.value.errno == errno.EDESTADDRREQ
    with pytest.raises(OSError) as failure:
        one.getpeername()
    assert failure.value.errno == errno.ENOTCONN
    with pytest.raises(OSError) as failure:
        one.listen()
    assert failure.value.errno == errno.EOPNOTSUPP
    if family == socket.AF_INET:
        with pytest.raises(PermissionError):
            one.sendto(b"x", ("255.255.255.255", 9))
    with a.socket(family, socket.SOCK_DGRAM) as third, pytest.raises(OSError) as failure:
        third.bind(one.getsockname())
    assert failure.value.errno == errno.EADDRINUSE


def test_waiting(ends: Pair) -> None:
    one, other = ends
    other.settimeout(0.05)
    with pytest.raises(TimeoutError):
        other.recv(1)
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        other.recv(1)
    one.sendto(b"x", other.getsockname())
    assert select.select([other], [], [], 10)[0] == [other]
    assert other.recv(1) == b"x"
    assert select.select([other], [other], [], 0) == ([], [other], [])


def test_what_is_there_is_received_without_waiting(ends: Pair) -> None:
    one, other = ends
    other.setblocking(False)
    one.sendto(b"already there", other.getsockname())
    assert other.recv(100) == b"already there"


def test_control_messages(ends: Pair, family: int) -> None:
    one, other = ends
    if family == socket.AF_INET:
        other.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        other.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        ttl, tos = (socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IP, socket.IP_TOS)
        send_tos = struct.pack("i", 0x20)
        got_tos = b"\x20"
    else:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        ttl, tos = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
        send_tos = got_tos = struct.pack("i", 0x20)
    one.sendmsg([b"far", b" away"], [(*ttl, struct.pack("i", 7)), (*tos, send_tos)], 0, other.getsockname())
    data, messages, flags, source = other.recvmsg(100, 100)
    assert (data, flags, source) == (b"far away", 0, one.getsockname())
    assert {(level, kind): value for level, kind, value in messages} == {ttl: struct.pack("i", 7), tos: got_tos}
    with pytest.raises(OSError):
        one.sendmsg([b"x"], [(socket.SOL_SOCKET, 1, b"")], 0, other.getsockname())


def test_multicast(a: farsock.Host, b: farsock.Host, family: int) -> None:
    group = "ff11::fa50" if family == socket.AF_INET6 else "239.255.76.25"
    loop = a.if_nametoindex("lo")
    with a.socket(family, socket.SOCK_DGRAM) as member, b.socket(family, socket.SOCK_DGRAM) as sender:
        member.bind(("", 0))
        if family == socket.AF_INET6:
            request = socket.inet_pton(family, group) + struct.pack("I", loop)
            join, leave = (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP), (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP)
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, loop)
        else:
            request = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
            join, leave = (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP), (socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        member.setsockopt(*join, request)
        with pytest.raises(OSError) as failure:
            member.setsockopt(*join, request)
        assert failure.value.errno == errno.EADDRINUSE
        # The loopback interface has commonly no route to groups of IPv6.
        if family == socket.AF_INET:
            sender.sendto(b"to all", (group, member.getsockname()[1]))
            assert member.recv(100) == b"to all"
        member.setsockopt(*leave, request)


def test_a_sender_that_was_not_bound(ends: Pair, b: farsock.Host, family: int) -> None:
    one, _ = ends
    with b.socket(family, socket.SOCK_DGRAM) as sender:
        assert sender.getsockname()[1] == 0
        sender.sendto(b"x", one.getsockname())
        assert one.recvfrom(1)[1][1] == sender.getsockname()[1] != 0
