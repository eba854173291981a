"""Where an agent is reached, and what is shown at its door."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

PORT = 7625
"""The port of agents, where none is named."""


@dataclass(frozen=True)
class Endpoint:
    """Where an agent is reached: `lab-a`, `lab-a:7625`, `[::1]:7625`, `7625`, `unix:/path`."""

    host: str
    """The host; of a Unix socket, its path."""
    port: int
    """The port; of a Unix socket, 0."""

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read an endpoint as people write it. Raises ValueError."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path:
                raise ValueError("unix: needs a path")
            return cls(os.path.abspath(path), 0)
        if text.isdecimal():
            host, port = "127.0.0.1", text
        elif text.startswith("["):
            host, _, rest = text[1:].partition("]")
            if rest and not rest.startswith(":"):
                raise ValueError(f"{text!r} is no endpoint: [ADDRESS]:PORT is meant")
            port = rest[1:]
        elif text.count(":") > 1:
            host, port = text, ""
        else:
            host, _, port = text.partition(":")
        if port and not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"{port!r} is no port number in {text!r}: ports go from 1 to 65535")
        if not host and not port:
            raise ValueError("an endpoint is needed: HOST:PORT or unix:PATH")
        return cls(host or "127.0.0.1", int(port or PORT))

    @property
    def is_unix(self) -> bool:
        """It is a Unix socket."""
        return self.port == 0

    @property
    def target(self) -> str:
        """The endpoint as gRPC takes it."""
        if self.is_unix:
            return f"unix:{self.host}"
        return f"dns:///{self._authority}"

    @property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.target if self.is_unix else self._authority


def find_token(endpoint: Endpoint, file: str | os.PathLike[str] | None) -> str | None:
    """Read the token in `file`, or else the one that an agent of this user on this host has written by itself.

    None: there is none, and a Unix socket needs none. Raises OSError when `file` cannot be read, or others can read it, too.
    """
    if file is not None:
        return read_private(Path(file)).decode().strip()
    own = _runtime_dir() / f"{endpoint.port}.token"
    if endpoint.is_unix or not os.access(own, os.R_OK):
        return None
    return read_private(own).decode().strip()


def read_private(path: Path) -> bytes:
    """Read a secret. Raises OSError, also when others can read it."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise PermissionError(f"{path} can be read by others: make it private (chmod 600 {path})")
        return file.read()


def _runtime_dir() -> Path:
    """Where agents of this user keep their tokens: the same rule as that of `farsock agent`."""
    user = os.getuid()
    if own := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(own) / "farsock"
    if Path(f"/run/user/{user}").is_dir():
        return Path(f"/run/user/{user}/farsock")
    if user == 0:
        return Path("/run/farsock")
    return Path(tempfile.gettempdir()) / f"farsock-{user}"
