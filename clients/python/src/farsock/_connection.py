"""Connections to one agent, and the session that a host works in. Everything here runs on the loop of `_io`."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from farsock import _errors, _io, v1

if TYPE_CHECKING:
    from farsock._endpoint import Endpoint
    from farsock._identity import Identity
    from farsock.v1.agent_service_pb2_grpc import AgentServiceAsyncStub
    from farsock.v1.event_service_pb2_grpc import EventServiceAsyncStub
    from farsock.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from farsock.v1.socket_service_pb2_grpc import SocketServiceAsyncStub

    Method = grpc.aio.UnaryUnaryMultiCallable[Any, "Response"]

Response = TypeVar("Response")
T = TypeVar("T")

DEADLINE = 15.0
"""How many seconds a call may take beyond the waiting that it asks for: then its agent counts as lost."""

LONG = 24 * 3600.0
"""How many seconds a wait without a timeout asks for at a time."""

STREAMS = 64
"""How many streams share a connection. An agent takes what a stream sends whether its peer reads or not, so that none holds up another;
but a connection is one TCP stream, and as quick as one."""

WAITS = 500
"""How many calls that wait share a connection; an agent takes 1,024 streams of one."""

WATCHERS = 64
"""How many WaitEvent are under way at a time; an agent takes 128 watchers of a session."""

CHANNEL_OPTIONS = [
    # Without it, gRPC would share one connection between all channels to an agent.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", -1),
    # A Unix socket's path is no authority that HTTP/2 takes.
    ("grpc.default_authority", "localhost"),
]

# With TLS the authority is the name that the agent's certificate must have.
TLS_CHANNEL_OPTIONS = [(name, value) for name, value in CHANNEL_OPTIONS if name != "grpc.default_authority"]


class Slot:
    """A place on a connection, for one stream or one call that waits."""

    def __init__(self, line: _Line) -> None:
        self.sockets = line.sockets
        self._line: _Line | None = line
        line.used += 1

    def release(self) -> None:
        """Give the place back."""
        line, self._line = self._line, None
        if line is not None:
            line.used -= 1

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Line:
    """One connection of a pool."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.sockets: SocketServiceAsyncStub = v1.SocketServiceStub(channel)
        self.used = 0


class _Pool:
    """As many connections as are needed, none with more than `places` streams at a time."""

    def __init__(self, channel: Callable[[], grpc.aio.Channel], places: int) -> None:
        self._channel = channel
        self._places = places
        self._lines: list[_Line] = []

    def slot(self) -> Slot:
        """Find a place."""
        line = min(self._lines, key=lambda line: line.used, default=None)
        if line is None or line.used >= self._places:
            line = _Line(self._channel())
            self._lines.append(line)
        return Slot(line)


