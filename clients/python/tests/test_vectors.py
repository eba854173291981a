"""The shared vectors of clients/vectors/transfer, against this client's state machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farsock._transfer import FrameError, Transfer

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "transfer").glob("*.json"))


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 10


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector(path: Path) -> None:
    vector: dict[str, Any] = json.loads(path.read_text())
    if "client" not in vector["at"]:
        pytest.skip("it is for agents")
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
