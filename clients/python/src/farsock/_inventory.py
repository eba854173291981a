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

_FILES = ("token_file", "tls_cert", "tls_key", "tls_ca")
_OTHERS = ("program", "labels", "groups", "addresses")
"""What `farsock run` reads, and nobody here."""
_FIELDS = ("agent", *_FILES, "token_env", *_OTHERS)


@dataclass(frozen=True)
class Entry:
    """A host of the inventory."""

    endpoint: str
    token_env: str | None
    files: dict[str, Path | None]
    """`token_file`, `tls_cert`, `tls_key`, `tls_ca`."""

    def arguments(self) -> dict[str, Any]:
        """Answer what a Host takes. Raises ValueError where the variable with the token is not there."""
        token = None
        if self.token_env is not None and (token := os.environ.get(self.token_env)) is None:
            raise ValueError(f"there is no variable {self.token_env} in the environment, which `token_env` says has the token")
        return {"endpoint": self.endpoint, "token": token, **self.files}


def load(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """Read an inventory, which `farsock run --inventory` takes, too.

        hosts:
          lab-a: lab-a.example:7625
          lab-b: {agent: "unix:/run/lab-b.sock"}
          lab-c: {agent: "127.0.0.1:7626", token_file: lab-c.token}
          lab-d: {agent: "lab-d:7625", tls_cert: pki/alice.pem}
          lab-e.example:

    Relative paths of files start from the inventory's directory. An agent that is only reached by ssh is left out: `farsock run` goes
    there. Raises OSError, and ValueError that names the file and the host.
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
            entry = _entry(str(name), value, path.parent)
        except ValueError as problem:
            raise ValueError(f"{path}: host {name}: {problem}") from None
        if not entry.endpoint.startswith("ssh://"):
            entries[str(name)] = entry
    return entries


def _entry(name: str, value: Any, directory: Path) -> Entry:
    if value is None:
        value = {}
    if isinstance(value, (str, int)):
        value = {"agent": value}
    if not isinstance(value, dict):
        raise ValueError("an endpoint is needed, HOST:PORT or unix:PATH, or a map with `agent:`")
    if unknown := set(value) - set(_FIELDS):
        raise ValueError(f"unknown field {sorted(map(str, unknown))[0]!r}: there are {', '.join(f'`{field}`' for field in _FIELDS)}")
    # A host whose agent is not named is where its own name says.
    endpoint = str(value.get("agent") or name)
    if not endpoint.startswith("ssh://"):
        endpoint = str(Endpoint.parse(endpoint))
    files = {field: None if value.get(field) is None else directory / str(value[field]) for field in _FILES}
    variable = value.get("token_env")
    return Entry(endpoint, None if variable is None else str(variable), files)
