"""Agents that live as long as a test: each on a Unix socket in a directory of its own."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterable

from farsock._host import Host

START = 10.0
"""How many seconds an agent may take to start, and to stop."""


class EmbeddedAgent:
    """An agent of this process: `binary`, or what FARSOCK_BIN names, or `farsock` in PATH. Stopping it closes all of its sockets."""

    def __init__(
        self, name: str = "lab", *, lab_addresses: Iterable[str] = (), arguments: Iterable[str] = (), binary: str | None = None
    ) -> None:
        self.name = name
        self._binary = binary or os.environ.get("FARSOCK_BIN") or shutil.which("farsock")
        if self._binary is None:
            raise FileNotFoundError("there is no agent to start: let FARSOCK_BIN name the farsock binary, or put it into PATH")
        self._directory = tempfile.mkdtemp(prefix="farsock-")
        self._arguments = [*(f"--lab-address={address}" for address in lab_addresses), *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self.log = os.path.join(self._directory, "log")
        self.endpoints: list[str] = []
        self.token_file: str | None = None
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint(self) -> str:
        """Where the agent is reached, again after a restart."""
        return f"unix:{self._directory}/agent.sock"

    def host(self) -> Host:
        """Make a Host that works on this agent, in a session of its own."""
        return Host(self.endpoint, name=self.name)

    def start(self) -> None:
        """Start the agent, or start it again after `kill`."""
        reads, writes = os.pipe()
        with open(self.log, "ab") as log, open(reads, "rb") as ready:
            try:
                assert self._binary is not None
                command = [self._binary, "agent", "--listen", self.endpoint, "--ready-fd", str(writes), *self._arguments]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writes])
            finally:
                os.close(writes)
            line = ready.readline() if select.select([ready], [], [], START)[0] else b""
        if not line:
            with open(self.log, errors="replace") as log_file:
                raise RuntimeError(f"the agent has not started: {log_file.read().strip() or 'it says nothing'}")
        told = json.loads(line)
        self.endpoints = told["endpoints"]
        self.token_file = told.get("token_file")

    def kill(self) -> None:
        """End the agent at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the agent and remove what it has left."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(START)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> EmbeddedAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
