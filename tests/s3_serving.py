"""Servers that speak S3 for the tests, and a gateway before one that counts, fails and lies."""

from __future__ import annotations

import http.client
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

SERVER = Path(__file__).parent / "s3_server.py"
SIGNED = "AWS4-HMAC-SHA256 Credential=right/20260101/us-east-1/s3/aws4_request, SignedHeaders=host"


class S3Server:
    """The server, which has one bucket `files`."""

    def __init__(self, process: subprocess.Popen[str], endpoint: str) -> None:
        self.process = process
        self.endpoint = endpoint

    def stop(self) -> None:
        """End it; what comes then finds nobody."""
        self.process.kill()
        self.process.wait(20)


@contextmanager
def serving(*arguments: str) -> Generator[S3Server]:
    """A server, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        server = S3Server(process, f"http://127.0.0.1:{int(process.stdout.readline())}")
        made = urllib.request.Request(
            f"{server.endpoint}/files",
            method="PUT",
            headers={"Authorization": f"{SIGNED}, Signature=0"},
        )
        urllib.request.urlopen(made, timeout=20).close()
        yield server
    finally:
        process.kill()
        process.wait(20)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


Fault = Literal["500", "501", "503", "lost answer", "lost request", "slow", "unconditional"]


class Request(NamedTuple):
    """What the gateway was asked."""

    method: str
    key: str
    query: str
    is_conditional: bool


class Gateway:
    """Stands before a server: counts requests, and does to some of them what networks do.

    `fault` is asked of each request what is to happen to it; nothing, if it gives None.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.requests: list[Request] = []
        self.fault: Callable[[Request], Fault | None] = lambda _: None
        self.seconds = 0.5
        """How long a slow answer takes."""
        self._lock = threading.Lock()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()
        self.start()

    @property
    def endpoint(self) -> str:
        """Where it listens, before and after it was killed."""
        return f"http://127.0.0.1:{self._port}"

    def counted(self) -> Counter[str]:
        """How often each method was used since the last call, a list told apart from a read."""
        with self._lock:
            asked, self.requests = self.requests, []
        return Counter("LIST" if "list-type" in one.query else one.method for one in asked)

    def start(self) -> None:
        """Listen, again on the port of before."""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with gateway._lock:
                    gateway._open.add(self.connection)

            def finish(self) -> None:
                with gateway._lock:
                    gateway._open.discard(self.connection)
                with suppress(OSError):
                    super().finish()

            def handle(self) -> None:
                with suppress(OSError, ValueError):
                    super().handle()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

            def pass_on(self) -> None:
                gateway.serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def kill(self) -> None:
        """Be gone: connections end with a reset, and new ones are refused."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            left, self._open = self._open, set()
        for connection in left:
            reset(connection)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        request = Request(
            handler.command,
            unquote(path.path).partition("/files/")[2],
            path.query,
            "If-None-Match" in handler.headers,
        )
        with self._lock:
            self.requests.append(request)
            fault = self.fault(request)
        if fault in ("500", "501", "503"):
            answer(handler, int(fault), {}, b"<Error><Code>Fault</Code></Error>")
            return
        if fault == "lost request":
            reset(handler.connection)
            return
        if fault == "slow":
            time.sleep(self.seconds)
        headers = {
            name: value
            for name, value in handler.headers.items()
            if not (fault == "unconditional" and name.lower() == "if-none-match")
        }
        upstream = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            upstream.request(handler.command, handler.path, body, headers)
            response = upstream.getresponse()
            given, content = dict(response.getheaders()), response.read()
        finally:
            upstream.close()
        if fault == "lost answer":
            reset(handler.connection)
            return
        answer(handler, response.status, given, content)


def answer(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes
) -> None:
    """Send an answer whose body is whole."""
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() not in ("content-length", "transfer-encoding", "connection"):
            handler.send_header(name, value)
    length = headers.get("Content-Length") if handler.command == "HEAD" else None
    handler.send_header("Content-Length", length or str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def reset(connection: socket.socket) -> None:
    """End a connection as a server does that dies."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        connection.close()