class Connection:
    """Everything that leads to one agent: a connection for calls, one for events, and as many for streams as are needed."""

    sockets: SocketServiceAsyncStub
    agent: AgentServiceAsyncStub
    sessions: SessionServiceAsyncStub
    events: EventServiceAsyncStub

    def __init__(self, name: str, endpoint: Endpoint, token: str | None, identity: Identity | None, lease_ttl: float | None) -> None:
        self.name = name
        self.target = endpoint.target
        self._credentials = identity.credentials() if identity else None
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channels: list[grpc.aio.Channel] = []
        self.streams = _Pool(self._channel, STREAMS)
        self.waits = _Pool(self._channel, WAITS)
        self._zones: dict[str, int] = {}
        self._info: v1.Agent | None = None
        self.closed = False
        self._lease_ttl = lease_ttl
        self._session: str | None = None
        self._making_session = asyncio.Lock()
        self.waiting = asyncio.Semaphore(WATCHERS)
        # What is still being closed in the background.
        self.closing: set[asyncio.Task[Any]] = set()

    @classmethod
    async def to(cls, name: str, endpoint: Endpoint, token: str | None, identity: Identity | None, lease_ttl: float | None) -> Connection:
        """Make the connections; nothing is dialled yet."""
        made = cls(name, endpoint, token, identity, lease_ttl)
        calls = made._channel()
        made.sockets = v1.SocketServiceStub(calls)
        made.agent = v1.AgentServiceStub(calls)
        made.sessions = v1.SessionServiceStub(calls)
        made.events = v1.EventServiceStub(made._channel())
        return made

    def _channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            channel = grpc.aio.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        else:
            channel = grpc.aio.secure_channel(self.target, self._credentials, options=TLS_CHANNEL_OPTIONS)
        self._channels.append(channel)
        return channel

    async def call(self, method: Method[Response], request: Any, wait: float = 0.0) -> Response:
        """Call the agent. Raises AgentError, and AgentLostError when no answer comes within `wait` and the deadline."""
        try:
            return await method(request, timeout=wait + DEADLINE, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            raise _errors.of_status(error, self.name) from None
        except grpc.aio.UsageError:
            # The channels are closed, and so is everything that went through them.
            raise _errors.of_number(errno.EBADF) from None

    async def wait(self, method: str, request: Any, timeout: float | None) -> Any:
        """Make a call of SocketService that may wait long, off the connection for other calls. Cancelling it stops the far operation."""
        request.call.CopyFrom(operation(timeout))
        with self.waits.slot() as slot:
            try:
                return await self.call(getattr(slot.sockets, method), request, LONG if timeout is None else timeout)
            except asyncio.CancelledError:
                self.cancel_later(request.session_id, request.call.request_id)
                raise

    def cancel_later(self, session: str, request_id: str) -> None:
        """Stop a far operation that nobody waits for any more: cancelling its call would not."""
        request = v1.CancelCallRequest(session_id=session, request_id=request_id)
        self.close_later(self.call(self.sockets.CancelCall, request))

    async def address(self, endpoint: v1.Endpoint) -> tuple[Any, ...]:
        """Make an address as Python has it of an endpoint."""
        if endpoint.family != v1.FAMILY_IPV6:
            return (endpoint.address or "0.0.0.0", endpoint.port)
        if not endpoint.zone:
            return (endpoint.address, endpoint.port, 0, 0)
        if endpoint.zone not in self._zones:
            self._zones = {interface.name: interface.index for interface in await self.interfaces()}
        return (f"{endpoint.address}%{endpoint.zone}", endpoint.port, 0, self._zones.get(endpoint.zone, 0))

    async def agent_info(self) -> v1.Agent:
        """Answer who the agent is, asked once."""
        if self._info is None:
            self._info = (await self.call(self.agent.GetAgent, v1.GetAgentRequest())).agent
        return self._info

    async def interfaces(self) -> list[v1.Interface]:
        """List the interfaces of the host."""
        found: list[v1.Interface] = []
        token = ""
        while True:
            answer = await self.call(self.agent.ListInterfaces, v1.ListInterfacesRequest(page_token=token))
            found += answer.interfaces
            token = answer.next_page_token
            if not token:
                return found

    # === The session ===

    async def session(self) -> str:
        """Answer the session's name; it is made when it is first needed."""
        async with self._making_session:
            if self._session is None:
                _errors.check_capabilities(await self.agent_info(), self.name)
                request = v1.CreateSessionRequest(session_id=f"python-{os.getpid()}-{secrets.token_hex(4)}")
                if self._lease_ttl is not None:
                    request.lease_ttl.CopyFrom(duration(self._lease_ttl))
                answer = await self.call(self.sessions.CreateSession, request)
                raise_report(answer.report)
                self._session = answer.session.session_id
                if answer.session.HasField("lease_ttl"):
                    _io.spawn(self._renew(self._session, answer.session.lease_ttl.ToNanoseconds() / 1e9))
            return self._session

    async def _renew(self, session: str, ttl: float) -> None:
        """Renew the lease of a session for as long as it is used, three times within its TTL."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(ttl / 3)
            if self._session != session:
                return
            sent = time.monotonic()
            try:
                await self.call(self.sessions.RenewSession, v1.RenewSessionRequest(session_id=session))
                renewed = sent
            except OSError as error:
                over = isinstance(error, _errors.AgentError) and error.reason in _errors.SESSIONS
                if over or time.monotonic() - renewed > ttl:
                    self.forget(session)

    async def in_session(self, work: Callable[[str], Awaitable[T]]) -> T:
        """Do something that makes something. Where the agent has forgotten the session, it is done in a new one."""
        session = await self.session()
        try:
            return await work(session)
        except _errors.AgentError as error:
            if error.reason not in _errors.SESSIONS:
                raise
        self.forget(session)
        return await work(await self.session())

    def forget(self, session: str) -> None:
        """Do not use a session any more that the agent does not know."""
        if self._session == session:
            self._session = None
            self._info = None

    def close_later(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Close something in the background; `close` waits for it."""
        task = asyncio.ensure_future(work)
        self.closing.add(task)
        task.add_done_callback(self._closed)
        return task

    def _closed(self, task: asyncio.Task[Any]) -> None:
        self.closing.discard(task)
        if not task.cancelled():
            # What could not be closed ends with the session.
            task.exception()

    async def close(self, patience: float) -> None:
        """Wait for what is being closed, end the session and hang up."""
        self.closed = True
        if self.closing:
            await asyncio.wait(self.closing, timeout=patience)
        session, self._session = self._session, None
        try:
            if session is not None:
                request = v1.DeleteSessionRequest(session_id=session, allow_missing=True)
                await self.call(self.sessions.DeleteSession, request)
        except _errors.AgentLostError:
            pass
        finally:
            for channel in self._channels:
                await channel.close(None)


def duration(seconds: float) -> Duration:
    """Make a protobuf Duration."""
    nanoseconds = round(seconds * 1e9)
    return Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def operation(timeout: float | None) -> v1.Call:
    """Make a Call that waits for so many seconds; None: without end, or nearly. It has a name, so that it can be cancelled."""
    return v1.Call(request_id=secrets.token_hex(8), timeout=duration(LONG if timeout is None else min(timeout, LONG)))


def raise_report(report: v1.Report) -> None:
    """Raise what the kernel has answered, or TimeoutError."""
    if report.HasField("error"):
        raise _errors.of_socket(report.error)
    if report.timed_out:
        raise TimeoutError("timed out")
