"""A web server that redirects, breaks off, trickles and lies."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class WebServer:
    """Each path is answered by a function, which is given the handler; what was asked for is kept."""

    url: str = ""
    routes: dict[str, Callable[[Handler], None]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """What was posted."""

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def do_GET(self) -> None:
        self.web.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        # the other side may have had enough
        with contextlib.suppress(OSError):
            self.web.routes[self.path.partition("?")[0]](self)

    def do_POST(self) -> None:
        self.web.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Length": str(len(body))} | named).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def serving(tls: ssl.SSLContext | None = None) -> contextlib.AbstractContextManager[WebServer]:
    return _serving(tls)


@contextlib.contextmanager
def _serving(tls: ssl.SSLContext | None) -> Iterator[WebServer]:
    web = WebServer()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"web": web}))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    web.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


def whole(body: bytes) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(200, body)


def redirect(location: str, status: int = 302) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, Location=location)


def breaking(body: bytes, after: int, etag: str | None = '"v1"', honest: bool = True) -> Callable[[Handler], None]:
    """Ranges of the body, of which each answer stops ``after`` so many bytes; not ``honest``: the whole again."""

    def answer(handler: Handler) -> None:
        span = handler.headers.get("Range")
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and honest else 0
        rest = body[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(rest)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        handler.wfile.write(rest[:after])

    return answer


def trickling(pause: float, *, head: bool = False) -> Callable[[Handler], None]:
    """A byte at a time, for ever: of the body, or already of the head."""

    def answer(handler: Handler) -> None:
        if head:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        else:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
        while True:
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(pause)

    return answer
