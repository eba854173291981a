"""The pytest plugin, by tests that it runs."""

from __future__ import annotations

import pytest

from farsock.testing import EmbeddedAgent

pytest_plugins = ["pytester"]

GREETING = """
def test_greeting(lab):
    server, client = lab["server"], lab["client"]
    assert server is lab["server"]
    where = server.lab_addresses[0]
    with server.create_server((where, 0)) as door, client.create_connection(door.getsockname()) as line:
        guest, _ = door.accept()
        line.sendall(b"hola")
        assert guest.recv(100) == b"hola"
        guest.close()
        assert line.getsockname()[0] == client.lab_addresses[0] != where

def test_each_test_has_sessions_of_its_own(lab):
    with lab["server"].events(after=0) as watch:
        try:
            watch.next(0.05)
        except TimeoutError:
            pass
        else:
            raise AssertionError("there was an event")
"""


def test_embedded_agents(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GREETING)
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_an_inventory(pytester: pytest.Pytester) -> None:
    with EmbeddedAgent(lab_addresses=["127.0.0.2"]) as one, EmbeddedAgent(lab_addresses=["127.0.0.3"]) as other:
        inventory = pytester.makefile(".yaml", lab=f"hosts: {{server: '{one.endpoint}', client: '{other.endpoint}'}}")
        pytester.makepyfile(GREETING)
        pytester.runpytest_subprocess("--lab-inventory", str(inventory)).assert_outcomes(passed=2)


def test_a_failure_shows_what_happened(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_wrong(lab):
            lab["client"].create_connection(("127.0.0.1", 1))

        def test_unreached(lab):
            assert lab is None
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*ConnectionRefusedError: [[]Errno 111[]] Connection refused",
            "*- farsock timeline -*",
            "*0.0000  client  s1 * created *",
            "*client  s1 * connect_failed remote=127.0.0.1:1 error=connect 127.0.0.1:1: connection refused (ECONNREFUSED)*",
            "*- farsock timeline -*",
            "nothing happened",
        ]
    )
