"""What the two ends of a TransferSocket stream may send, and when.

One `Transfer` is what this end knows: it is told each frame that is sent and each that arrives, in the order in which that happens here. It
holds no bytes, only their number, and does nothing by itself. The rules stand in proto/farsock/v1/transfer.proto; the vectors in
clients/vectors/transfer are replayed by the tests.
"""

from __future__ import annotations

import enum

DATA_SIZE = 256 * 1024
"""The most bytes of one `data` frame."""

CREDIT = 2**53 - 1
"""The most bytes that one end grants the other in all."""


class Mistake(enum.Enum):
    """Why a frame must not be sent, by the names of the vectors."""

    WRONG_SIDE = "only the other end sends this frame"
    NOT_OPEN = "the first frame must open the stream"
    OPEN_TWICE = "the stream is open already"
    NO_DATA = "at least one byte is needed"
    DATA_TOO_LARGE = "a frame has at most 262144 bytes"
    NO_CREDIT = "more bytes than were granted"
    AFTER_END = "`end` was sent before"
    NO_WINDOW = "at least one byte must be granted"
    WINDOW_TOO_LARGE = "at most 2^53 - 1 bytes are granted in all"
    AFTER_ABORT = "`abort` was sent before"
    AFTER_ERROR = "`error` has come, and no `data` is taken after it"
    AFTER_CLOSED = "`closed` has come, and nothing comes after it"


class FrameError(Exception):
    """A frame that must not be sent. Nothing has changed by it."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.value)
        self.mistake = mistake


class _Direction:
    __slots__ = ("ended", "granted", "sent")

    def __init__(self) -> None:
        self.granted = 0
        self.sent = 0
        self.ended = False

    def grant(self, size: int) -> None:
        if size == 0:
            raise FrameError(Mistake.NO_WINDOW)
        if self.granted + size > CREDIT:
            raise FrameError(Mistake.WINDOW_TOO_LARGE)
        self.granted += size

    def data(self, size: int) -> None:
        if size == 0:
            raise FrameError(Mistake.NO_DATA)
        if size > DATA_SIZE:
            raise FrameError(Mistake.DATA_TOO_LARGE)
        if self.ended:
            raise FrameError(Mistake.AFTER_END)
        if size > self.granted - self.sent:
            raise FrameError(Mistake.NO_CREDIT)
        self.sent += size

    def end(self) -> None:
        if self.ended:
            raise FrameError(Mistake.AFTER_END)
        self.ended = True


class Transfer:
    """A stream as its client knows it."""

    __slots__ = ("_asked", "_open", "_to_agent", "_to_client", "aborted", "closed", "failed")

    def __init__(self) -> None:
        self._asked = False
        self._open = False
        self._to_agent = _Direction()
        self._to_client = _Direction()
        self.aborted = False
        self.failed = False
        self.closed = False

    @property
    def to_agent(self) -> int:
        """How many bytes may be sent to the agent now."""
        if self.closed or self.aborted or self.failed or self._to_agent.ended:
            return 0
        return self._to_agent.granted - self._to_agent.sent

    @property
    def to_client(self) -> int:
        """How many bytes the agent may still send."""
        if self.closed or self.aborted or self._to_client.ended:
            return 0
        return self._to_client.granted - self._to_client.sent

    @property
    def client_ended(self) -> bool:
        """This end has sent its `end`."""
        return self._to_agent.ended

    @property
    def agent_ended(self) -> bool:
        """The agent's `end` has come."""
        return self._to_client.ended

    def send(self, frame: str, size: int = 0) -> None:
        """Tell of a frame that is to be sent now."""
        if frame in {"opened", "error", "closed"}:
            raise FrameError(Mistake.WRONG_SIDE)
        if self.aborted:
            raise FrameError(Mistake.AFTER_ABORT)
        if self.closed:
            raise FrameError(Mistake.AFTER_CLOSED)
        if frame == "open":
            if self._asked:
                raise FrameError(Mistake.OPEN_TWICE)
            self._asked = True
            return
        if not self._asked:
            raise FrameError(Mistake.NOT_OPEN)
        if frame == "data":
            if self.failed:
                raise FrameError(Mistake.AFTER_ERROR)
            self._to_agent.data(size)
        elif frame == "window":
            self._to_client.grant(size)
        elif frame == "end":
            self._to_agent.end()
        else:
            self.aborted = True

    def receive(self, frame: str, size: int = 0) -> bool:
        """Tell of a frame that has arrived. False: it has crossed an `abort` and is to be dropped."""
        if frame in {"open", "abort"}:
            raise FrameError(Mistake.WRONG_SIDE)
        if self.closed:
            raise FrameError(Mistake.AFTER_CLOSED)
        if frame == "opened":
            if self._open:
                raise FrameError(Mistake.OPEN_TWICE)
            if not self._asked:
                raise FrameError(Mistake.NOT_OPEN)
            if size > 0:
                self._to_agent.grant(size)
            self._open = True
            return True
        if not self._open:
            raise FrameError(Mistake.NOT_OPEN)
        if frame == "data":
            self._to_client.data(size)
            return not self.aborted
        if frame == "window":
            self._to_agent.grant(size)
        elif frame == "end":
            self._to_client.end()
        elif frame == "error":
            self.failed = True
        else:
            self.closed = True
        return True
