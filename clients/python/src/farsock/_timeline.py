"""What happened on several hosts, as text."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from farsock import _io, v1

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import FieldDescriptor

    from farsock._connection import Connection
    from farsock._host import Host

TEXT = 60
"""How many bytes of a payload are shown."""


async def clock_ahead(connection: Connection) -> int:
    """How many nanoseconds the agent's clock is ahead of this machine's; of three readings that of the quickest counts. RFC 5905."""
    best, ahead = None, 0
    for _ in range(3):
        sent = time.time_ns()
        answer = await connection.call(connection.agent.GetClock, v1.GetClockRequest())
        came = time.time_ns()
        if best is None or came - sent < best:
            best = came - sent
            ahead = (answer.receive_time.ToNanoseconds() + answer.transmit_time.ToNanoseconds() - sent - came) // 2
    return ahead


async def events(connection: Connection) -> tuple[list[v1.Event], list[v1.EventGap]]:
    """Read what is kept of a session."""
    found: list[v1.Event] = []
    gaps: list[v1.EventGap] = []
    request = v1.ListEventsRequest(session_id=await connection.session())
    request.view.max_bytes = TEXT
    while True:
        answer = await connection.call(connection.events.ListEvents, request)
        found += answer.events
        gaps += answer.gaps
        if not answer.next_page_token:
            return found, gaps
        request.page_token = answer.next_page_token


def timeline(hosts: Iterable[Host]) -> str:
    """Write what happened in the sessions of these hosts, in the order of one clock, a line an event."""
    rows: list[tuple[int, str, str]] = []
    notes: list[str] = []
    for host in hosts:
        connection = host._connection()
        try:
            ahead = _io.run(clock_ahead(connection))
            found, gaps = _io.run(events(connection))
        except OSError as error:
            notes.append(f"{host.name}: {error.strerror}")
            continue
        rows += [(event.time.ToNanoseconds() - ahead, host.name, line(event)) for event in found]
        notes += [f"{host.name}: events {gap.first_seq} to {gap.last_seq} are not kept any more" for gap in gaps]
    rows.sort()
    start = rows[0][0] if rows else 0
    width = max((len(name) for _, name, _ in rows), default=0)
    return "\n".join([*(f"{(at - start) / 1e9:9.4f}  {name:{width}}  {text}" for at, name, text in rows), *notes])


def line(event: v1.Event) -> str:
    """Write one event: the socket, what happened, and what is worth knowing of it."""
    told: list[str] = []
    if event.HasField("body") and (body := getattr(event, event.WhichOneof("body") or "", None)) is not None:
        told = [text for field, value in body.ListFields() if (text := _detail(field, value))]
    return " ".join([f"{event.socket_id or 'session':8}", event.kind, *told])


def _detail(field: FieldDescriptor, value: Any) -> str:
    name = field.name
    if name.endswith("_uid"):
        return ""
    if isinstance(value, v1.Endpoint):
        return f"{name}={value.text}"
    if isinstance(value, v1.SocketError):
        return f"{name}={value.message}"
    if isinstance(value, v1.Payload):
        return f"hex:{value.hex}" if value.HasField("hex") else repr(value.text)
    if isinstance(value, Duration):
        return f"{name}={value.ToNanoseconds() / 1e9}s"
    if isinstance(value, Message):
        inner = (_detail(field, inner) for field, inner in value.ListFields())
        return f"{name}=({' '.join(filter(None, inner))})"
    if field.enum_type is not None:
        # SHUTDOWN_HOW_SEND of ShutdownHow is SEND.
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", field.enum_type.name).upper() + "_"
        return f"{name}={field.enum_type.values_by_number[value].name.removeprefix(prefix)}"
    if isinstance(value, str):
        return f"{name}={value}"
    return f"{name}={str(value).lower() if isinstance(value, bool) else value}"
