"""Addresses as the socket module has them, to the text that the agent takes."""

from __future__ import annotations

import errno
import socket
from typing import Any

from farsock import _errors, v1

FAMILIES = {socket.AF_INET: v1.FAMILY_IPV4, socket.AF_INET6: v1.FAMILY_IPV6}


def to_text(family: int, address: Any, call: str) -> str:
    """Write (host, port), or (host, port, flowinfo, scope_id), as one text. An empty host is the wildcard address, as Python has it."""
    if not isinstance(address, tuple):
        raise TypeError(f"{call}(): AF_INET address must be tuple, not {type(address).__name__}")
    most = 4 if family == socket.AF_INET6 else 2
    if not 2 <= len(address) <= most:
        raise TypeError(f"{call}(): AF_INET{'6' if most == 4 else ''} address must be a pair (host, port{', …' * (most == 4)})")
    host, port = address[:2]
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii")
    if not isinstance(host, str) or not isinstance(port, int):
        raise TypeError(f"{call}(): a host is str and a port int, not {type(host).__name__} and {type(port).__name__}")
    if not 0 <= port <= 65535:
        raise OverflowError(f"{call}(): port must be 0-65535.")
    if family == socket.AF_INET6:
        host = host or "::"
        if len(address) == 4 and address[3] and "%" not in host:
            host = f"{host}%{address[3]}"
    elif not host:
        host = "0.0.0.0"
    elif host == "<broadcast>":
        host = "255.255.255.255"
    return join(host, port)


def join(host: str, port: int | str) -> str:
    """Write a host and a port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def of_family(family: int) -> v1.Family.ValueType:
    """Answer the agent's word for a family. Raises EAFNOSUPPORT for one that it does not have."""
    try:
        return FAMILIES[socket.AddressFamily(family)]
    except (KeyError, ValueError):
        raise _errors.of_number(errno.EAFNOSUPPORT) from None
