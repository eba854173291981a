"""A host of the lab: the socket module, and what asyncio has of sockets, as they would be there."""

from __future__ import annotations

import os
import socket as std
import threading
from typing import TYPE_CHECKING, Any

import grpc

from farsock import _address, _endpoint, _far, _identity, _inventory, _io, v1
from farsock._asyncio import Streams
from farsock._connection import CHANNEL_OPTIONS, TLS_CHANNEL_OPTIONS, Connection
from farsock._errors import AgentError
from farsock._names import Names
from farsock._socket import Socket
from farsock._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE = 5.0
"""How many seconds closing a host waits for sockets whose peers do not take the rest of what was written."""

_DEFAULT: Any = object()

# What needs no host, and is as in the socket module: constants, types, exceptions, byte orders and literals.
_PLAIN = {
    "AddressFamily", "SocketKind", "MsgFlag", "AddressInfo", "SocketIO", "error", "gaierror", "herror", "timeout", "has_ipv6",
    "htonl", "htons", "inet_aton", "inet_ntoa", "inet_ntop", "inet_pton", "ntohl", "ntohs", "getprotobyname",
}  # fmt: skip


class Host(Streams, Names):
    """A host whose agent is reached at `endpoint`: HOST:PORT, PORT or unix:PATH.

    It has the names of the `socket` module: `socket = farsock.host("lab-a")` in place of `import socket` moves a program there. All
    sockets of a Host are of one session of its own, which is ended with it. Nothing is dialled before it is needed.

    The session has a lease that is renewed in the background: when this program dies, or is cut off for `lease_ttl` seconds (5 to 3600;
    None: as the agent has it), the agent closes its sockets.

    An agent by TCP is shown a token (`token`, `token_file`, or the file of an agent of this user on this host), or a certificate that
    `farsock pki` has made (`tls_cert`, or what FARSOCK_TLS_CERT names; its key and `ca.pem` are beside it, or where `tls_key` and `tls_ca`
    say). Its files are read when the host first dials: one that is renewed is shown by a new Host.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        name: str | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        lease_ttl: float | None = None,
    ) -> None:
        self.endpoint = _endpoint.Endpoint.parse(endpoint)
        self.name = name or str(self.endpoint)
        has_token = token is not None or token_file is not None
        self._identity = _identity.find(self.endpoint, has_token, tls_cert, tls_key, tls_ca)
        if token is None and self._identity is None:
            token = _endpoint.find_token(self.endpoint, token_file)
        self._token = token
        self._lease_ttl = lease_ttl
        self._lock = threading.Lock()
        self._made: Connection | None = None
        self._closed = False
        self._forget: Callable[[], None] | None = None
        self._default_timeout: float | None = None

    def __repr__(self) -> str:
        return f"<farsock.Host {self.name} at {self.endpoint}>"

    def __getattr__(self, name: str) -> Any:
        if name in _PLAIN or name.isupper():
            return getattr(std, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _connection(self) -> Connection:
        with self._lock:
            if self._closed:
                raise ValueError(f"{self!r} is closed")
            if self._made is None:
                self._made = _io.run(Connection.to(self.name, self.endpoint, self._token, self._identity, self._lease_ttl))
                self._forget = _io.at_exit(self.close)
            return self._made

    # === The agent ===

    @property
    def agent(self) -> v1.Agent:
        """Who the agent is: its version, limits, defaults, options, addresses."""
        return _io.run(self._connection().agent_info())

    @property
    def lab_addresses(self) -> list[str]:
        """The addresses of the host that others of the lab reach it by, where the agent was told."""
        return list(self.agent.lab_addresses)

    @property
    def session_id(self) -> str:
        """The session that the sockets are of. Another one after the agent was restarted."""
        return _io.run(self._connection().session())

    def channel(self) -> grpc.Channel:
        """Make a channel of gRPC for the stubs of `farsock.v1`, with the credentials of this host. It is the caller's, to be closed."""
        if self._identity is not None:
            return grpc.secure_channel(self.endpoint.target, self._identity.credentials(), options=TLS_CHANNEL_OPTIONS)
        channel = grpc.insecure_channel(self.endpoint.target, options=CHANNEL_OPTIONS)
        return grpc.intercept_channel(channel, _Credentials(self._connection().metadata))

    def events(
        self,
        *,
        sockets: Iterable[str] = (),
        kinds: Iterable[str] = (),
        after: int | None = None,
        from_now: bool = False,
        name: str = "",
    ) -> Watch:
        """Watch what happens in this session: of some sockets or all (`door.*` are the connections of `door`), some kinds or all.

        It begins with the oldest event that is kept, after the number `after`, or from now. One with a `name` loses nothing; see `Watch`.
        """
        return Watch(self._connection(), list(sockets), list(kinds), after, from_now, name)

    def close(self) -> None:
        """Close all sockets, end the session and hang up."""
        if self._begin_to_close():
            _io.run(self._close())

    async def aclose(self) -> None:
        """`close`, for programs with an event loop."""
        if self._begin_to_close():
            await _io.wait(self._close())

    def _begin_to_close(self) -> bool:
        with self._lock:
            already, self._closed = self._closed, True
            if self._forget is not None:
                self._forget()
            return not already and self._made is not None

    async def _close(self) -> None:
        if self._made is not None:
            await self._made.close(PATIENCE)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Host:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # === The socket module ===

    def socket(self, family: int = -1, type: int = -1, proto: int = -1, fileno: None = None) -> Socket:
        """Make a socket."""
        if fileno is not None:
            raise ValueError("a far socket is made of no descriptor")
        return Socket(self, family, type, proto)

    def getdefaulttimeout(self) -> float | None:
        """Answer the timeout of new sockets."""
        return self._default_timeout

    def setdefaulttimeout(self, timeout: float | None) -> None:
        """Give new sockets of this host a timeout."""
        if timeout is not None and timeout < 0:
            raise ValueError("Timeout value out of range")
        self._default_timeout = timeout

    def has_dualstack_ipv6(self) -> bool:
        """Answer True: Linux has it."""
        return "ipv6" in self.agent.capabilities

    def create_connection(
        self,
        address: tuple[str | None, int | str],
        timeout: float | None = _DEFAULT,
        source_address: tuple[str, int] | None = None,
        *,
        all_errors: bool = False,
    ) -> Socket:
        """Connect to (host, port); all addresses of the host are tried, in one call to the agent, and the last error is raised."""
        timeout = self._default_timeout if timeout is _DEFAULT else timeout
        connection = self._connection()
        spec = v1.TcpSocketSpec(connect=_address.join(address[0] or "localhost", address[1]))
        if source_address is not None:
            spec.bind = _address.to_text(std.AF_INET6 if ":" in source_address[0] else std.AF_INET, source_address, "bind")
        return Socket._of_stream(self, _io.run(_far.connect(connection, spec, timeout), _far.discard), timeout)

    def create_server(
        self,
        address: tuple[str, int],
        *,
        family: int = std.AF_INET,
        backlog: int | None = None,
        reuse_port: bool = False,
        dualstack_ipv6: bool = False,
    ) -> Socket:
        """Make a socket that listens on (host, port)."""
        if dualstack_ipv6 and family != std.AF_INET6:
            raise ValueError("dualstack_ipv6 requires AF_INET6 family")
        local = _address.to_text(family, address, "bind")
        connection = self._connection()
        try:
            far = _io.run(
                _far.listen(connection, family, local, backlog, reuse_port, dualstack_ipv6),
                lambda made: connection.close_later(_far.close(connection, made)),
            )
        except OSError as error:
            if error.errno is not None and not isinstance(error, (std.gaierror, AgentError)):
                raise OSError(error.errno, f"{error.strerror} (while attempting to bind on address {address!r})") from None
            raise
        made = Socket._of_far(self, far)
        made._listens()
        return made


class _Credentials(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Shows the token with each call."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=[*(details.metadata or ()), *self._metadata]), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _call  # type: ignore[assignment]


def host(name: str, *, inventory: str | os.PathLike[str] | None = None) -> Host:
    """Answer the host of that name in the inventory (`inventory`, or what FARSOCK_INVENTORY names), or else at that endpoint."""
    path = inventory or os.environ.get(_inventory.VARIABLE)
    entries = _inventory.load(path) if path else {}
    if (entry := entries.get(name)) is not None:
        return Host(name=name, **entry.arguments())
    if path and ":" not in name and not name.isdecimal():
        raise LookupError(f"there is no host {name!r} in {os.fspath(path)}: it has {', '.join(entries) or 'none'}")
    return Host(name)
