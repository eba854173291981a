"""Socket options: numbers of Python's socket module to names of the agent, integers and structs to values that say what they are."""

from __future__ import annotations

import errno
import socket
import struct
import sys

from farsock import _errors, v1
from farsock._connection import Connection, duration, raise_report

# Numbers of Linux, where this Python has no constant. A caller writes the number then, too.
_LINUX = {
    "SO_MAX_PACING_RATE": 47,
    "SO_RXQ_OVFL": 40,
    "SO_BINDTOIFINDEX": 62,
    "SO_BINDTODEVICE": 25,
    "TCP_NOTSENT_LOWAT": 25,
    "TCP_TX_DELAY": 37,
    "IP_PKTINFO": 8,
    "IP_MTU_DISCOVER": 10,
    "IP_RECVERR": 11,
    "IP_RECVTTL": 12,
    "IP_RECVTOS": 13,
    "IP_MTU": 14,
    "IP_FREEBIND": 15,
    "IP_BIND_ADDRESS_NO_PORT": 24,
    "IP_UNBLOCK_SOURCE": 37,
    "IP_BLOCK_SOURCE": 38,
    "IP_ADD_SOURCE_MEMBERSHIP": 39,
    "IP_DROP_SOURCE_MEMBERSHIP": 40,
    "IP_MULTICAST_ALL": 49,
    "IP_LOCAL_PORT_RANGE": 51,
    "IPV6_MTU_DISCOVER": 23,
    "IPV6_MTU": 24,
    "IPV6_RECVERR": 25,
    "IPV6_MULTICAST_ALL": 29,
    "IPV6_FREEBIND": 78,
}
_LEVELS = {
    "SO_": socket.SOL_SOCKET,
    "TCP_": socket.IPPROTO_TCP,
    "IP_": socket.IPPROTO_IP,
    "IPV6_": socket.IPPROTO_IPV6,
}


def number_of(name: str) -> int | None:
    """Answer the number of a constant, as a program on this machine writes it."""
    return getattr(socket, name, _LINUX.get(name))


async def set_option(connection: Connection, owner: v1.Socket, level: int, number: int, value: int | bytes) -> None:
    """setsockopt(2)."""
    if level in {socket.IPPROTO_IP, socket.IPPROTO_IPV6} and await _set_group(connection, owner, number, value):
        return
    spec = await _spec(connection, level, number)
    option = v1.SocketOption(name=spec.name)
    if spec.type == v1.OPTION_TYPE_TEXT:
        option.text = await _text(connection, spec, value)
    elif spec.type == v1.OPTION_TYPE_LINGER:
        on, seconds = struct.unpack("ii", value) if isinstance(value, bytes) else (0, 0)
        if on:
            option.duration.CopyFrom(duration(seconds))
        else:
            option.enabled = False
    else:
        plain = int.from_bytes(value, sys.byteorder, signed=True) if isinstance(value, bytes) else value
        if spec.type == v1.OPTION_TYPE_ENABLED:
            option.enabled = plain != 0
        elif not spec.minimum <= plain <= spec.maximum:
            raise _errors.of_number(errno.EINVAL)
        elif spec.type == v1.OPTION_TYPE_DURATION:
            option.duration.CopyFrom(duration(plain * spec.unit.ToNanoseconds() / 1e9))
        else:
            option.number = plain
    request = v1.SetSocketOptionsRequest(session_id=owner.session_id, socket_id=owner.socket_id, options=[option])
    raise_report((await connection.call(connection.sockets.SetSocketOptions, request)).report)


async def get_option(connection: Connection, owner: v1.Socket, level: int, number: int) -> int | bytes:
    """getsockopt(2): bytes of options that are no integers."""
    spec = await _spec(connection, level, number)
    request = v1.GetSocketOptionsRequest(session_id=owner.session_id, socket_id=owner.socket_id, names=[spec.name])
    result = (await connection.call(connection.sockets.GetSocketOptions, request)).options[0]
    if result.HasField("error"):
        raise _errors.of_socket(result.error)
    value = result.effective
    if spec.type == v1.OPTION_TYPE_LINGER:
        return struct.pack("ii", int(value.HasField("duration")), value.duration.seconds)
    if spec.type == v1.OPTION_TYPE_ENABLED:
        return int(value.enabled)
    if spec.type == v1.OPTION_TYPE_DURATION:
        return value.duration.ToNanoseconds() // spec.unit.ToNanoseconds()
    if spec.type == v1.OPTION_TYPE_NUMBER:
        return value.number
    return await _untext(connection, spec, value.text)


