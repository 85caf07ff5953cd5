"""Event streams against a server of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from longhand import AsyncClient, Client, Event, LonghandError, Unreachable, api, events


def read(url: str) -> list[Event]:
    return list(Client(url).jobs.events("x"))


def read_async(url: str) -> list[Event]:
    async def collect() -> list[Event]:
        async with AsyncClient(url) as client:
            return [event async for event in client.jobs.events("x")]

    return asyncio.run(collect())


@pytest.mark.parametrize("read", [read, read_async])
def test_heartbeats_are_no_events_and_a_broken_stream_goes_on(
    broken_streams: tuple[str, list[str | None]], read: Callable[[str], list[Event]]
) -> None:
    url, asked = broken_streams
    events = read(url)
    assert [(event.seq, event.type) for event in events] == [
        (1, "job.started"),
        (2, "segment.final"),
        (3, "job.completed"),
    ]
    assert events[1].data == {"text": "one\N{LINE SEPARATOR}line"}
    assert asked == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("type_", "error", "what"),
    [("text/html", LonghandError, "no Longhand server"), ("text/event-stream", Unreachable, "end without any")],
)
def test_what_gives_no_events_is_given_up(
    type_: str, error: type[Exception], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(events, "SILENCE_SECONDS", 0.1)
    body = b"<html>" if "html" in type_ else b""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers={"Content-Type": type_}, content=body))
    with pytest.raises(error, match=what):
        list(Client(http=httpx.Client(base_url="http://server", transport=transport)).jobs.events("x"))
