"""A client of the HTTP API, for the command line."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from httpx_sse import connect_sse

TIMEOUT_SECONDS = 60.0
"""Seconds without any answer after which a lost stream is given up."""


ENDS = ("job.completed", "job.failed", "job.cancelled")

UPLOAD_TRIES = 5

MAX_WAIT_SECONDS = 120
"""A server that says to come back later than that is not asked again."""


class ApiError(Exception):
    """The API answered with an error, or cannot be reached. The message is one sentence."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        """Whether the same request may succeed later."""


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    type: str
    data: Mapping[str, Any]


class Client:
    """One server, with the caller's key."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # heartbeats come every 15 s: a stream silent for longer is dead
        self._http = httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(40, connect=5))

    def submit(self, file: Path, options: Mapping[str, Any]) -> dict[str, Any]:
        """Upload a file, read as it is sent; returns the job.

        A broken or refused upload is tried again under one idempotency key, so that it makes one job.
        """
        key = uuid.uuid4().hex
        for attempt in range(1, UPLOAD_TRIES + 1):
            try:
                return self._upload(file, options, key)
            except ApiError as error:
                if not error.passing or attempt == UPLOAD_TRIES:
                    raise
            time.sleep(random.uniform(0.5, 1) * 2**attempt)  # noqa: S311  (jitter, not a secret)
        raise AssertionError("unreachable")

    def _upload(self, file: Path, options: Mapping[str, Any], key: str) -> dict[str, Any]:
        with file.open("rb") as body:
            return self._json(
                "POST",
                "/v1/jobs",
                data={"options": json.dumps(options)},
                files={"file": (file.name, body, "application/octet-stream")},
                headers={"Idempotency-Key": key},
                # the server answers once the last byte is stored
                timeout=httpx.Timeout(600, connect=5),
            )

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._json("POST", f"/v1/jobs/{job_id}/cancel")

    def retry(self, job_id: str) -> dict[str, Any]:
        return self._json("POST", f"/v1/jobs/{job_id}/retry")

    def delete(self, job_id: str) -> None:
        self._request("DELETE", f"/v1/jobs/{job_id}")

    def voices(self) -> list[dict[str, Any]]:
        return list(self._json("GET", "/v1/voices")["data"])

    def voice(self, voice_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/voices/{voice_id}")

    def enrol(self, name: str, file: Path) -> dict[str, Any]:
        with file.open("rb") as body:
            files = {"file": (file.name, body, "application/octet-stream")}
            return self._json("POST", "/v1/voices", data={"name": name}, files=files, timeout=600)

    def change_voice(self, voice_id: str, change: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("PATCH", f"/v1/voices/{voice_id}", json=change)

    def delete_voice(self, voice_id: str) -> None:
        self._request("DELETE", f"/v1/voices/{voice_id}")

    def erase_person(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("POST", "/v1/erasures", json=wanted)

    def erasure(self, erasure_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/erasures/{erasure_id}")

    def erasures(self, subject: str | None, limit: int) -> list[dict[str, Any]]:
        wanted = {"limit": limit} | ({"subject": subject} if subject else {})
        return list(self._json("GET", "/v1/erasures", params=wanted)["data"])

    def tenants(self) -> Iterator[dict[str, Any]]:
        """All tenants, page by page."""
        after: str | None = ""
        while after is not None:
            page = self._json("GET", "/v1/tenants", params={"limit": 100, "after": after})
            yield from page["data"]
            after = page["next_cursor"]

    def tenant(self, name: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/tenants/{quote(name, safe='')}")

    def change_tenant(self, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("PATCH", f"/v1/tenants/{quote(name, safe='')}", json=change)

    def quotas(self) -> dict[str, Any]:
        return self._json("GET", "/v1/quotas")

    def create_key(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("POST", "/v1/keys", json=wanted)

    def keys(self, limit: int) -> list[dict[str, Any]]:
        return list(self._json("GET", "/v1/keys", params={"limit": limit})["data"])

    def revoke_key(self, key_id: str) -> None:
        self._request("DELETE", f"/v1/keys/{key_id}")

    def rotate_key(self, key_id: str, grace_seconds: float) -> dict[str, Any]:
        return self._json("POST", f"/v1/keys/{key_id}/rotate", json={"grace_seconds": grace_seconds})

    def create_token(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("POST", "/v1/tokens", json=wanted)

    def create_webhook(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("POST", "/v1/webhooks", json=wanted)

    def webhooks(self) -> list[dict[str, Any]]:
        return list(self._json("GET", "/v1/webhooks")["data"])

    def webhook(self, webhook_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/webhooks/{webhook_id}")

    def change_webhook(self, webhook_id: str, change: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("PATCH", f"/v1/webhooks/{webhook_id}", json=change)

    def delete_webhook(self, webhook_id: str) -> None:
        self._request("DELETE", f"/v1/webhooks/{webhook_id}")

    def rotate_webhook_secret(self, webhook_id: str | None, grace_seconds: float) -> str:
        """Of a webhook; of the tenant itself without."""
        path = f"/v1/webhooks/{webhook_id}/rotate" if webhook_id else "/v1/webhooks/secret"
        return str(self._json("POST", path, json={"grace_seconds": grace_seconds})["secret"])

    def test_webhook(self, webhook_id: str) -> dict[str, Any]:
        return self._json("POST", f"/v1/webhooks/{webhook_id}/test")

    def deliveries(self, webhook_id: str, limit: int) -> list[dict[str, Any]]:
        return list(self._json("GET", f"/v1/webhooks/{webhook_id}/deliveries", params={"limit": limit})["data"])

    def job_deliveries(self, job_id: str, limit: int) -> list[dict[str, Any]]:
        return list(self._json("GET", f"/v1/jobs/{job_id}/deliveries", params={"limit": limit})["data"])

    def redeliver(self, delivery_id: str) -> dict[str, Any]:
        return self._json("POST", f"/v1/deliveries/{delivery_id}/redeliver")

    def start_export(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("POST", "/v1/exports", json=wanted)

    def export(self, export_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/exports/{export_id}")

    def exports(self, limit: int) -> list[dict[str, Any]]:
        return list(self._json("GET", "/v1/exports", params={"limit": limit})["data"])

    def export_file(self, export_id: str, path: str, target: Path) -> None:
        """Download a file of an export."""
        target.parent.mkdir(parents=True, exist_ok=True)
        url = self._request("GET", f"/v1/exports/{export_id}/files/{path}").headers["Location"]
        # the URL carries its own signature: our key is for the API alone
        with httpx.stream("GET", url, timeout=60) as answer, target.open("wb") as file:
            if answer.is_error:
                raise ApiError(f"{path} cannot be had: storage answered {answer.status_code}.")
            for block in answer.iter_bytes():
                file.write(block)

    def start_finetune(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("POST", "/v1/finetunes", json=wanted)

    def finetune(self, finetune_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/finetunes/{finetune_id}")

    def versions(self) -> list[dict[str, Any]]:
        return list(self._json("GET", "/v1/model-versions")["data"])

    def move_version(self, version_id: str, where: str) -> dict[str, Any]:
        return self._json("POST", f"/v1/model-versions/{version_id}/{where}")

    def usage(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return self._json("GET", "/v1/usage", params=wanted)

    def usage_csv(self, wanted: Mapping[str, Any]) -> str:
        return self._request("GET", "/v1/usage", params={**wanted, "format": "csv"}).text

    def job(self, job_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/jobs/{job_id}")

    def jobs(self, limit: int) -> list[dict[str, Any]]:
        return list(self._json("GET", "/v1/jobs", params={"limit": limit})["data"])

    def transcript(self, job_id: str, format_: str) -> str:
        return self.transcript_file(job_id, format_, {}).decode()

    def transcript_file(self, job_id: str, format_: str, options: Mapping[str, Any]) -> bytes:
        wanted = {**options, "format": format_}
        return self._request("GET", f"/v1/jobs/{job_id}/transcript", params=wanted).content

    def audit(self, wanted: Mapping[str, Any], limit: int) -> Iterator[dict[str, Any]]:
        """Up to ``limit`` entries of the audit log, newest first."""
        parameters: dict[str, Any] = {**wanted}
        while limit > 0:
            page = self._json("GET", "/v1/audit", params=parameters | {"limit": min(limit, 1000)})
            yield from page["data"]
            limit -= len(page["data"])
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]

    def audit_csv(self, wanted: Mapping[str, Any]) -> Iterator[str]:
        """All pages of the audit log as CSV, each with its headings."""
        parameters: dict[str, Any] = {**wanted, "format": "csv", "limit": 1000}
        url: str | None = "/v1/audit"
        while url:
            page = self._request("GET", url, params=parameters)
            yield page.text
            url, parameters = page.links.get("next", {}).get("url"), {}

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """The job's events until its last; a lost connection is resumed where it broke off."""
        last_contact = time.monotonic()
        while True:
            try:
                for event in self._stream(job_id, after):
                    last_contact = time.monotonic()
                    after = event.seq
                    yield event
                return
            except httpx.HTTPError as error:
                if time.monotonic() - last_contact > TIMEOUT_SECONDS:
                    raise ApiError(f"Lost the events of job {job_id}: {error}.") from error
                time.sleep(1)

    def _stream(self, job_id: str, after: int) -> Iterator[Event]:
        headers = {"Last-Event-ID": str(after)}
        ended = False
        with connect_sse(self._http, "GET", f"/v1/jobs/{job_id}/events", headers=headers) as source:
            if source.response.status_code == 204:
                return
            if source.response.is_error:
                source.response.read()
                raise _refused(source.response)
            for event in source.iter_sse():
                if not event.data:  # a heartbeat, parsed as an event since the last id persists
                    continue
                yield Event(int(event.id), event.event, json.loads(event.data))
                ended = event.event in ENDS or (ended and event.event != "job.retried")
        # the stream may have ended before the job did
        if not ended:
            raise httpx.ReadError("the stream ended early")

    def _json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        return dict(self._request(method, path, **arguments).json())

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise ApiError(f"{self._http.base_url} cannot be reached: {error}.", passing=True) from error
        if answer.is_error:
            raise _refused(answer)
        return answer


def _refused(answer: httpx.Response) -> ApiError:
    try:
        problem = answer.json()
        said = f"{problem['title']} ({problem['code']}): {problem['detail']}"
    except (ValueError, KeyError):
        said = f"The server answered {answer.status_code}."
    wait = answer.headers.get("Retry-After", "0")
    soon = not wait.isdigit() or int(wait) <= MAX_WAIT_SECONDS
    return ApiError(said, passing=answer.status_code in (429, 503) and soon)
