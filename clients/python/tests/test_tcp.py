"""A far TCP socket does what `socket.socket` does."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest
from conftest import LOOPBACKS, Pair, loopback

import farsock


def test_bytes_go_both_ways(pair: Pair) -> None:
    client, server = pair
    client.sendall(b"hola que tal\r\n")
    assert server.recv(100) == b"hola que tal\r\n"
    server.sendall(b"hola server TCP\r\n")
    assert client.recv(4) == b"hola"
    assert client.recv(100) == b" server TCP\r\n"


def test_both_ends_have_both_addresses(pair: Pair, family: int) -> None:
    client, server = pair
    assert client.getpeername() == server.getsockname()
    assert client.getsockname() == server.getpeername()
    assert client.getsockname()[0] == loopback(family)
    assert len(client.getsockname()) == (4 if family == socket.AF_INET6 else 2)
    assert (client.family, client.type, client.proto) == (family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


def test_a_server_step_by_step(a: farsock.Host, b: farsock.Host, family: int) -> None:
    with a.socket(family, a.SOCK_STREAM) as server, b.socket(family) as client:
        server.setsockopt(a.SOL_SOCKET, a.SO_REUSEADDR, 1)
        assert server.getsockname()[1] == 0
        server.bind((loopback(family), 0))
        port = server.getsockname()[1]
        assert port
        with pytest.raises(OSError) as failure:
            server.accept()
        assert failure.value.errno == errno.EINVAL
        server.listen()
        client.connect((loopback(family), port))
        accepted, address = server.accept()
        with accepted:
            assert address == client.getsockname()
            client.send(b"x")
            assert accepted.recv(1) == b"x"


def test_half_close(pair: Pair) -> None:
    client, server = pair
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        client.send(b"more")
    assert server.recv(100) == b"question"
    assert server.recv(100) == b""
    assert server.recv(100) == b""
    server.sendall(b"answer")
    server.close()
    assert client.recv(100) == b"answer"
    assert client.recv(100) == b""


def test_shut_down_for_reading(pair: Pair) -> None:
    client, server = pair
    server.sendall(b"before")
    assert client.recv(3) == b"bef"
    client.shutdown(socket.SHUT_RD)
    assert client.recv(100) == b"ore"
    assert client.recv(100) == b""
    client.sendall(b"still")
    assert server.recv(5) == b"still"


def test_abort_resets(pair: Pair) -> None:
    client, server = pair
    client.abort()
    with pytest.raises(ConnectionResetError) as failure:
        server.recv(1)
    assert (failure.value.errno, failure.value.strerror) == (errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    # Told once; then the connection is over, as Linux has it.
    assert server.recv(1) == b""
    with pytest.raises(BrokenPipeError):
        server.send(b"x")


def test_linger_of_zero_resets(pair: Pair) -> None:
    client, server = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 0)
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_closing_with_unread_bytes_resets(pair: Pair) -> None:
    client, server = pair
    server.sendall(b"unread")
    assert client.recv(1, socket.MSG_PEEK) == b"u"
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_bytes_before_a_reset_are_read(pair: Pair) -> None:
    client, server = pair
    client.sendall(b"last words")
    assert server.recv(4) == b"last"
    client.abort()
    assert server.recv(100) == b" words"
    with pytest.raises(ConnectionResetError):
        server.recv(100)


@pytest.mark.parametrize("family", LOOPBACKS)
def test_nobody_listens(b: farsock.Host, family: int) -> None:
    with b.socket(family) as client:
        with pytest.raises(ConnectionRefusedError) as failure:
            client.connect((loopback(family), 1))
        assert (failure.value.errno, failure.value.strerror) == (errno.ECONNREFUSED, "Connection refused")
        assert client.connect_ex((loopback(family), 1)) == errno.ECONNREFUSED
    with pytest.raises(ConnectionRefusedError):
        b.create_connection((loopback(family), 1))


def test_errors_are_those_of_the_kernel(a: farsock.Host, family: int) -> None:
    with a.create_server((loopback(family), 0), family=family) as server, a.socket(family) as other:
        with pytest.raises(OSError, match="Address already in use") as failure:
            other.bind(server.getsockname())
        assert failure.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="while attempting to bind on address") as failure:
            a.create_server(server.getsockname()[:2], family=family)
        assert failure.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError) as failure:
            other.bind(("2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1", 0))
        assert failure.value.errno == errno.EADDRNOTAVAIL
        for call in (other.getpeername, lambda: other.recv(1), lambda: other.shutdown(socket.SHUT_WR)):
            with pytest.raises(OSError) as failure:
                call()
            assert failure.value.errno == errno.ENOTCONN
        with pytest.raises(BrokenPipeError):
            other.send(b"x")


def test_wrong_arguments(a: farsock.Host) -> None:
    with a.socket() as one:
        with pytest.raises(OverflowError):
            one.bind(("127.0.0.1", 70000))
        with pytest.raises(TypeError):
            one.connect("127.0.0.1:80")
        with pytest.raises(ValueError, match="out of range"):
            one.settimeout(-1)
        with pytest.raises(ValueError, match="negative"):
            one.recv(-1)
    with pytest.raises(OSError) as failure:
        one.bind(("127.0.0.1", 0))
    assert failure.value.errno == errno.EBADF
    assert one.fileno() == -1
    with pytest.raises(OSError) as failure:
        a.socket(socket.AF_UNIX)
    assert failure.value.errno == errno.EAFNOSUPPORT
    with pytest.raises(OSError) as failure:
        a.socket(socket.AF_INET, socket.SOCK_RAW)
    assert failure.value.errno == errno.EPROTONOSUPPORT


def test_timeouts(pair: Pair, a: farsock.Host, family: int) -> None:
    client, _ = pair
    client.settimeout(0.05)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="timed out"):
        client.recv(1)
    assert 0.04 < time.monotonic() - began < 5
    with a.create_server((loopback(family), 0), family=family) as server:
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
        # Nothing was lost by it.
        with a.create_connection(server.getsockname()[:2]):
            server.settimeout(10)
            server.accept()[0].close()


def test_a_connect_that_nobody_answers(a: farsock.Host) -> None:
    with a.create_server(("127.0.0.1", 0), backlog=1) as server, a.socket() as third:
        # The kernel's queue takes one more than the backlog; then it is silent.
        waiting = [a.create_connection(server.getsockname()) for _ in range(2)]
        with pytest.raises(TimeoutError, match="timed out"):
            a.create_connection(server.getsockname(), timeout=0.1)
        third.settimeout(0.1)
        with pytest.raises(TimeoutError, match="timed out"):
            third.connect(server.getsockname())
        for one in waiting:
            one.close()


def test_non_blocking(pair: Pair) -> None:
    client, server = pair
    client.setblocking(False)
    assert client.gettimeout() == 0
    assert not client.getblocking()
    with pytest.raises(BlockingIOError) as failure:
        client.recv(1)
    assert failure.value.errno == errno.EAGAIN
    server.sendall(b"x")
    assert select.select([client], [], [], 10)[0] == [client]
    assert client.recv(10) == b"x"
    assert select.select([client], [], [], 0)[0] == []
    # Until everything on the way is full.
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            if not select.select([], [client], [], 0.5)[1]:
                client.send(b"y" * 65536)
                raise AssertionError("it was not writable")
            sent += client.send(b"y" * 65536)
    assert sent > 100_000
    left = sent
    while left:
        left -= len(server.recv(1 << 20))
    assert select.select([], [client], [], 10)[1] == [client]


def test_no_wakeup_is_lost(pair: Pair) -> None:
    """A reader that asks `select` before each read sees every byte, at whatever moment it comes."""
    client, server = pair
    client.setblocking(False)
    count = 2000

    def write() -> None:
        for _ in range(count):
            server.sendall(b"x")

    thread = threading.Thread(target=write)
    thread.start()
    got = 0
    while got < count:
        assert select.select([client], [], [], 20)[0]
        with contextlib.suppress(BlockingIOError):
            got += len(client.recv(7))
    thread.join()


def test_non_blocking_connect_and_accept(a: farsock.Host, b: farsock.Host, family: int) -> None:
    with a.create_server((loopback(family), 0), family=family) as server, b.socket(family) as client:
        server.setblocking(False)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert client.connect_ex(server.getsockname()) == errno.EINPROGRESS
        assert select.select([], [client], [], 10)[1] == [client]
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert select.select([server], [], [], 10)[0] == [server]
        accepted, _ = server.accept()
        # Non-blocking is not inherited.
        assert accepted.getblocking()
        accepted.close()
    with b.socket(family) as client:
        client.setblocking(False)
        assert client.connect_ex((loopback(family), 1)) == errno.EINPROGRESS
        assert select.select([], [client], [], 10)[1] == [client]
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_a_slow_reader_closes_the_window_of_the_peer(a: farsock.Host, b: farsock.Host, family: int) -> None:
    with a.socket(family) as server, b.socket(family) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        server.bind((loopback(family), 0))
        server.listen()
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            client.settimeout(1)
            data = os.urandom(1 << 20) * 4
            sent = 0
            with pytest.raises(TimeoutError):
                while True:
                    sent += client.send(data[sent:])
            # What this end has granted, what the buffers of both kernels hold, what the agent and this client hold.
            assert 512 << 10 < sent < 3 << 20
            got = b""
            while len(got) < sent:
                got += accepted.recv(1 << 20)
            assert got == data[:sent]
            client.settimeout(None)
            client.sendall(b"and on")
            assert accepted.recv(100) == b"and on"


def test_closing_goes_on_by_itself(pair: Pair) -> None:
    """Nobody reads yet: what was written arrives all the same, as the kernel would do it."""
    client, server = pair
    client.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while select.select([], [client], [], 0.5)[1] or not client.send(b"z"):
            sent += client.send(b"z" * 65536)
    client.close()
    got = 0
    while data := server.recv(1 << 20):
        got += len(data)
    assert got == sent


def test_large_transfers_both_ways_at_once(pair: Pair) -> None:
    client, server = pair
    data = os.urandom(1 << 20) * 16
    wanted = hashlib.sha256(data).digest()
    got: dict[str, bytes] = {}

    def read(name: str, end: farsock.Socket) -> None:
        digest = hashlib.sha256()
        while part := end.recv(100_000):
            digest.update(part)
        got[name] = digest.digest()

    def write(end: farsock.Socket) -> None:
        end.sendall(data)
        end.shutdown(socket.SHUT_WR)

    work = [("client", client), ("server", server)]
    threads = [threading.Thread(target=read, args=one) for one in work] + [threading.Thread(target=write, args=one[1:]) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {"client": wanted, "server": wanted}


def test_ways_to_receive(pair: Pair) -> None:
    client, server = pair
    client.sendall(b"0123456789")
    assert server.recv(3, socket.MSG_WAITALL) == b"012"
    buffer = bytearray(4)
    assert server.recv_into(buffer) == 4
    assert bytes(buffer) == b"3456"
    assert server.recv_into(buffer, 2) == 2
    assert bytes(buffer) == b"7856"
    assert server.recvfrom(1) == (b"9", None)
    client.sendmsg([b"ab", b"cd"])
    one, two = bytearray(1), bytearray(3)
    assert server.recvmsg_into([one, two])[0] == 4
    assert bytes(one + two) == b"abcd"
    client.sendall(b"abc")
    assert server.recvmsg(10) == (b"abc", [], 0, None)
    threading.Timer(0.05, client.sendall, [b"late"]).start()
    client.sendall(b"early ")
    assert server.recv(10, socket.MSG_WAITALL) == b"early late"
    with pytest.raises(BlockingIOError):
        server.recv(1, socket.MSG_DONTWAIT)


def test_files(pair: Pair) -> None:
    client, server = pair
    with server.makefile("rw", encoding="utf-8", newline="\n") as lines:
        client.sendall("línea uno\nlínea dos\n".encode())
        assert lines.readline() == "línea uno\n"
        assert lines.readline() == "línea dos\n"
        lines.write("sí\n")
        lines.flush()
        assert client.recv(100) == "sí\n".encode()
    reader = client.makefile("rb")
    client.close()
    # The file keeps the socket open.
    server.sendall(b"to the file")
    server.close()
    assert reader.read() == b"to the file"
    reader.close()
    assert client.fileno() == -1


def test_send_a_file(pair: Pair) -> None:
    client, server = pair
    assert client.sendfile(io.BytesIO(b"0123456789"), offset=2, count=5) == 5
    assert server.recv(100) == b"23456"


def test_options(pair: Pair, a: farsock.Host, family: int) -> None:
    client, _ = pair
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1500)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
    # Linux doubles it, and says so.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 40_000
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") in [b"cubic", b"reno", b"bbr"]
    if family == socket.AF_INET:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 3)
        assert client.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 3
    else:
        # As Linux has it: an IPv6 socket takes IPv4, too.
        with a.socket(family) as other:
            assert other.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    with pytest.raises(OSError) as failure:
        client.setsockopt(socket.SOL_SOCKET, 9999, 1)
    assert failure.value.errno == errno.ENOPROTOOPT
    with pytest.raises(OSError) as failure:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1000)
    assert failure.value.errno == errno.EINVAL


def test_ctrl_c(a: farsock.Host, request: pytest.FixtureRequest) -> None:
    """It ends a wait here and the operation there: nothing of it is lost, and nothing is left."""
    # A shell's background jobs begin with the signal ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupted(work: Callable[[], object]) -> None:
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            work()

    with a.create_server(("127.0.0.1", 0), backlog=1) as server:
        interrupted(server.accept)
        line = a.create_connection(server.getsockname())
        guest, _ = server.accept()
        interrupted(lambda: line.recv(1))
        guest.sendall(b"x")
        assert line.recv(1) == b"x"
        # Two fit into the queue; the third gets no answer.
        waiting = [a.create_connection(server.getsockname()) for _ in range(2)]
        interrupted(lambda: a.create_connection(server.getsockname()))
        with a.socket() as other:
            interrupted(lambda: other.connect(server.getsockname()))
        with a.events(kinds=["closed"], after=0) as watch:
            for _ in range(2):
                assert isinstance(watch.next(10), farsock.v1.Event)
        for one in (line, guest, *waiting):
            one.close()


def test_default_timeout_and_state(a: farsock.Host) -> None:
    a.setdefaulttimeout(0.05)
    with a.create_server(("127.0.0.1", 0)) as server:
        assert server.timeout == 0.05
        with pytest.raises(TimeoutError):
            server.accept()
        assert not server.get_inheritable()
        assert "SOCK_STREAM" in repr(server)
    assert "[closed]" in repr(server)


def test_a_socket_that_is_forgotten_is_closed(a: farsock.Host) -> None:
    held = [a.create_server(("127.0.0.1", 0))]
    name = held[0].getsockname()
    with pytest.warns(ResourceWarning):
        held.clear()
    with a.events(kinds=["closed"]) as watch:
        watch.next(10)
    with a.socket() as again:
        again.bind(name)
