"""Ways to an agent, what it refuses, and how it goes away and comes back."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import farsock
from farsock import v1
from farsock._endpoint import Endpoint
from farsock.testing import EmbeddedAgent


@pytest.fixture
def agent() -> Iterator[EmbeddedAgent]:
    """An agent that nobody else uses, by TCP with a token, too."""
    with EmbeddedAgent("own", arguments=["--listen", "127.0.0.1:0"]) as made:
        yield made


def greet(host: farsock.Host) -> None:
    with host.create_server(("127.0.0.1", 0)) as server, host.create_connection(server.getsockname()) as line:
        line.sendall(b"hola")
        with server.accept()[0] as guest:
            assert guest.recv(100) == b"hola"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lab-a", "lab-a:7625"),
        ("lab-a:7000", "lab-a:7000"),
        ("7626", "127.0.0.1:7626"),
        (":7626", "127.0.0.1:7626"),
        ("::1", "[::1]:7625"),
        ("[::1]:7000", "[::1]:7000"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
    ],
)
def test_endpoints(text: str, meant: str) -> None:
    assert str(Endpoint.parse(text)) == meant


@pytest.mark.parametrize("text", ["", "unix:", "lab-a:http", "lab-a:0", "lab-a:70000", "[::1]7625", ":"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError):
        Endpoint.parse(text)


def tcp_endpoint(agent: EmbeddedAgent) -> str:
    return next(endpoint for endpoint in agent.endpoints if not endpoint.startswith("unix:"))


def test_tcp_with_a_token(agent: EmbeddedAgent) -> None:
    endpoint = tcp_endpoint(agent)
    # The file in which an agent of this user leaves its token is found by itself.
    with farsock.Host(endpoint) as host:
        greet(host)
    assert agent.token_file is not None
    with farsock.Host(endpoint, token_file=agent.token_file) as host:
        greet(host)
    with farsock.Host(endpoint, token="wrong") as host, pytest.raises(farsock.AgentError) as failure:
        greet(host)
    assert failure.value.code == grpc.StatusCode.UNAUTHENTICATED
    assert failure.value.errno == errno.EACCES
    with pytest.raises(FileNotFoundError):
        farsock.Host(endpoint, token_file="/nonexistent")
    Path(agent.token_file).chmod(0o640)
    for named in (agent.token_file, None):
        with pytest.raises(PermissionError, match=r"\.token can be read by others: make it private \(chmod 600 "):
            farsock.Host(endpoint, token_file=named)
    Path(agent.token_file).chmod(0o600)


def pki(directory: Path, *words: str) -> None:
    """Make certificates as people do."""
    binary = os.environ.get("FARSOCK_BIN") or "farsock"
    subprocess.run([binary, "pki", "--dir", os.fspath(directory), *words], check=True, capture_output=True, timeout=30)


def test_tcp_with_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, other = tmp_path / "lab", tmp_path / "other"
    for directory in (lab, other):
        pki(directory, "init")
        pki(directory, "issue", "--controller", "alice")
    pki(lab, "issue", "localhost", "127.0.0.1")
    alice = lab / "alice.pem"
    arguments = ["--listen", "127.0.0.1:0", f"--tls-cert={lab}/localhost.pem"]
    with EmbeddedAgent("own", arguments=arguments) as agent:
        endpoint = tcp_endpoint(agent)
        with farsock.Host(endpoint, tls_cert=alice) as host, host.channel() as channel:
            greet(host)
            assert v1.AgentServiceStub(channel).GetAgent(v1.GetAgentRequest()).agent.version
        inventory = tmp_path / "lab.yaml"
        inventory.write_text(f'hosts:\n  lab-a: {{agent: "{endpoint}", tls_cert: lab/alice.pem}}\n')
        with farsock.Lab(inventory) as hosts:
            greet(hosts["lab-a"])
        # Either side may be of another lab.
        for ca in (other / "ca.pem", lab / "ca.pem"):
            with farsock.Host(endpoint, tls_cert=other / "alice.pem", tls_ca=ca) as host, pytest.raises(farsock.AgentLostError):
                greet(host)
        with farsock.Host(endpoint) as host, pytest.raises(farsock.AgentLostError):
            greet(host)
        monkeypatch.setenv("FARSOCK_TLS_CERT", os.fspath(alice))
        with farsock.Host(endpoint) as host:
            greet(host)
        alice.with_suffix(".key").chmod(0o644)
        with farsock.Host(endpoint) as host, pytest.raises(PermissionError, match=r"alice\.key can be read by others"):
            greet(host)


def test_an_inventory(agent: EmbeddedAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert agent.token_file is not None
    shutil.copy(agent.token_file, tmp_path / "own.token")
    inventory = tmp_path / "lab.yaml"
    inventory.write_text(f"""hosts:
  by-path: "{agent.endpoint}"
  by-port: {{agent: "{tcp_endpoint(agent)}", token_file: own.token}}
  by-variable: {{agent: "{tcp_endpoint(agent)}", token_env: OWN_TOKEN, labels: {{site: madrid}}, groups: [web]}}
  by-ssh: {{agent: "ssh://lab-e", program: /opt/farsock, addresses: {{front: 192.0.2.1}}}}
