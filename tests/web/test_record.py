"""Somebody speaks to the page."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from db.models import Job
from db.objects.storage import Storage
from db.settings import Settings
from live.audio import Pcm
from speech.audio import flac
from speech.engines import SAMPLE_RATE
from tests.live.conftest import gateway
from tests.waiting import until
from tests.web.conftest import SAID, Site, Visit, Visitor, grave_faults

NOBODY_ANSWERS = ("WebSocket connection",)
"""What the console says then."""

OVERHEAR = """
    const Node = AudioWorkletNode;
    window.heard = [];
    window.AudioWorkletNode = class extends Node {
        constructor(...given) {
            super(...given);
            this.port.addEventListener("message", ({ data }) => window.heard.push(data.slice()));
        }
    };
"""
"""Keeps all that the microphone gives."""

REFUSE = "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', %r));"


class Gateway:
    """A process of live sessions where the page looks for one. Its ASR is fake."""

    def __init__(self, settings: Settings) -> None:
        assert settings.live_url is not None
        self._settings, self._port = settings, urlsplit(settings.live_url).port
        self._running = ExitStack()

    def start(self) -> None:
        _, self._process = self._running.enter_context(gateway(self._settings, self._port))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._running.close()


@pytest.fixture(scope="module")
def live(site: Site) -> Iterator[Gateway]:
    server = Gateway(site.settings)
    server.start()
    yield server
    server.close()


def begin(page: Page) -> Locator:
    """Start to record; what the page shows of it."""
    page.get_by_role("button", name="Record", exact=True).first.click()
    page.get_by_role("button", name="Start recording").click()
    panel = page.get_by_role("region", name="Recording now")
    expect(panel).to_have_attribute("data-state", "live")
    return panel


def words(panel: Locator) -> Locator:
    return panel.get_by_role("log").get_by_text(re.compile(r"w\d"))


def opened(page: Page) -> uuid.UUID:
    """The job whose transcript is shown."""
    expect(page).to_have_url(re.compile("/jobs/[0-9a-f-]{36}$"))
    return uuid.UUID(page.url.rpartition("/")[2])


def heard(page: Page) -> bytes:
    """All that the microphone gave, as PCM."""
    encoded = page.evaluate(
        """() => {
            const bytes = new Uint8Array(heard.flatMap((piece) => [...new Uint8Array(piece.buffer)]));
            let text = "";
            for (let at = 0; at < bytes.length; at += 8192)
                text += String.fromCharCode(...bytes.subarray(at, at + 8192));
            return btoa(text);
        }"""
    )
    return base64.b64decode(encoded)


def recorded(site: Site, job_id: uuid.UUID) -> Pcm:
    with site.sessions() as session:
        key = session.get_one(Job, job_id).source_key
    samples = flac.decode(Storage(site.settings).get(key))
    return np.rint(samples * 32768).astype(np.int16)


def test_a_gateway_that_is_killed_loses_and_doubles_nothing(site: Site, visit: Visit, live: Gateway) -> None:
    visitor = visit(despite=NOBODY_ANSWERS)
    visitor.context.add_init_script(OVERHEAR)
    page = visitor.open()
    panel = begin(page)
    expect(words(panel).first).to_be_visible()
    live.kill()
    expect(panel).to_have_attribute("data-state", "away")
    expect(panel).to_contain_text("The recording goes on here")
    live.start()
    expect(panel).to_have_attribute("data-state", "live")
    before = panel.locator(".final").count()
    until(lambda: panel.locator(".final").count() > before, "more becomes final")
    panel.get_by_role("button", name="Stop").click()
    job_id = opened(page)
    site.work()
    expect(page.locator("article").first).to_contain_text(SAID.split()[0])
    spoken, kept = heard(page), recorded(site, job_id).tobytes()
    at = spoken.find(kept)
    assert at >= 0, "what was recorded is what was heard, without a gap"
    assert len(spoken) - at - len(kept) <= SAMPLE_RATE, "up to its end"
    assert len(kept) > 4 * SAMPLE_RATE


def test_a_pause_is_left_out_and_other_pages_are_looked_at(site: Site, visit: Visit, live: Gateway) -> None:
    visitor = visit()
    page = visitor.open()
    panel = begin(page)
    expect(words(panel).first).to_be_visible()
    panel.get_by_role("button", name="Pause").click()
    expect(panel.get_by_role("heading", name="Paused")).to_be_visible()
    expect(panel.locator(".final").first).to_be_visible()
    expect(panel.locator(".stable")).to_have_count(0)
    page.get_by_role("link", name="Usage").click()
    expect(page.get_by_role("img", name="A recording goes on")).to_be_visible()
    page.get_by_role("link", name="Recordings").click()
    shown = panel.locator(".number").inner_text()
    panel.get_by_role("button", name="Go on").click()
    expect(panel.locator(".number")).not_to_have_text(shown)
    panel.get_by_role("combobox", name="Microphone").select_option(index=1)
    expect(words(panel).last).to_be_visible()
    panel.get_by_role("button", name="Stop").click()
    opened(page)
    assert not [url for url in visitor.asked if "/ws/" in url and "?" in url], "no credential is in a URL"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_everybody_can_record(visit: Visit, live: Gateway, theme: str, width: int) -> None:
    visitor = visit(color_scheme=theme, viewport={"width": width, "height": 900}, reduced_motion="reduce")
    page = visitor.open()
    page.get_by_role("button", name="Record", exact=True).first.focus()
    page.keyboard.press("Enter")
    asking = page.get_by_role("dialog", name="Recording now")
    expect(asking.get_by_label("Microphone")).to_be_visible()
    asking.get_by_text("More options").click()
    assert grave_faults(page) == []
    asking.get_by_role("button", name="Start recording").focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="Recording now")
    expect(words(panel).first).to_be_visible()
    assert grave_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    panel.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    opened(page)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("NotAllowedError", "The browser does not give this page the microphone."),
        ("NotFoundError", "There is no microphone."),
        ("NotReadableError", "another program may hold it"),
    ],
)
def test_it_says_why_there_is_no_microphone(visit: Visit, error: str, told: str) -> None:
    visitor = visit()
    visitor.context.add_init_script(REFUSE % error)
    page = visitor.open()
    page.get_by_role("button", name="Record", exact=True).first.click()
    expect(page.get_by_role("alert")).to_contain_text(told)
    expect(page.get_by_role("button", name="Start recording")).to_be_disabled()
    page.evaluate("delete navigator.mediaDevices.getUserMedia")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("Microphone")).to_be_visible()


def test_what_is_stopped_while_nobody_answers_waits(visit: Visit, live: Gateway) -> None:
    visitor = visit(despite=NOBODY_ANSWERS)
    page = visitor.open()
    live.kill()
    page.get_by_role("button", name="Record", exact=True).first.click()
    page.get_by_role("button", name="Start recording").click()
    panel = page.get_by_role("region", name="Recording now")
    expect(panel).to_contain_text("What you say meanwhile is kept")
    expect(panel.locator(".number")).not_to_have_text("0:00")
    panel.get_by_role("button", name="Stop").click()
    expect(panel).to_contain_text("Leave this page open")
    live.start()
    opened(page)


def test_a_key_that_may_not_is_offered_nothing(site: Site, visit: Visit) -> None:
    visitor: Visitor = visit(signed_in=False, despite=("401",))
    page = visitor.open()
    page.get_by_label("API key").fill(site.key(visitor.tenant, "jobs:read", "jobs:write"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Add recordings").first).to_be_visible()
    expect(page.get_by_role("button", name="Record", exact=True)).to_have_count(0)
