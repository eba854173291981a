"""The programs of a first lecture on sockets in Python: client and server, TCP and UDP. Each takes the socket module as an argument: where
that comes from is the one line that changes. They run on this machine's own sockets and on far ones."""

from __future__ import annotations

import socket as own_socket
import threading
from typing import Any

import pytest

import farsock

SERVICES = {"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "http": 80, "pop3": 110, "https": 443}


def tcp_server(socket: Any, told: dict[str, Any], listening: threading.Event) -> None:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", 0))
    s.listen(5)
    told["port"] = s.getsockname()[1]
    listening.set()
    connection, address = s.accept()
    told["client"] = address
    while True:
        data = connection.recv(1024)
        if not data:
            break
        connection.send(b"hola, " + data)
    connection.close()
    s.close()


def tcp_client(socket: Any, told: dict[str, Any]) -> None:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.connect(("localhost", told["port"]))
    s.send("niño".encode())
    told["answer"] = s.recv(1024).decode()
    told["name"] = s.getsockname()
    s.close()


def udp_server(socket: Any, told: dict[str, Any], listening: threading.Event) -> None:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", 0))
    told["port"] = s.getsockname()[1]
    listening.set()
    data, address = s.recvfrom(1024)
    told["got"] = data
    s.sendto(b"recibido", address)
    s.close()


def udp_client(socket: Any, told: dict[str, Any]) -> None:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"sin conexion", (socket.gethostbyname("localhost"), told["port"]))
    told["answer"], address = s.recvfrom(1024)
    assert address[1] == told["port"]
    s.close()


@pytest.fixture(params=["own", "far"])
def modules(request: pytest.FixtureRequest, a: farsock.Host, b: farsock.Host) -> tuple[Any, Any]:
    return (own_socket, own_socket) if request.param == "own" else (a, b)


def test_tcp(modules: tuple[Any, Any]) -> None:
    told: dict[str, Any] = {}
    listening = threading.Event()
    server = threading.Thread(target=tcp_server, args=(modules[0], told, listening))
    server.start()
    assert listening.wait(10)
    tcp_client(modules[1], told)
    server.join()
    assert told["answer"] == "hola, niño"
    assert told["client"] == told["name"]


def test_udp(modules: tuple[Any, Any]) -> None:
    told: dict[str, Any] = {}
    listening = threading.Event()
    server = threading.Thread(target=udp_server, args=(modules[0], told, listening))
    server.start()
    assert listening.wait(10)
    udp_client(modules[1], told)
    server.join()
    assert (told["got"], told["answer"]) == (b"sin conexion", b"recibido")


def test_names_addresses_and_ports(modules: tuple[Any, Any]) -> None:
    socket = modules[0]
    assert socket.gethostname()
    assert socket.gethostbyname("localhost") == "127.0.0.1"
    assert {name: socket.getservbyname(name) for name in SERVICES} == SERVICES
