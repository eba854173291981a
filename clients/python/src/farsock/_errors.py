"""Errors as Python has them: OSError and its subclasses, with errno and strerror."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

if TYPE_CHECKING:
    from farsock import v1


class AgentError(OSError):
    """The agent has refused a call, by a rule of its own and not by the kernel's.

    `errno` is the nearest there is. `strerror` is the agent's own line, which says what would be right.
    """

    code: grpc.StatusCode
    """The status of the call."""
    reason: str
    """The reason by name, such as QUOTA_EXCEEDED; the service's comments in farsock.v1 list them. Empty: none was told."""

    def __init__(self, number: int, message: str, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(number, message)
        self.code = code
        self.reason = reason


class AgentLostError(AgentError, ConnectionAbortedError):
    """The agent cannot be reached, or the connection to it broke: what became of the call is not known."""


# The nearest errno for a refusal by its reason, then by its status.
_REASONS = {
    "SOCKET_NOT_FOUND": errno.EBADF,
    "SOCKET_CLOSED": errno.EBADF,
    "SOCKET_REPLACED": errno.EBADF,
    "WRONG_TRANSPORT": errno.EOPNOTSUPP,
    "TIMED_OUT": errno.ETIMEDOUT,
}
_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: errno.EINVAL,
    grpc.StatusCode.OUT_OF_RANGE: errno.EINVAL,
    grpc.StatusCode.FAILED_PRECONDITION: errno.EINVAL,
    grpc.StatusCode.NOT_FOUND: errno.ENOENT,
    grpc.StatusCode.ALREADY_EXISTS: errno.EEXIST,
    grpc.StatusCode.PERMISSION_DENIED: errno.EACCES,
    grpc.StatusCode.UNAUTHENTICATED: errno.EACCES,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errno.ENOBUFS,
    grpc.StatusCode.UNIMPLEMENTED: errno.ENOSYS,
    grpc.StatusCode.CANCELLED: errno.ECANCELED,
}
SESSIONS = {"SESSION_NOT_FOUND", "LEASE_EXPIRED"}
"""Reasons of refusals that mean: the session is over, and everything in it."""
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def of_status(error: grpc.RpcError, host: str) -> AgentError:
    """Make an exception of what a call ended with."""
    code = error.code()
    details = error.details() or code.name
    if code in _LOST:
        return AgentLostError(errno.ECONNABORTED, f"agent {host}: {details}", code, "")
    reason = _reason(error)
    if reason in SESSIONS:
        return AgentLostError(errno.ECONNABORTED, f"agent {host}: {details}", code, reason)
    number = _REASONS.get(reason) or _CODES.get(code, errno.EIO)
    return AgentError(number, f"agent {host}: {details}", code, reason)


def lost(host: str, message: str) -> AgentLostError:
    """Make the exception of an agent that does not answer."""
    return AgentLostError(errno.ECONNABORTED, f"agent {host}: {message}", grpc.StatusCode.UNAVAILABLE, "")


def check_capabilities(agent: v1.Agent, host: str) -> None:
    """Make sure that an agent can do what this package relies on. An old one would leave it out of a request without a word."""
    for name, purpose in _NEEDED.items():
        if name not in agent.capabilities:
            message = f"agent {host}: it is farsock {agent.version}, which lacks `{name}` ({purpose}): install a newer one there"
            raise AgentError(errno.ENOSYS, message, grpc.StatusCode.UNIMPLEMENTED, "")


_NEEDED = {
    "leases": "sessions that end with their program",
    "lossless": "logs that keep what has not been taken",
    "transfer": "connections as byte streams",
}


def of_socket(error: v1.SocketError) -> OSError:
    """Make an exception of what the kernel or the resolver has answered.

    `errno` is the number that this machine has for the name. The agent's own line, with addresses and a hint, is a note.
    """
    made: OSError
    if error.name.startswith("EAI_"):
        number = getattr(socket, error.name, None) or socket.EAI_FAIL
        made = socket.gaierror(number, _GAI.get(error.name, error.message))
    else:
        number = getattr(errno, error.name, error.number)
        made = OSError(number, os.strerror(number))
    note = f"{error.message}: {error.hint}" if error.hint else error.message
    if hasattr(made, "add_note"):
        made.add_note(note)
    return made


def of_number(number: int) -> OSError:
    """Make the exception of an errno."""
    return OSError(number, os.strerror(number))


# What getaddrinfo(3) of glibc says, and so Python.
_GAI = {
    "EAI_NONAME": "Name or service not known",
    "EAI_AGAIN": "Temporary failure in name resolution",
    "EAI_SERVICE": "Servname not supported for ai_socktype",
    "EAI_FAIL": "Non-recoverable failure in name resolution",
    "EAI_NODATA": "No address associated with hostname",
    "EAI_ADDRFAMILY": "Address family for hostname not supported",
    "EAI_FAMILY": "ai_family not supported",
}


def _reason(error: grpc.RpcError) -> str:
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return ""
