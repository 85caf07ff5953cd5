"""The requests that yt-dlp asks for, made through the guarded connection of fetches."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import httpx

from db.settings import MIB, Settings
from db.sources import shown_address
from tasks.errors import Permanent, StepError, Unreachable
from tasks.fetch.network import not_allowed
from tasks.fetch.web import MAX_REDIRECTS, check_plain, open_client, reason

MAX_VISITS = 60
"""For one page, redirects among them."""

PAGE_BYTES = 4 * MIB
"""The rest of a longer page is not read."""

MEDIA_BYTES = 1024
"""Of what says that it is media: enough to tell its format."""

OURS = ("host", "connection", "content-length", "transfer-encoding", "accept-encoding", "referer")
"""Headers that are not yt-dlp's to set."""

METHODS = ("GET", "HEAD", "POST")


class Visits:
    """Made for one page, one after the other, until a deadline in monotonic seconds."""

    def __init__(self, settings: Settings, deadline: float) -> None:
        self._client = open_client(settings, deadline)
        self._count = 0
        self.trouble: StepError | None = None
        """The first that was refused, or got no answer."""

    def close(self) -> None:
        self._client.close()

    def make(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer behind redirects, or an error. ``body`` is in base64, both ways."""
        try:
            return self._make(asked)
        except Permanent as error:
            trouble: StepError = error
        except httpx.TransportError as error:
            host = httpx.URL(asked["url"]).host
            trouble = Unreachable(f"{host}, which the page leads to, cannot be reached: {reason(error)}.")
        except (httpx.InvalidURL, AttributeError, KeyError, TypeError, ValueError):
            trouble = Permanent("url_page_unsupported", "The page leads to something that is no address.")
        self.trouble = self.trouble or trouble
        return {"error": str(trouble)}

    def _make(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if asked["method"] not in METHODS:
            raise Permanent("url_page_unsupported", "The page asks for more than reading.")
        body = base64.b64decode(asked["body"]) if asked["body"] is not None else None
        request = self._client.build_request(
            asked["method"], asked["url"], headers=_headers(asked["headers"]), content=body
        )
        for redirects in range(MAX_REDIRECTS + 1):
            if request.url.scheme not in ("http", "https"):
                raise not_allowed("The page leads to something that is neither http nor https.")
            self._count += 1
            if self._count > MAX_VISITS:
                raise Permanent("url_page_unsupported", f"The page leads to more than {MAX_VISITS} others.")
            with closing(self._client.send(request, stream=True)) as answer:
                if answer.next_request is None:
                    # as it was asked for, which yt-dlp compares it with
                    return _told(answer, url=str(answer.url) if redirects else asked["url"])
                request = answer.next_request
        raise Permanent("url_refused", f"The page redirects more than {MAX_REDIRECTS} times.")


def _headers(asked: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in asked.items() if name.lower() not in OURS}
    referer = next((value for name, value in asked.items() if name.lower() == "referer"), None)
    # the query of an address may be a secret
    return kept | {"Accept-Encoding": "identity"} | ({"Referer": shown_address(referer)} if referer else {})


def _told(answer: httpx.Response, url: str) -> dict[str, Any]:
    check_plain(answer)
    is_media = re.match(r"(audio|video)/", answer.headers.get("Content-Type", ""), re.IGNORECASE)
    limit = MEDIA_BYTES if is_media else PAGE_BYTES
    body = bytearray()
    for block in answer.iter_raw():
        body += block[: limit - len(body)]
        if len(body) >= limit:
            break
    return {
        "url": url,
        "status": answer.status_code,
        "headers": dict(answer.headers),
        "body": base64.b64encode(body).decode(),
    }
