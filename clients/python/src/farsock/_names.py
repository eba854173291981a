"""The functions of the socket module about names, as the far host answers them."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from farsock import _address, _errors, _io, v1

if TYPE_CHECKING:
    from farsock._connection import Connection

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]

_KINDS = ((socket.SOCK_STREAM, socket.IPPROTO_TCP), (socket.SOCK_DGRAM, socket.IPPROTO_UDP))


class Names:
    """What `Host` has of them."""

    def _connection(self) -> Connection:
        raise NotImplementedError

    def _resolve(self, **query: Any) -> v1.ResolveResponse:
        return _io.run(resolve(self._connection(), v1.ResolveRequest(**query)))

    def getaddrinfo(
        self, host: str | None, port: str | int | None, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[AddressInfo]:
        """Look up addresses of a host, and the port of a service."""
        return _io.run(getaddrinfo(self._connection(), host, port, family, type, proto, flags))

    def gethostname(self) -> str:
        """Answer the far host's name."""
        return _io.run(self._connection().agent_info()).host_name

    def getfqdn(self, name: str = "") -> str:
        """Answer the full name of a host, the far one's where none is named."""
        name = name.strip()
        if name in {"", "0.0.0.0", "::"}:
            name = self.gethostname()
        try:
            full = self.gethostbyaddr(name)[0]
        except OSError:
            return name
        return full or name

    def gethostbyname(self, hostname: str) -> str:
        """Answer an IPv4 address of a host."""
        return self.gethostbyname_ex(hostname)[2][0]

    def gethostbyname_ex(self, hostname: str) -> tuple[str, list[str], list[str]]:
        """Answer (name, aliases, IPv4 addresses); the agent tells no aliases."""
        answer = self._resolve(host=hostname or "0.0.0.0", family=v1.FAMILY_IPV4)
        return answer.host or hostname, [], list(answer.addresses)

    def gethostbyaddr(self, ip_address: str) -> tuple[str, list[str], list[str]]:
        """Answer (name, aliases, addresses) of an address, or of a host by name."""
        address = ip_address
        if not is_literal(address):
            address = self._resolve(host=address).addresses[0]
        try:
            answer = self._resolve(address=address)
        except socket.gaierror:
            raise socket.herror(1, "Unknown host") from None
        return answer.host, [], [address]

    def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        """Answer the names of a host and of a service."""
        host, port = str(sockaddr[0]), str(sockaddr[1])
        if not flags & socket.NI_NUMERICHOST:
            try:
                host = self._resolve(address=host.partition("%")[0]).host or host
            except socket.gaierror:
                if flags & socket.NI_NAMEREQD:
                    raise
        if not flags & socket.NI_NUMERICSERV:
            with contextlib.suppress(OSError):
                port = self.getservbyport(int(port), "udp" if flags & socket.NI_DGRAM else "tcp")
        return host, port

    def getservbyname(self, servicename: str, protocolname: str = "tcp") -> int:
        """Answer the port of a service."""
        try:
            return self._resolve(service=servicename, transport=_transport(protocolname)).port
        except (socket.gaierror, _errors.AgentError):
            raise OSError("service/proto not found") from None

    def getservbyport(self, port: int, protocolname: str = "tcp") -> str:
        """Answer the service of a port."""
        if not 0 <= port <= 65535:
            raise OverflowError("getservbyport: port must be 0-65535.")
        try:
            service = self._resolve(port=port, transport=_transport(protocolname)).service
        except (socket.gaierror, _errors.AgentError):
            service = ""
        if not service:
            raise OSError("port/proto not found")
        return service

    def if_nameindex(self) -> list[tuple[int, str]]:
        """List the interfaces of the far host."""
        return [(found.index, found.name) for found in _io.run(self._connection().interfaces())]

    def if_nametoindex(self, if_name: str) -> int:
        """Answer the index of an interface of the far host."""
        for index, name in self.if_nameindex():
            if name == if_name:
                return index
        raise OSError("no interface with this name")

    def if_indextoname(self, if_index: int) -> str:
        """Answer the name of an interface of the far host."""
        for index, name in self.if_nameindex():
            if index == if_index:
                return name
        raise OSError("no interface with this index")


async def resolve(connection: Connection, request: v1.ResolveRequest) -> v1.ResolveResponse:
    """Ask the far resolver. Raises socket.gaierror."""
    answer = await connection.call(connection.agent.Resolve, request)
    if answer.HasField("error"):
        raise _errors.of_socket(answer.error)
    if answer.timed_out:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return answer


async def getaddrinfo(
    connection: Connection, host: str | None, port: str | int | None, family: int, type: int, proto: int, flags: int
) -> list[AddressInfo]:
    """getaddrinfo(3): of streams and datagrams; there are no raw sockets here."""
    kinds = [(kind, its) for kind, its in _KINDS if type in {0, kind} and proto in {0, its}]
    if not kinds:
        raise socket.gaierror(socket.EAI_SOCKTYPE, "ai_socktype not supported")
    # A service may have a port of one transport only.
    ports = [(kind, int(its), number) for kind, its in kinds if (number := await _port(connection, port, kind)) is not None]
    if not ports:
        raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype")
    canonical = ""
    if host is None:
        passive = flags & socket.AI_PASSIVE
        addresses = ["0.0.0.0", "::"] if passive else ["::1", "127.0.0.1"]
    elif is_literal(host):
        addresses = [host]
    elif flags & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    else:
        query = v1.ResolveRequest(host=host)
        if family:
            query.family = _address.of_family(family)
        answer = await resolve(connection, query)
        addresses = list(answer.addresses)
        canonical = answer.host if flags & socket.AI_CANONNAME else ""
    found: list[AddressInfo] = []
    for address in addresses:
        its_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if family not in {0, its_family}:
            continue
        for kind, its, number in ports:
            where = (address, number, 0, 0) if its_family == socket.AF_INET6 else (address, number)
            found.append((its_family, kind, its, "" if found else canonical, where))
    if not found:
        raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
    return found


async def _port(connection: Connection, port: str | int | None, kind: int) -> int | None:
    if port is None or port == "":
        return 0
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    transport = v1.TRANSPORT_UDP if kind == socket.SOCK_DGRAM else v1.TRANSPORT_TCP
    try:
        return (await resolve(connection, v1.ResolveRequest(service=port, transport=transport))).port
    except socket.gaierror:
        return None


def is_literal(host: str) -> bool:
    """Whether a host is an IP address already."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _transport(protocol: str) -> v1.Transport.ValueType:
    try:
        return {"tcp": v1.TRANSPORT_TCP, "udp": v1.TRANSPORT_UDP}[protocol]
    except KeyError:
        raise OSError("service/proto not found") from None
