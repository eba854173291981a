"""What `get_extra_info("socket")` and `Server.sockets` show of a far socket."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from farsock import _io, _options, v1

if TYPE_CHECKING:
    from farsock._connection import Connection


class TransportSocket:
    """A socket that a transport or a server has: to look at, and to set options of. As `asyncio.trsock.TransportSocket`."""

    def __init__(self, connection: Connection, far: v1.Socket, names: dict[str, Any]) -> None:
        self._connection = connection
        self._far = far
        self._names = names

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if self._far.family == v1.FAMILY_IPV6 else socket.AF_INET

    @property
    def type(self) -> socket.SocketKind:
        """SOCK_STREAM or SOCK_DGRAM."""
        return socket.SOCK_DGRAM if self._far.transport == v1.TRANSPORT_UDP else socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        """IPPROTO_TCP or IPPROTO_UDP."""
        return socket.IPPROTO_UDP if self._far.transport == v1.TRANSPORT_UDP else socket.IPPROTO_TCP

    @property
    def socket_id(self) -> str:
        """The name by which the agent and its events know this socket."""
        return self._far.socket_id

    def __repr__(self) -> str:
        return f"<farsock.TransportSocket {self._connection.name}/{self.socket_id} {self.family.name} {self.type.name}>"

    def getsockname(self) -> Any:
        """Answer the local address."""
        return self._names.get("sockname")

    def getpeername(self) -> Any:
        """Answer the remote address."""
        return self._names.get("peername")

    def setsockopt(self, level: int, optname: int, value: int | bytes) -> None:
        """Set an option; waits for the agent's answer."""
        _io.run(_options.set_option(self._connection, self._far, level, optname, value))

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> int | bytes:
        """Answer an option; waits for the agent's answer."""
        value = _io.run(_options.get_option(self._connection, self._far, level, optname))
        return value[:buflen] if isinstance(value, bytes) and buflen else value
