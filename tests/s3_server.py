"""A server that speaks S3, in a process of its own: it prints its port, and ends with its input.

With `deny` as its argument it refuses every request that another key than `right` has signed.
moto stores, and replaces what others read, without a lock, so requests are let in one by one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (  # pyright: ignore[reportMissingTypeStubs]
    DomainDispatcherApplication,
    create_backend_app,
)
from werkzeug.serving import WSGIRequestHandler, make_server

DENIED = (
    b'<?xml version="1.0"?><Error><Code>InvalidAccessKeyId</Code>'
    b"<Message>no such key</Message></Error>"
)


class Quiet(WSGIRequestHandler):
    """Says nothing of each request."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


def main() -> None:
    """Serve until standard input is closed."""
    app: Any = DomainDispatcherApplication(create_backend_app)
    lock, denies = threading.Lock(), "deny" in sys.argv

    def serve(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if denies and "Credential=right/" not in environ.get("HTTP_AUTHORIZATION", ""):
            start_response("403 Forbidden", [("Content-Length", str(len(DENIED)))])
            return [DENIED]
        with lock:
            return list(app(environ, start_response))

    server = make_server("127.0.0.1", 0, serve, threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)

    def end_with_input() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_input, daemon=True).start()
    server.serve_forever()


main()
