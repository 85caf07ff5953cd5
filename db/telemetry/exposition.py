"""``/metrics``: the text that Prometheus reads, and a port of its own for processes that serve no HTTP."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from prometheus_client import REGISTRY, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from db.exposure import check_metrics, is_loopback
from db.settings import Settings

logger = logging.getLogger(__name__)

PATH = "/metrics"
READ_SECONDS = 10.0
"""That a client has to send its request."""


class Together(Collector):
    """The metrics of the process, and what only some processes have beside them."""

    def __init__(self, *others: Collector) -> None:
        self._others = others

    def collect(self) -> Iterable[Metric]:
        yield from REGISTRY.collect()
        for other in self._others:
            yield from other.collect()


def render(collector: Collector, accept: str) -> tuple[bytes, str]:
    """All metrics, and their content type: OpenMetrics, which has exemplars, where it is accepted."""
    encode, content_type = choose_encoder(accept)
    return encode(collector), content_type


def is_token(settings: Settings, authorization: str | None) -> bool:
    """Whether a header carries ``LONGHAND_METRICS_TOKEN``. False where that is unset."""
    scheme, _, given = (authorization or "").partition(" ")
    wanted = settings.metrics_token
    return (
        wanted is not None
        and scheme.lower() == "bearer"
        and hmac.compare_digest(given.strip().encode(), wanted.encode())
    )


def serve_metrics(settings: Settings, *others: Collector) -> ThreadingHTTPServer | None:
    """Serve ``/metrics`` from a thread, at the address of the settings; not at all where they name no port.

    Raises Exposed where others could reach it without a token, and OSError where the port is taken.
    """
    if settings.metrics_port is None:
        return None
    check_metrics(settings)
    collector = Together(*others)

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_SECONDS

        def do_GET(self) -> None:
            if urlsplit(self.path).path != PATH:
                self.send_error(404)
            elif settings.metrics_token is None and not is_loopback(self._host()):
                # a page that has its name resolve to this machine
                self.send_error(421)
            elif settings.metrics_token is not None and not is_token(settings, self.headers["Authorization"]):
                self.send_error(401)
            else:
                body, content_type = render(collector, self.headers["Accept"] or "")
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def _host(self) -> str:
            try:
                return urlsplit(f"//{self.headers['Host']}").hostname or ""
            except ValueError:
                return ""

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: it is asked every few seconds."""

    server = _Server((settings.metrics_host, settings.metrics_port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    logger.info("metrics at %s:%d%s", settings.metrics_host, server.server_port, PATH)
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
