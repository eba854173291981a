"""System calls on a far host, as coroutines for the loop of `_io`."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from farsock import _address, _errors, v1
from farsock._connection import Connection, operation, raise_report
from farsock._stream import Stream


async def create(connection: Connection, family: int, type: int, proto: int) -> v1.Socket:
    """socket(2)."""
    far_family = _address.of_family(family)
    protocols = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}
    kind = type & ~(getattr(socket, "SOCK_NONBLOCK", 0) | getattr(socket, "SOCK_CLOEXEC", 0))
    if kind not in protocols:
        raise _errors.of_number(errno.EPROTONOSUPPORT)
    if proto not in {-1, 0, protocols[socket.SocketKind(kind)]}:
        raise _errors.of_number(errno.EPROTONOSUPPORT)
    # As Linux has it, where the agent's own default is the other one.
    options = [v1.SocketOption(name="IPV6_V6ONLY", enabled=False)] if family == socket.AF_INET6 else []

    request = v1.CreateSocketRequest()
    if kind == socket.SOCK_STREAM:
        request.tcp.CopyFrom(v1.TcpSocketSpec(family=far_family, options=options, accept=v1.ACCEPT_POLICY_MANUAL))
        request.tcp.delivery.mode = v1.DELIVERY_MODE_TRANSFER
    else:
        request.udp.CopyFrom(v1.UdpSocketSpec(family=far_family, options=options))
        request.udp.delivery.mode = v1.DELIVERY_MODE_PULL
    return await _create(connection, request)


async def create_udp(connection: Connection, spec: v1.UdpSocketSpec) -> v1.Socket:
    """Make a UDP socket in one call."""
    return await _create(connection, v1.CreateSocketRequest(udp=spec))


async def _create(connection: Connection, request: v1.CreateSocketRequest) -> v1.Socket:
    """CreateSocket; what has not come as far as it should is closed."""

    async def work(session: str) -> v1.CreateSocketResponse:
        request.session_id = session
        return await connection.call(connection.sockets.CreateSocket, request)

    answer = await connection.in_session(work)
    try:
        raise_report(answer.report)
    except OSError:
        if answer.HasField("socket"):
            await close(connection, answer.socket)
        raise
    return answer.socket


async def close(connection: Connection, far: v1.Socket) -> None:
    """close(2)."""
    request = v1.CloseSocketRequest(session_id=far.session_id, socket_id=far.socket_id, allow_missing=True)
    await connection.call(connection.sockets.CloseSocket, request)


async def accept(connection: Connection, listener: v1.Socket, timeout: float | None) -> tuple[Stream, Any]:
    """accept(2): waits for a connection and takes it over."""
    request = v1.AcceptSocketRequest(session_id=listener.session_id, socket_id=listener.socket_id)
    while True:
        answer: v1.AcceptSocketResponse = await connection.wait("AcceptSocket", request, timeout)
        if answer.report.timed_out and timeout is None:
            continue
        raise_report(answer.report)
        return await take_over(connection, answer.socket), await connection.address(answer.socket.remote)


async def take_over(connection: Connection, far: v1.Socket) -> Stream:
    """Open the stream of a connection. One that has broken meanwhile is told by what is done with it, as accept(2) has it."""
    opening = v1.TransferSocketRequest()
    opening.open.session_id = far.session_id
    opening.open.socket_id = far.socket_id
    try:
        return await Stream.open(connection, far.session_id, opening)
    except _errors.AgentError as error:
        if error.reason not in {"SOCKET_CLOSED", "WRONG_STATE"}:
            raise
        return Stream.failed(connection, far.session_id, far, OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))


def discard(stream: Stream) -> None:
    """Reset a connection that nobody wants."""
    stream.abort()
    stream.connection.close_later(stream.close())


async def connect(connection: Connection, spec: v1.TcpSocketSpec, timeout: float | None) -> Stream:
    """Make a connection and its stream in one call."""
    opening = v1.TransferSocketRequest()
    opening.create.tcp.CopyFrom(spec)
    opening.create.call.CopyFrom(operation(timeout))

    async def work(session: str) -> Stream:
        opening.create.session_id = session
        return await Stream.open(connection, session, opening)

    return await connection.in_session(work)


async def listen(
    connection: Connection, family: int, local: str, backlog: int | None, reuse_port: bool = False, dualstack: bool = False
) -> v1.Socket:
    """Make a listener in one call."""
    options = [v1.SocketOption(name="SO_REUSEADDR", enabled=True)]
    if reuse_port:
        options.append(v1.SocketOption(name="SO_REUSEPORT", enabled=True))
    if family == socket.AF_INET6:
        options.append(v1.SocketOption(name="IPV6_V6ONLY", enabled=not dualstack))
    spec = v1.TcpSocketSpec(listen=local, family=_address.of_family(family), options=options)
    spec.accept = v1.ACCEPT_POLICY_MANUAL
    spec.delivery.mode = v1.DELIVERY_MODE_TRANSFER
    spec.backlog = min(max(min(socket.SOMAXCONN, 128) if backlog is None else backlog, 1), 65535)

    return await _create(connection, v1.CreateSocketRequest(tcp=spec))
