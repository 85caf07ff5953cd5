"""tus as a client speaks it, request by request."""

from __future__ import annotations

import base64
from typing import Any

import httpx

PIECE = {"Content-Type": "application/offset+octet-stream", "Tus-Resumable": "1.0.0"}


def encoded(**values: str) -> str:
    """``Upload-Metadata``."""
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())


def create(client: httpx.Client, size: int, body: bytes | None = None, **headers: Any) -> httpx.Response:
    given = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size)} | _named(headers)
    if body is not None:
        given |= PIECE
    return client.post("/v1/uploads", content=body, headers=given)


def begin(client: httpx.Client, size: int, **headers: Any) -> str:
    """The URL of a new upload."""
    answer = create(client, size, **headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"])


def patch(client: httpx.Client, url: str, offset: int, body: Any, **headers: str) -> httpx.Response:
    return client.patch(url, content=body, headers=PIECE | {"Upload-Offset": str(offset)} | _named(headers))


def patch_head(url: str, size: int, **headers: str) -> bytes:
    """The beginning of a request at offset 0, for a body of that size."""
    given = PIECE | {"Host": "localhost", "Upload-Offset": "0", "Content-Length": str(size)} | _named(headers)
    return "\r\n".join([f"PATCH {url} HTTP/1.1", *(f"{n}: {v}" for n, v in given.items()), "", ""]).encode()


def offset(client: httpx.Client, url: str) -> int:
    answer = client.head(url, headers={"Tus-Resumable": "1.0.0"})
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def make_job(client: httpx.Client, url: str, **options: Any) -> httpx.Response:
    return client.post("/v1/jobs", json={"upload_id": id_of(url), "options": options})


def id_of(url: str) -> str:
    return url.rpartition("/")[2]


def _named(headers: dict[str, Any]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
