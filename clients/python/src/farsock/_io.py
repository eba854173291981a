"""The event loop that all gRPC of this process runs on, in a thread of its own.

A program may block, or have an event loop of its own, several, or none: calls, keepalives and leases go on meanwhile. Sync and async code
share one set of connections.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Of the kind that a finalizer may take again in the middle of it.
_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
_tasks: set[asyncio.Task[Any]] = set()
# What is still open when the interpreter ends.
_at_exit: list[Callable[[], None]] = []


def loop() -> asyncio.AbstractEventLoop:
    """Answer the loop, started when it is first needed."""
    global _loop  # noqa: PLW0603
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_run, args=(_loop,), name="farsock-io", daemon=True)
            thread.start()
            atexit.register(_stop, _loop, thread)
        return _loop


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the loop, from any other thread."""
    return asyncio.run_coroutine_threadsafe(work, loop())


class _Handover(Generic[T]):
    """Runs a coroutine on the loop for somebody elsewhere. What it has made when nobody waits for it any more is discarded."""

    def __init__(self, work: Coroutine[Any, Any, T], discard: Callable[[T], object] | None) -> None:
        self._work = work
        self._discard = discard
        self._made: list[T] = []
        self._abandoned = False
        self.future = submit(self._carry())

    async def _carry(self) -> T:
        made = await self._work
        if self._discard is not None:
            self._made.append(made)
            if self._abandoned:
                self._clear()
        return made

    def abandon(self) -> None:
        self.future.cancel()
        soon(self._clear)

    def _clear(self) -> None:
        self._abandoned = True
        while self._made and self._discard is not None:
            self._discard(self._made.pop())


def run(work: Coroutine[Any, Any, T], discard: Callable[[T], object] | None = None) -> T:
    """Run a coroutine on the loop and wait for it. It is cancelled when the wait is over, by Ctrl-C for instance."""
    handover = _Handover(work, discard)
    try:
        return handover.future.result()
    except BaseException:
        handover.abandon()
        raise


async def wait(work: Coroutine[Any, Any, T], discard: Callable[[T], object] | None = None) -> T:
    """Run a coroutine on the loop and await it on the caller's. Cancelling one cancels the other."""
    handover = _Handover(work, discard)
    try:
        return await asyncio.wrap_future(handover.future)
    except BaseException:
        handover.abandon()
        raise


def spawn(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task, from the loop itself, and keep it until it is done."""
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


def soon(callback: Callable[..., object], *args: object) -> None:
    """Call something on the loop, from any thread. Nothing happens once the interpreter is ending."""
    with contextlib.suppress(RuntimeError):
        loop().call_soon_threadsafe(callback, *args)


def at_exit(callback: Callable[[], None]) -> Callable[[], None]:
    """Call something before the loop stops with the interpreter; the answer takes that back."""
    _at_exit.append(callback)

    def take_back() -> None:
        with contextlib.suppress(ValueError):
            _at_exit.remove(callback)

    return take_back


def _run(own: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(own)
    own.run_forever()
    own.run_until_complete(_cancel_tasks())
    own.close()


async def _cancel_tasks() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _stop(own: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    for callback in _at_exit:
        with contextlib.suppress(Exception):
            callback()
    own.call_soon_threadsafe(own.stop)
    thread.join(5)