async def _spec(connection: Connection, level: int, number: int) -> v1.OptionSpec:
    for spec in (await connection.agent_info()).options:
        prefix = spec.name[: spec.name.index("_") + 1]
        if _LEVELS.get(prefix) == level and number_of(spec.name) == number:
            return spec
    raise _errors.of_number(errno.ENOPROTOOPT)


async def _text(connection: Connection, spec: v1.OptionSpec, value: int | bytes) -> str:
    if spec.words:
        if not isinstance(value, int) or not 0 <= value < len(spec.words):
            raise _errors.of_number(errno.EINVAL)
        return spec.words[value]
    if spec.name == "IP_LOCAL_PORT_RANGE" and isinstance(value, int):
        return f"{value & 0xFFFF}-{value >> 16}" if value else ""
    if spec.name == "IP_MULTICAST_IF" and isinstance(value, bytes):
        address, index = value[-8:-4] if len(value) == 12 else value[:4], value[8:12]
        if any(index):
            return await _interface(connection, int.from_bytes(index, sys.byteorder))
        return await _interface_with(connection, socket.inet_ntoa(address))
    if isinstance(value, int):
        return await _interface(connection, value)
    return value.rstrip(b"\0").decode()


async def _untext(connection: Connection, spec: v1.OptionSpec, text: str) -> int | bytes:
    if spec.words:
        return list(spec.words).index(text)
    if spec.name == "IP_LOCAL_PORT_RANGE":
        low, _, high = text.partition("-")
        return int(low or 0) | int(high or 0) << 16
    if spec.name.endswith("_MULTICAST_IF"):
        return next((found.index for found in await connection.interfaces() if found.name == text), 0)
    return text.encode() + b"\0"


async def _interface(connection: Connection, index: int) -> str:
    if index == 0:
        return ""
    for found in await connection.interfaces():
        if found.index == index:
            return found.name
    raise _errors.of_number(errno.ENODEV)


async def _interface_with(connection: Connection, address: str) -> str:
    if address == "0.0.0.0":
        return ""
    for found in await connection.interfaces():
        if any(own.address == address for own in found.addresses):
            return found.name
    raise _errors.of_number(errno.EADDRNOTAVAIL)


async def _set_group(connection: Connection, owner: v1.Socket, number: int, value: int | bytes) -> bool:
    """IP_ADD_MEMBERSHIP and its kin. False: it is another option."""
    if isinstance(value, int):
        return False
    source = ""
    if owner.family == v1.FAMILY_IPV6:
        rpc = _GROUPS_6.get(number)
        if rpc is None or len(value) != 20:
            return False
        group, interface = socket.inet_ntop(socket.AF_INET6, value[:16]), _index(value[16:])
    elif number in _GROUPS and len(value) in {8, 12}:
        rpc = _GROUPS[number]
        group, interface = socket.inet_ntoa(value[:4]), _index(value[8:]) or _own_address(value[4:8])
    elif number in _SOURCES and len(value) == 12:
        # struct ip_mreq_source of Linux.
        rpc = _SOURCES[number]
        group, interface, source = socket.inet_ntoa(value[:4]), _own_address(value[4:8]), socket.inet_ntoa(value[8:])
    else:
        return False
    request = getattr(v1, f"{rpc}Request")(session_id=owner.session_id, socket_id=owner.socket_id, group=group, interface=interface)
    request.source = source
    raise_report((await connection.call(getattr(connection.sockets, rpc), request)).report)
    return True


_GROUPS_6 = {socket.IPV6_JOIN_GROUP: "JoinGroup", socket.IPV6_LEAVE_GROUP: "LeaveGroup"}
_GROUPS = {socket.IP_ADD_MEMBERSHIP: "JoinGroup", socket.IP_DROP_MEMBERSHIP: "LeaveGroup"}
_SOURCES = {
    _LINUX["IP_ADD_SOURCE_MEMBERSHIP"]: "JoinGroup",
    _LINUX["IP_DROP_SOURCE_MEMBERSHIP"]: "LeaveGroup",
    _LINUX["IP_BLOCK_SOURCE"]: "BlockSource",
    _LINUX["IP_UNBLOCK_SOURCE"]: "UnblockSource",
}


def _index(data: bytes) -> str:
    index = int.from_bytes(data, sys.byteorder)
    return str(index) if index else ""


def _own_address(data: bytes) -> str:
    return "" if data == bytes(4) else socket.inet_ntoa(data)
