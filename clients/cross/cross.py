"""The Python end of the exercise that all clients play with each other; clients/cross/run starts it.

A server prints the addresses of a listener and of a UDP socket, serves one connection and one datagram, and ends. A client talks to both.
"""

import hashlib
import socket
import sys

import farsock


def text(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parts(address):
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def everything(line):
    with line.makefile("rb") as stream:
        return stream.read()


def server(far, address):
    with (
        far.create_server((address, 0), family=family(address)) as door,
        far.socket(family(address), socket.SOCK_DGRAM) as mail,
    ):
        mail.bind((address, 0))
        print(text(door.getsockname()), text(mail.getsockname()), flush=True)
        line, _ = door.accept()
        with line:
            line.sendall(hashlib.sha256(everything(line)).hexdigest().encode())
        message, sender = mail.recvfrom(100)
        mail.sendto(message, sender)


def client(far, tcp, udp):
    data = bytes((at * 31 + at // 251) & 255 for at in range(1 << 20))
    with far.create_connection(parts(tcp)) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        assert everything(line).decode() == hashlib.sha256(data).hexdigest()
    to = parts(udp)
    with far.socket(family(to[0]), socket.SOCK_DGRAM) as ask:
        ask.sendto(b"hola", to)
        assert ask.recv(100) == b"hola"


def main(role, agent, *addresses):
    with farsock.host(agent) as far:
        {"server": server, "client": client}[role](far, *addresses)


main(*sys.argv[1:])