""")
    with pytest.raises(ValueError, match="there is no variable OWN_TOKEN"):
        farsock.Lab(inventory)
    monkeypatch.setenv("OWN_TOKEN", Path(agent.token_file).read_text().strip())
    with farsock.Lab(inventory) as lab:
        assert list(lab) == ["by-path", "by-port", "by-variable"]
        for host in lab.values():
            greet(host)
    monkeypatch.setenv("FARSOCK_INVENTORY", str(inventory))
    with farsock.host("by-port") as host:
        assert host.name == "by-port"
        greet(host)
    with farsock.host(agent.endpoint) as host:
        greet(host)
    with pytest.raises(LookupError, match=r"no host 'by-prot' in .*lab.yaml: it has by-path, by-port, by-variable"):
        farsock.host("by-prot")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hosts: [a]", "an inventory has"),
        ("hots: {}", "an inventory has"),
        ("hosts:\n  a: {agnet: b}", "host a: unknown field 'agnet'"),
        ("hosts:\n  a: [b]", "host a: an endpoint is needed"),
        ("hosts:\n  a: {agent: b, token: c}", "host a: unknown field 'token'"),
        ('hosts:\n  a: "b:http"', "host a: 'http' is no port number"),
        ("hosts: {", "lab.yaml: while parsing"),
    ],
)
def test_a_wrong_inventory_is_explained(tmp_path: Path, text: str, complaint: str) -> None:
    inventory = tmp_path / "lab.yaml"
    inventory.write_text(text)
    with pytest.raises(ValueError) as failure:
        farsock.Lab(inventory)
    assert complaint in str(failure.value)
    assert "lab.yaml" in str(failure.value)


def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    with farsock.Host(f"unix:{tmp_path}/nobody.sock") as host, pytest.raises(farsock.AgentLostError) as failure:
        host.socket()
    assert isinstance(failure.value, ConnectionAbortedError)
    assert failure.value.errno == errno.ECONNABORTED
    assert "nobody.sock" in str(failure.value)


def test_refusals_say_what_would_be_right(a: farsock.Host) -> None:
    with pytest.raises(farsock.AgentError) as failure:
        a.create_connection(("10.0.0.256", 80))
    assert (failure.value.errno, failure.value.reason) == (errno.EINVAL, "INVALID_FIELD")
    assert "tcp.connect" in str(failure.value)


def test_an_agent_that_is_too_old(a: farsock.Host) -> None:
    """What it would leave out of a request is not asked of it."""
    old = v1.Agent(version="0.0.9", capabilities=["tcp", "ipv4", "leases", "lossless"])
    with farsock.Host(str(a.endpoint)) as host:
        host._connection()._info = old
        with pytest.raises(farsock.AgentError, match=r"it is farsock 0\.0\.9, which lacks `transfer`") as refused:
            host.create_connection(("127.0.0.1", 9))
        assert refused.value.errno == errno.ENOSYS


def test_raw_stubs(a: farsock.Host, agent: EmbeddedAgent) -> None:
    with a.channel() as channel:
        answer = v1.AgentServiceStub(channel).GetAgent(v1.GetAgentRequest())
        assert answer.agent.instance_id == a.agent.instance_id
        sockets = v1.SocketServiceStub(channel)
        with a.create_server(("127.0.0.1", 0)) as server:
            request = v1.GetSocketRequest(session_id=a.session_id, socket_id=server.socket_id)
            assert sockets.GetSocket(request).socket.state == v1.SOCKET_STATE_LISTENING
    with farsock.Host(tcp_endpoint(agent)) as host, host.channel() as channel:
        assert v1.AgentServiceStub(channel).GetAgent(v1.GetAgentRequest()).agent.version


def test_sessions_are_apart_and_end(agent: EmbeddedAgent) -> None:
    with agent.host() as one, agent.host() as other:
        server = one.create_server(("127.0.0.1", 0))
        with other.channel() as channel:
            sessions = v1.SessionServiceStub(channel)
            assert one.session_id != other.session_id
            one.close()
            left = [session.session_id for session in sessions.ListSessions(v1.ListSessionsRequest()).sessions]
            assert left == ["default", other.session_id]
        with other.socket() as again:
            again.bind((server._far.local.address, server._far.local.port))
        server.close()
    with pytest.raises(ValueError, match="closed"):
        one.socket()


def test_a_restart_breaks_sockets_and_not_hosts(agent: EmbeddedAgent) -> None:
    with agent.host() as host:
        server = host.create_server(("127.0.0.1", 0))
        line = host.create_connection(server.getsockname())
        with host.events(after=0) as watch:
            assert isinstance(watch.next(10), v1.Event)
            agent.kill()
            with pytest.raises(ConnectionAbortedError):
                line.recv(1)
            with pytest.raises(ConnectionAbortedError):
                line.send(b"x")
            with pytest.raises(ConnectionAbortedError):
                server.accept()
            agent.start()
            deadline = time.monotonic() + 20
            while True:
                try:
                    greet(host)
                except farsock.AgentLostError:
                    assert time.monotonic() < deadline
                else:
                    break
            while not isinstance(item := watch.next(20), farsock.Restarted):
                pass
            assert item.instance_id == host.agent.instance_id
            first = watch.next(10)
            assert isinstance(first, v1.Event)
            assert first.event_seq == 1
        for left in (server, line):
            left.close()


def test_whatever_ends_a_session_is_no_end_of_a_stream(agent: EmbeddedAgent) -> None:
    """What a program has read so far must not look complete."""

    def reset(host: farsock.Host) -> None:
        with host.channel() as channel:
            v1.SessionServiceStub(channel).ResetSession(v1.ResetSessionRequest(session_id=host.session_id))

    with agent.host() as host:
        for end in (reset, lambda _: agent.stop()):
            server = host.create_server(("127.0.0.1", 0))
            line = host.create_connection(server.getsockname())
            guest, _ = server.accept()
            guest.sendall(b"half of it")
            assert line.recv(5) == b"half "
            end(host)
            assert line.recv(100) == b"of it"
            for _ in range(2):
                with pytest.raises(ConnectionAbortedError):
                    line.recv(100)
                with pytest.raises(ConnectionAbortedError):
                    line.send(b"x")
            for left in (line, guest, server):
                left.close()


def test_a_connection_to_the_agent_that_breaks_is_made_again(agent: EmbeddedAgent) -> None:
    """The watch goes on with the next number, whatever happens to the connection."""
    with agent.host() as host, host.events(after=0) as watch:
        greet(host)
        seen = 0
        for _ in range(3):
            item = watch.next(10)
            assert isinstance(item, v1.Event)
            seen = item.event_seq
        assert watch._call is not None
        watch._call.cancel()
        watch._items.clear()
        watch._after = seen
        item = watch.next(10)
        assert isinstance(item, v1.Event)
        assert item.event_seq == seen + 1


def test_gaps_are_told(tmp_path: Path) -> None:
    with EmbeddedAgent(arguments=["--limit", "log_events=10"]) as agent, agent.host() as host:
        for _ in range(30):
            host.socket().close()
        with host.events(after=0) as watch:
            gap = watch.next(10)
            assert isinstance(gap, farsock.Gap)
            assert gap.first_seq == 1
            event = watch.next(10)
            while isinstance(event, farsock.Gap):
                event = watch.next(10)
            assert isinstance(event, v1.Event)


def test_a_watch_with_a_name_has_no_gaps() -> None:
    """It is slower than the log is long, and cut off in between."""
    with EmbeddedAgent(arguments=["--limit", "log_events=40"]) as agent, agent.host() as host:
        with host.events(name="collector") as watch:
            seen = []
            for at in range(100):
                host.socket().close()
                if at % 10 == 0:
                    assert watch._call is not None or at == 0
                    watch._cancel()
                for _ in range(2):
                    item = watch.next(10)
                    assert isinstance(item, v1.Event)
                    seen.append(item.event_seq)
            assert seen == list(range(1, 201))
        # Nobody takes any more: then the agent refuses rather than let go.
        with pytest.raises(farsock.AgentError) as failure:
            for _ in range(100):
                host.socket().close()
        assert (failure.value.reason, failure.value.errno) == ("LOG_FULL", errno.ENOBUFS)


def test_a_watch_from_now(a: farsock.Host) -> None:
    a.socket().close()
    with a.events(from_now=True, kinds=["created"]) as watch:
        with pytest.raises(TimeoutError):
            watch.next(0.05)
        with a.socket() as made:
            event = watch.next(10)
            assert isinstance(event, v1.Event)
            assert event.socket_id == made.socket_id
        assert watch.through_seq is not None
    with pytest.raises(ValueError):
        watch.next(10)


def test_a_program_that_ends_leaves_nothing(agent: EmbeddedAgent) -> None:
    program = f"""
