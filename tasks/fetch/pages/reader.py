"""``python -m tasks.fetch.pages.reader MEMORY CPU`` looks for the recording of one page, and can do no more.

It talks in lines of JSON, and asks whoever started it for every request:

    reader → worker   {"ready": true}, once nothing is left to it but these two pipes
                      {"ask": {"method", "url", "headers", "body"}}
                      {"url", "title", "ext"} of the recording, or {"failure", "reason"}, and ends
    worker → reader   {"url"} of the page
                      {"url", "status", "headers", "body"}, or {"error"}
"""

from __future__ import annotations

import base64
import encodings
import importlib
import io
import json
import os
import pkgutil
import sys
from typing import IO, Any

from yt_dlp import YoutubeDL
from yt_dlp.networking import Request, RequestDirector, RequestHandler, Response
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import ExtractorError, UnsupportedError

from speech.audio.isolated import sandbox

PLAIN = "[protocol~='^https?$']"
"""One file, no manifest of pieces."""

OPTIONS = {
    "format": f"bestaudio{PLAIN}/best{PLAIN}",
    "ignore_no_formats_error": True,
    "check_formats": False,
    "noplaylist": True,
    "playlist_items": "0",
    "extractor_retries": 0,
    "geo_bypass": False,
    "cachedir": False,
    "js_runtimes": {},
    "color": "never",
    "simulate": True,
    "quiet": True,
}


class Silent:
    """What yt-dlp has to say is a stranger's text."""

    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...
    def stdout(self, message: str) -> None: ...


class Worker:
    """The other end of the pipes."""

    def __init__(self, receive: IO[bytes], send: IO[bytes]) -> None:
        self._receive, self._send = receive, send

    def tell(self, **message: Any) -> None:
        self._send.write(json.dumps(message).encode() + b"\n")
        self._send.flush()

    def hear(self) -> Any:
        line = self._receive.readline()
        if not line:
            raise EOFError("the worker is gone")
        return json.loads(line)


class WorkerRH(RequestHandler):
    """yt-dlp's only way to the web."""

    _SUPPORTED_URL_SCHEMES = ("http", "https")
    _SUPPORTED_PROXY_SCHEMES = ()

    def __init__(self, worker: Worker, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._worker = worker

    def _check_extensions(self, extensions: dict[str, Any]) -> None:
        super()._check_extensions(extensions)
        for name in ("cookiejar", "timeout", "legacy_ssl", "keep_header_casing"):
            extensions.pop(name, None)

    def _send(self, request: Request) -> Response:
        data = request.data
        if data is not None and not isinstance(data, bytes):
            data = b"".join(data)
        self._worker.tell(
            ask={
                "method": request.method,
                "url": request.url,
                "headers": self._get_headers(request),
                "body": None if data is None else base64.b64encode(data).decode(),
            }
        )
        answer = self._worker.hear()
        if "error" in answer:
            raise TransportError(answer["error"])
        body = io.BytesIO(base64.b64decode(answer["body"]))
        response = Response(body, url=answer["url"], headers=answer["headers"], status=answer["status"])
        if not 200 <= response.status < 300:
            raise HTTPError(response)
        return response


def prepare(worker: Worker) -> YoutubeDL:
    """All that is to be imported is, and the one handler is in its place."""
    for module in pkgutil.iter_modules(encodings.__path__, "encodings."):
        if module.name not in ("encodings.mbcs", "encodings.oem"):  # of Windows
            importlib.import_module(module.name)
    importlib.import_module("_strptime")
    finder = YoutubeDL(OPTIONS | {"logger": Silent()}, auto_init="no_verbose_header")
    director = RequestDirector(logger=Silent())
    director.add_handler(WorkerRH(worker, logger=Silent(), headers=finder.params["http_headers"]))
    # in place of what it would make of all handlers that are installed
    finder._request_director = director
    return finder


def look(finder: YoutubeDL, url: str) -> dict[str, Any]:
    try:
        info = finder.extract_info(url, download=False)
    except EOFError:
        raise
    except Exception as error:  # noqa: BLE001  (a strange page may lead yt-dlp anywhere)
        cause = error.__context__ if isinstance(error.__context__, ExtractorError) else error
        if isinstance(cause, UnsupportedError):
            return {"failure": "url_no_media"}
        reason = cause.orig_msg if isinstance(cause, ExtractorError) and cause.expected else None
        return {"failure": "url_page_unsupported", "reason": reason}
    if info is None:
        return {"failure": "url_no_media"}
    if info.get("_type", "video") != "video":
        return {"failure": "url_is_playlist"}
    if info.get("url") and info.get("protocol") in ("http", "https"):
        return {"url": info["url"], "title": info.get("title"), "ext": info.get("ext")}
    return {"failure": "streamed" if info.get("formats") else "url_no_media"}


def main(memory_bytes: int, cpu_seconds: int) -> None:
    # nothing that prints can get in between
    worker = Worker(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    finder = prepare(worker)
    # from here on it would be a stranger's text in the worker's log
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sandbox.enter(memory_bytes=memory_bytes, cpu_seconds=cpu_seconds)
    worker.tell(ready=True)
    worker.tell(**look(finder, worker.hear()["url"]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
