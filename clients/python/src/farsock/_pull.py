"""What is fetched from the far kernel one by one, when somebody wants it: connections of a listener, datagrams."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from farsock import _io

T = TypeVar("T")


class Pull(Generic[T]):
    """Fetches one at a time, and keeps one that nobody has waited for any more. What is not fetched stays in the far kernel.

    Methods may be called from any thread. `changed` is notified, and `listener` called on the loop of `_io`, when there is something.
    """

    def __init__(self, fetch: Callable[[float | None], Awaitable[T]], discard: Callable[[T], object]) -> None:
        self.changed = threading.Condition()
        self.listener: Callable[[], None] | None = None
        self._fetch = fetch
        self._discard = discard
        self._fetching = False
        self._closed = False
        self._kept: list[T] = []
        self._error: OSError | None = None

    @property
    def ready(self) -> bool:
        """There is something, or an error."""
        return bool(self._kept) or self._error is not None

    def want(self) -> None:
        """Fetch one, if there is none yet."""
        if self._begin():
            _io.soon(self._start)

    def probe(self) -> None:
        """Look whether there is one at this moment, unless that is known; then go on as `want`. Waits for the agent's answer."""
        if self._begin():
            _io.run(self._run(0.0))
            self.want()

    def _begin(self) -> bool:
        with self.changed:
            if self._kept or self._fetching or self._closed or self._error is not None:
                return False
            self._fetching = True
            return True

    def take(self, peek: bool = False) -> T | None:
        """Take what was fetched. Raises what went wrong, once."""
        with self.changed:
            if self._kept:
                return self._kept[0] if peek else self._kept.pop()
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def pop_error(self) -> OSError | None:
        """Answer the pending error, and forget it."""
        with self.changed:
            error, self._error = self._error, None
            return error

    def close(self) -> None:
        """Fetch nothing more, and discard what was fetched. What is under way ends with the far socket."""
        with self.changed:
            self._closed = True
            kept, self._kept = self._kept, []
        for item in kept:
            _io.soon(self._discard, item)

    def _start(self) -> None:
        _io.spawn(self._run(None))

    async def _run(self, timeout: float | None) -> None:
        got: list[T] = []
        failed: OSError | None = None
        try:
            got.append(await self._fetch(timeout))
        except TimeoutError:
            pass
        except OSError as error:
            failed = error
        finally:
            with self.changed:
                self._fetching = False
                closed = self._closed
                if not closed:
                    self._kept += got
                    self._error = failed
                self.changed.notify_all()
            if closed:
                for item in got:
                    self._discard(item)
            elif self.listener is not None:
                self.listener()
