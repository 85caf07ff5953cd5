"""One signed request, after the specification Standard Webhooks 1.0.0, and what came back."""

from __future__ import annotations

import email.utils
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook

from db.settings import Settings
from tasks.errors import Permanent
from tasks.fetch.network import GuardedBackend, GuardedTransport

KEPT_BYTES = 1024
"""Of an answer that is no success: what it says is often the reason."""

USER_AGENT = "Longhand-Webhooks"


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` is None where there was no answer, and ``error`` says why."""

    status: int | None = None
    error: str | None = None
    text: str | None = None
    retry_after: float | None = None
    """Seconds, as the receiver asked for them."""
    is_refused: bool = False
    """Nothing was sent: the address leads where this server does not connect to."""

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def signed_headers(message_id: uuid.UUID, body: str, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    """The headers of the specification: a signature by each secret, and the time (UTC) of this attempt."""
    signatures = [Webhook(secret).sign(str(message_id), at, body) for secret in secrets]
    return {
        "webhook-id": str(message_id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def send(url: str, message_id: uuid.UUID, body: str, secrets: Sequence[str], settings: Settings) -> Answer:
    """POST a message. Redirects are not followed; only public addresses and those of the settings are reached."""
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
        **signed_headers(message_id, body, secrets, datetime.now(UTC)),
    }
    backend = GuardedBackend(settings.webhook_private, time.monotonic() + settings.webhook_seconds)
    try:
        with (
            httpx.Client(
                transport=GuardedTransport(backend), timeout=settings.webhook_seconds, trust_env=False
            ) as client,
            client.stream("POST", url, content=body.encode(), headers=headers) as answer,
        ):
            return _read(answer)
    except Permanent as error:
        return Answer(error=f"{error.code}: {error}", is_refused=True)
    except httpx.TimeoutException:
        return Answer(error=f"no answer within {settings.webhook_seconds:g} s")
    except httpx.TransportError as error:
        return Answer(error=_printable(f"{type(error).__name__}: {error}")[:200])


def _read(answer: httpx.Response) -> Answer:
    status = answer.status_code
    if 200 <= status < 300:
        return Answer(status)
    retry_after = _seconds(answer.headers.get("Retry-After", ""))
    return Answer(status, text=_beginning(answer), retry_after=retry_after)


def _beginning(answer: httpx.Response) -> str | None:
    kept = b""
    try:
        for block in answer.iter_raw():
            kept += block
            if len(kept) >= KEPT_BYTES:
                break
    except httpx.TransportError:
        pass  # the status is what counts
    return _printable(kept[:KEPT_BYTES].decode(errors="replace")) or None


def _printable(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).strip()


def _seconds(retry_after: str) -> float | None:
    """Of a number of seconds or a date; None for anything else."""
    if re.fullmatch(r"\d{1,9}", retry_after.strip(), re.ASCII):
        return float(retry_after)
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
