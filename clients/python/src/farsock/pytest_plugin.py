"""The `lab` fixture, and the timeline of a test that has failed.

    def test_greeting(lab):
        with lab["server"].create_server(("", 0)) as door, lab["client"].create_connection(…) as line:
            …

With `--lab-inventory FILE`, or FARSOCK_INVENTORY, the hosts are those of the inventory. Without, a name that is asked for is an agent
of its own on this machine, each with a loopback address: 127.0.0.2, 127.0.0.3, …
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from farsock._host import Host
from farsock._inventory import VARIABLE
from farsock._lab import Lab
from farsock._timeline import timeline
from farsock.testing import EmbeddedAgent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --lab-inventory."""
    group = parser.getgroup("farsock")
    group.addoption("--lab-inventory", metavar="FILE", help="the hosts of the `lab` fixture; without it, agents on this machine")


class _EmbeddedLab(Lab):
    """Starts an agent for each name that is asked for, and keeps it for the tests after this one."""

    def __init__(self, agents: dict[str, EmbeddedAgent]) -> None:
        super().__init__({})
        self._agents = agents

    def __getitem__(self, name: str) -> Host:
        if name not in self._hosts:
            if name not in self._agents:
                addresses = [f"127.0.0.{len(self._agents) + 2}", "::1"]
                self._agents[name] = EmbeddedAgent(name, lab_addresses=addresses)
            self._hosts[name] = self._agents[name].host()
        return self._hosts[name]


@pytest.fixture(scope="session")
def farsock_agents() -> Iterator[dict[str, EmbeddedAgent]]:
    """The agents that run on this machine for the whole session, by name."""
    agents: dict[str, EmbeddedAgent] = {}
    yield agents
    for agent in agents.values():
        agent.stop()


@pytest.fixture
def lab(request: pytest.FixtureRequest, farsock_agents: dict[str, EmbeddedAgent]) -> Iterator[Lab]:
    """The hosts of the lab, each in a session of its own for this test."""
    inventory = request.config.getoption("--lab-inventory") or os.environ.get(VARIABLE)
    with Lab(inventory) if inventory else _EmbeddedLab(farsock_agents) as made:
        yield made


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show what happened on the hosts, when a test has failed."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    made = getattr(item, "funcargs", {}).get("lab")
    if report.failed and call.when == "call" and isinstance(made, Lab):
        told = timeline(host for host in made._hosts.values() if host._made is not None)
        report.sections.append(("farsock timeline", told or "nothing happened"))
