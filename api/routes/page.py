"""``/``: the page, which is built from ``web/`` into ``api/page/``."""

from __future__ import annotations

import gzip
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Response

from api.dependencies import ServicesDep
from api.problems import Problem

router = APIRouter(include_in_schema=False)

BUILT = Path(__file__).parents[1] / "page"

PATHS = (
    *("/", "/jobs/{job_id}", "/search", "/shared", "/voices", "/vocabulary", "/training", "/usage", "/keys"),
    "/queues",
)
"""What the page's own router knows (web/src/routes.ts): each is answered with the page."""

A_YEAR = "public, max-age=31536000, immutable"
"""Of files that bear a hash of their content in their names."""


@dataclass(frozen=True)
class File:
    """A built file. ``packed`` is the same in gzip."""

    content: bytes
    packed: bytes
    media_type: str


@cache
def _files() -> dict[str, File]:
    """The built files by their paths below ``/``. They are read once, and number about thirty."""
    found = {path.relative_to(BUILT).as_posix(): path for path in BUILT.rglob("*") if path.is_file()}
    return {
        name: File(
            content := path.read_bytes(),
            gzip.compress(content, mtime=0),
            mimetypes.guess_type(name)[0] or "application/octet-stream",
        )
        for name, path in found.items()
    }


def _policy(storage: str, live: str) -> str:
    """Nothing but this server's own files, recordings from where storage keeps them, and live sessions."""
    connect = " ".join(filter(None, ("'self'", storage, live)))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        f"connect-src {connect}; media-src 'self' blob: {storage}; font-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def show_page(services: ServicesDep, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """The same document for each of its paths: what is shown there is decided in the browser."""
    headers = {
        "Content-Security-Policy": _policy(services.storage.public_origin, services.settings.live_url or ""),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
        "Cache-Control": "no-cache",
    }
    return _answer("index.html", accept_encoding, headers)


for path in PATHS:
    router.add_api_route(path, show_page, methods=["GET", "HEAD"])


@router.api_route("/favicon.svg", methods=["GET", "HEAD"])
def show_icon(accept_encoding: Annotated[str, Header()] = "") -> Response:
    return _answer("favicon.svg", accept_encoding, {"Cache-Control": "max-age=86400"})


@router.api_route("/assets/{name}", methods=["GET", "HEAD"])
def show_asset(name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    return _answer(f"assets/{name}", accept_encoding, {"Cache-Control": A_YEAR})


def _answer(name: str, accept_encoding: str, headers: dict[str, str]) -> Response:
    """Raises Problem."""
    file = _files().get(name)
    if file is None:
        raise Problem(404, "not_found", "Not found", f"The page has no file {name!r}.")
    headers |= {"Vary": "Accept-Encoding", "Cross-Origin-Resource-Policy": "same-origin"}
    if "gzip" in accept_encoding:
        return Response(file.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)
