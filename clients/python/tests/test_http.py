"""HTTP libraries over far sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import shutil
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from conftest import loopback, skipped

import farsock
import farsock.httpx

BODY = b"0123456789" * 50_000


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(BODY)

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class FarServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Python's own HTTP server on a far listener."""

    daemon_threads = True

    def __init__(self, listener: farsock.Socket) -> None:
        socketserver.BaseServer.__init__(self, listener.getsockname(), Handler)
        self.socket = cast("Any", listener)
        self.server_name, self.server_port = listener.getsockname()[:2]


@contextlib.contextmanager
def serving(host: farsock.Host, family: int) -> Iterator[tuple[str, int]]:
    with host.create_server((loopback(family), 0), family=family) as listener:
        server = FarServer(listener)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            server.shutdown()
            thread.join()


def test_http_client_and_http_server(a: farsock.Host, b: farsock.Host, family: int) -> None:
    with serving(a, family) as address:
        client = http.client.HTTPConnection(*address)
        client.sock = cast("Any", b.create_connection(address))
        for _ in range(3):
            client.request("GET", "/")
            assert client.getresponse().read() == BODY
        client.request("POST", "/", b"x" * 300_000)
        assert client.getresponse().read() == b"x" * 300_000
        client.close()


def url(address: tuple[str, int], scheme: str = "http") -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{scheme}://{host}:{address[1]}/"


def test_httpx(a: farsock.Host, b: farsock.Host, family: int) -> None:
    with serving(a, family) as address, httpx.Client(transport=farsock.httpx.Transport(b)) as client:
        for _ in range(3):
            assert client.get(url(address)).content == BODY
        assert client.post(url(address), content=BODY).content == BODY
        with client.stream("GET", url(address)) as answer:
            assert answer.status_code == 200
            assert b"".join(answer.iter_bytes()) == BODY
        with pytest.raises(httpx.ConnectError, match="Connection refused"):
            client.get(url((address[0], 1)))


def test_httpx_with_asyncio(a: farsock.Host, b: farsock.Host, family: int) -> None:
    async def main(address: tuple[str, int]) -> None:
        async with httpx.AsyncClient(transport=farsock.httpx.AsyncTransport(b)) as client:
            answers = await asyncio.gather(*(client.get(url(address)) for _ in range(8)))
            assert all(answer.content == BODY for answer in answers)
            assert (await client.post(url(address), content=BODY)).content == BODY
            with pytest.raises(httpx.ConnectError):
                await client.get(url((address[0], 1)))

    with serving(a, family) as address:
        asyncio.run(main(address))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        skipped("openssl makes the certificate")
    directory = tmp_path_factory.mktemp("tls")
    key, cert = directory / "key.pem", directory / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,IP:::1"]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


def test_tls(a: farsock.Host, b: farsock.Host, family: int, certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    serve = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serve.load_cert_chain(cert, key)
    trust = ssl.create_default_context(cafile=str(cert))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 500000\r\n\r\n" + BODY)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def main() -> None:
        async with await a.start_server(answer, loopback(family), 0, ssl=serve) as server:
            address = server.sockets[0].getsockname()[:2]
            transport = farsock.httpx.AsyncTransport(b, ssl_context=trust)
            async with httpx.AsyncClient(transport=transport) as client:
                assert (await client.get(url(address, "https"))).content == BODY
            _, writer = await b.open_connection(*address, ssl=trust)
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            writer.close()
            await writer.wait_closed()

            def blocking() -> bytes:
                with httpx.Client(transport=farsock.httpx.Transport(b, ssl_context=trust)) as client:
                    return client.get(url(address, "https")).content

            assert await asyncio.to_thread(blocking) == BODY
            with pytest.raises(httpx.ConnectError, match="certificate"):
                async with httpx.AsyncClient(transport=farsock.httpx.AsyncTransport(b)) as client:
                    await client.get(url(address, "https"))

    asyncio.run(main())
