"""Datagrams: how one is fetched from the far kernel, what recvmsg(2) tells of it, how one is sent."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from farsock import _errors, v1
from farsock._connection import Connection, raise_report
from farsock._options import number_of

Ancillary = tuple[int, int, bytes]

SO_NAMES = (
    ("IP_PKTINFO", socket.IPPROTO_IP),
    ("IP_RECVTTL", socket.IPPROTO_IP),
    ("IP_RECVTOS", socket.IPPROTO_IP),
    ("IPV6_RECVPKTINFO", socket.IPPROTO_IPV6),
    ("IPV6_RECVHOPLIMIT", socket.IPPROTO_IPV6),
    ("IPV6_RECVTCLASS", socket.IPPROTO_IPV6),
)
"""Options that ask for control messages. The agent always has them on; here they say what `recvmsg` shows."""


class Received(NamedTuple):
    """A datagram that was fetched."""

    data: bytes
    source: tuple[Any, ...]
    destination: str
    hop_limit: int | None
    traffic_class: int | None


async def receive(connection: Connection, owner: v1.Socket, timeout: float | None) -> Received:
    """Fetch the next datagram; raises what recvmsg(2) answers, and TimeoutError."""
    request = v1.ReceiveSocketRequest(session_id=owner.session_id, socket_id=owner.socket_id)
    request.view.form = v1.PAYLOAD_FORM_DATA
    while True:
        answer: v1.ReceiveSocketResponse = await connection.wait("ReceiveSocket", request, timeout)
        if answer.report.timed_out and timeout is None:
            continue
        raise_report(answer.report)
        return Received(
            answer.payload.data,
            await connection.address(answer.source),
            answer.destination.address,
            answer.hop_limit if answer.HasField("hop_limit") else None,
            answer.traffic_class if answer.HasField("traffic_class") else None,
        )


def ancillary(got: Received, wanted: set[str]) -> list[Ancillary]:
    """Make the control messages of a datagram, as recvmsg(2) has them."""
    found: list[Ancillary] = []
    ttl, tos = got.hop_limit, got.traffic_class
    if "IP_RECVTTL" in wanted and ttl is not None:
        found.append((socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", ttl)))
    if "IP_RECVTOS" in wanted and tos is not None:
        found.append((socket.IPPROTO_IP, socket.IP_TOS, bytes([tos])))
    if "IP_PKTINFO" in wanted:
        to = socket.inet_aton(got.destination)
        found.append((socket.IPPROTO_IP, number_of("IP_PKTINFO") or 0, struct.pack("i4s4s", 0, to, to)))
    if "IPV6_RECVHOPLIMIT" in wanted and ttl is not None:
        found.append((socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("i", ttl)))
    if "IPV6_RECVTCLASS" in wanted and tos is not None:
        found.append((socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("i", tos)))
    if "IPV6_RECVPKTINFO" in wanted:
        to = socket.inet_pton(socket.AF_INET6, got.destination)
        found.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, to + struct.pack("I", 0)))
    return found


def made(data: bytes, destination: str, control: Iterable[tuple[int, int, Any]] = ()) -> v1.Datagram:
    """Make a datagram to be sent, with the control messages of sendmsg(2) that there are."""
    datagram = v1.Datagram(destination=destination, payload=v1.Payload(data=data))
    for level, kind, given in control:
        value = bytes(given)
        if (level, kind) in {(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)}:
            datagram.hop_limit = _number(value)
        elif (level, kind) in {(socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}:
            datagram.traffic_class = _number(value)
        elif (level, kind) == (socket.IPPROTO_IP, number_of("IP_PKTINFO")) and len(value) == 12:
            datagram.source = socket.inet_ntoa(value[4:8])
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(value) == 20:
            datagram.source = socket.inet_ntop(socket.AF_INET6, value[:16])
        else:
            raise _errors.of_number(errno.EINVAL)
    return datagram


def _number(value: bytes) -> int:
    return value[0] if len(value) == 1 else int(struct.unpack("i", value)[0])


async def send(connection: Connection, owner: v1.Socket, datagrams: list[v1.Datagram], timeout: float | None) -> v1.SendDatagramsResponse:
    """Send datagrams; raises what sendmsg(2) answers to the first that was not sent."""
    request = v1.SendDatagramsRequest(session_id=owner.session_id, socket_id=owner.socket_id, datagrams=datagrams)
    answer: v1.SendDatagramsResponse = await connection.wait("SendDatagrams", request, timeout)
    raise_report(answer.report)
    return answer
