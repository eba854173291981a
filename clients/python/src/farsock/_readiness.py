"""A descriptor of this process that is readable and writable when a far socket is."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


class Readiness:
    """One end of a socket pair: readable while a byte lies in it, not writable while its buffer is full.

    Nobody reads or writes it but this class. `select`, `selectors` and event loops see of it what they would see of the far socket.
    """

    def __init__(self) -> None:
        self._shown, self._other = socket.socketpair()
        self._shown.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        for end in (self._shown, self._other):
            end.setblocking(False)
        self._lock = threading.Lock()
        self._readable = False
        self._writable = True
        self._closed = False

    def fileno(self) -> int:
        """Answer the descriptor."""
        return self._shown.fileno()

    def update(self, look: Callable[[], tuple[bool, bool]]) -> None:
        """Make the descriptor what `look` says, readable and writable. Threads look one after the other, so that the last one is right."""
        with self._lock, contextlib.suppress(OSError):
            if self._closed:
                return
            readable, writable = look()
            if readable != self._readable:
                self._readable = readable
                if readable:
                    self._other.send(b"!")
                else:
                    self._shown.recv(1)
            if writable != self._writable:
                self._writable = writable
                if writable:
                    self._drain()
                else:
                    self._fill()

    def _fill(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._shown.send(b"!" * 4096):
                pass

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._other.recv(1 << 16):
                pass

    def close(self) -> None:
        """Give the descriptor back."""
        with self._lock:
            self._closed = True
            self._shown.close()
            self._other.close()
