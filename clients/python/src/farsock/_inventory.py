"""The inventory: which agents there are, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from farsock._endpoint import Endpoint

VARIABLE = "FARSOCK_INVENTORY"
"""The environment variable that names the inventory, where no argument does."""


@dataclass(frozen=True)
class Entry:
    """A host of the inventory."""

    endpoint: Endpoint
    token_file: Path | None
    tls_cert: Path | None


def load(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """Read an inventory.

        hosts:
          lab-a: lab-a.example:7625
          lab-b: {agent: "unix:/run/lab-b.sock"}
          lab-c: {agent: "127.0.0.1:7626", token_file: lab-c.token}
          lab-d: {agent: "lab-d:7625", tls_cert: pki/alice.pem}

    Relative paths of files start from the inventory's directory. Raises OSError, and ValueError that names the file and the host.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or set(document) != {"hosts"} or not isinstance(document["hosts"], dict):
        raise ValueError(f"{path}: an inventory has `hosts:`, a name and an endpoint on each line, and nothing else")
    entries = {}
    for name, value in document["hosts"].items():
        try:
            entries[str(name)] = _entry(value, path.parent)
        except ValueError as problem:
            raise ValueError(f"{path}: host {name}: {problem}") from None
    return entries


def _entry(value: Any, directory: Path) -> Entry:
    if isinstance(value, (str, int)):
        value = {"agent": value}
    if not isinstance(value, dict) or "agent" not in value:
        raise ValueError("`agent:` is needed, HOST:PORT or unix:PATH")
    if unknown := set(value) - {"agent", "token_file", "tls_cert"}:
        raise ValueError(f"unknown field {sorted(map(str, unknown))[0]!r}: there are `agent`, `token_file` and `tls_cert`")
    token, certificate = (None if (file := value.get(field)) is None else directory / str(file) for field in ("token_file", "tls_cert"))
    return Entry(Endpoint.parse(str(value["agent"])), token, certificate)
