"""The shared vectors of clients/vectors/transfer, against this client's state machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farsock._transfer import FrameError, Transfer

FILES = sorted((Path(__file__).parents[2] / "vectors" / "transfer").glob("*.json"))
ALL = {path.stem: json.loads(path.read_text()) for path in FILES}
# The others are for agents.
VECTORS = {name: vector for name, vector in ALL.items() if "client" in vector["at"]}


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 10


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_vector(vector: dict[str, Any]) -> None:
    transfer = Transfer()
    for frame in vector["frames"]:
        mistake, taken = None, True
        try:
            if frame["from"] == "client":
                transfer.send(frame["frame"], frame.get("size", 0))
            else:
                taken = transfer.receive(frame["frame"], frame.get("size", 0))
        except FrameError as error:
            mistake = error.mistake.name
        assert mistake == frame.get("mistake"), frame
        assert taken is not frame.get("dropped", False), frame
    assert {name: getattr(transfer, name) for name in vector["end"]} == vector["end"]