import farsock
host = farsock.host({agent.endpoint!r})
server = host.create_server(("127.0.0.1", 0))
line = host.create_connection(server.getsockname())
line.sendall(b"x")
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    with agent.host() as host, host.channel() as channel:
        sessions = v1.SessionServiceStub(channel).ListSessions(v1.ListSessionsRequest()).sessions
        assert [session.session_id for session in sessions] == ["default"]


def test_leases(agent: EmbeddedAgent) -> None:
    """The session of a program that is killed ends with its lease; that of one that only waits does not."""
    program = f"""
import os, signal, farsock
host = farsock.Host({agent.endpoint!r}, lease_ttl=5)
print(host.session_id, host.create_server(("127.0.0.1", 0)).getsockname()[1], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with farsock.Host(agent.endpoint, lease_ttl=5) as host, host.create_server(("127.0.0.1", 0)) as server, host.channel() as channel:
        mine = host.session_id
        done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=30)
        session, port = done.stdout.split()
        ended = v1.WaitEventRequest(session_id=session, filter=v1.EventFilter(kinds=["lease_expired"]))
        ended.timeout.FromSeconds(30)
        assert not v1.EventServiceStub(channel).WaitEvent(ended).timed_out
        with host.socket() as again:
            again.bind(("127.0.0.1", int(port)))
        assert host.session_id == mine
        with host.create_connection(server.getsockname()):
            server.accept()[0].close()


def test_an_agent_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="lab-address"):
        EmbeddedAgent(lab_addresses=["nonsense"])
    with pytest.raises(FileNotFoundError):
        EmbeddedAgent(binary=os.fspath(tmp_path / "nothing"))
