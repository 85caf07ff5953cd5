"""A transcript is read, heard, corrected and searched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import update

from cli.stack.process import HOST, free_port
from db.models import Job, StoredSegment
from db.objects.storage import Storage
from db.settings import Settings
from tasks.steps import draft, fetch, ingest
from tests.chaos.proxy import Proxy
from tests.conftest import environment_of
from tests.long_transcript import long_transcript
from tests.media import DATA
from tests.waiting import until
from tests.web.conftest import OPERATOR, SAID, Site, Visit, Visitor, grave_faults

TALK = DATA / "jfk.flac"
LISTEN = "const Made = Audio; window.Audio = function () { return (window.playing = new Made()); };"
"""Has the page's player at hand."""

OFFLINE = ("ERR_INTERNET_DISCONNECTED", "Failed to load resource")


def upload(visitor: Visitor, path: Path = TALK, **options: object) -> str:
    answer = visitor.site.http.post(
        "/v1/jobs",
        files={"file": (path.name, path.read_bytes())},
        data={"options": json.dumps({"language": "en", **options})},
        headers={"Authorization": f"Bearer {visitor.key}"},
    )
    return str(answer.raise_for_status().json()["id"])


def row(page: Page, index: int = 0) -> Locator:
    return page.locator(f"article[data-index='{index}']")


def word(page: Page, place: int, index: int = 0) -> Locator:
    return row(page, index).locator(f"[data-word='{place}']")


def correct(page: Page, text: str, index: int = 0) -> None:
    """Type a text over a segment's, and leave it."""
    row(page, index).locator("p").dblclick()
    field = row(page, index).get_by_role("textbox")
    field.fill(text)
    field.blur()


def resting(row: Locator) -> float:
    """Where a row is once it has been there for twenty frames."""
    return float(
        row.evaluate(
            """async (row) => {
                let top = null;
                for (let frames = 0; frames < 20; frames += 1) {
                    await new Promise(requestAnimationFrame);
                    const there = document.querySelector(`[data-index="${row.dataset.index}"]`);
                    const now = there.getBoundingClientRect().top;
                    if (now !== top) frames = 0;
                    top = now;
                }
                return top;
            }"""
        )
    )


def texts(visitor: Visitor, job_id: str) -> list[str]:
    answer = visitor.site.http.get(
        f"/v1/jobs/{job_id}/transcript", headers={"Authorization": f"Bearer {visitor.key}"}
    )
    return [segment["text"] for segment in answer.raise_for_status().json()["segments"]]


@pytest.fixture
def done(site: Site, visit: Visit) -> tuple[Visitor, str]:
    """Somebody with one transcript: SAID, in one segment."""
    visitor = visit(despite=OFFLINE)
    visitor.context.add_init_script(LISTEN)
    job_id = upload(visitor)
    site.work()
    return visitor, job_id


def test_from_drafts_to_a_download(site: Site, visit: Visit) -> None:
    visitor = visit()
    visitor.context.add_init_script(LISTEN)
    job_id = upload(visitor)
    page = visitor.open(f"/jobs/{job_id}")
    expect(page.get_by_text("The first words come within seconds")).to_be_visible()
    site.work(fetch.handler, ingest.handler, draft.handler)
    expect(row(page)).to_have_class(re.compile("provisional"))
    expect(row(page)).to_contain_text(SAID)
    site.work()
    expect(row(page)).not_to_have_class(re.compile("provisional"))

    word(page, 2).click()
    page.wait_for_function("window.playing.currentTime > 1 && !window.playing.paused")
    start = page.evaluate("window.playing.currentTime")
    assert start < 3
    expect(page.locator(".spoken")).to_have_count(1)
    page.keyboard.press("Space")
    page.wait_for_function("window.playing.paused")

    correct(page, "We met on Monday, Ada.")
    expect(row(page)).to_contain_text("Ada.")
    expect(row(page).get_by_title("Checked by a person")).to_be_visible()
    expect(page.get_by_text("to be saved")).to_have_count(0)
    page.reload()
    expect(row(page)).to_contain_text("We met on Monday, Ada.")
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Plain text").click()
    assert download.value.suggested_filename == "jfk.txt"
    assert "We met on Monday, Ada." in Path(download.value.path()).read_text()


def test_typing_divides_joins_and_is_undone(done: tuple[Visitor, str]) -> None:
    visitor, job_id = done
    page = visitor.open(f"/jobs/{job_id}")
    word(page, 0).click()
    page.wait_for_function("!window.playing.paused")
    page.keyboard.press("e")
    page.wait_for_function("window.playing.paused")
    field = page.get_by_role("textbox", name="Text of this passage")
    page.keyboard.press("Home")
    for _ in "We met ":
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("article")).to_have_count(2)
    expect(field).to_have_value("on Monday.")
    expect(field).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Backspace")
    expect(page.locator("article")).to_have_count(1)
    expect(field).to_have_value(SAID)
    field.fill("We met on Sunday.")
    page.keyboard.press("Escape")
    expect(row(page)).to_contain_text(SAID)

    page.keyboard.press("c")
    expect(row(page).get_by_title("Checked by a person")).to_be_visible()
    page.keyboard.press("Control+z")
    expect(row(page).get_by_title("Checked by a person")).to_have_count(0)
    page.keyboard.press("Control+Shift+z")
    expect(row(page).get_by_title("Checked by a person")).to_be_visible()
    assert texts(visitor, job_id) == [SAID]


def test_two_tabs_change_one_segment(done: tuple[Visitor, str]) -> None:
    visitor, job_id = done
    mine = visitor.open(f"/jobs/{job_id}")
    theirs = visitor.context.new_page()
    theirs.goto(mine.url)
    # both type at once: different words are both kept
    row(mine).locator("p").dblclick()
    field = row(mine).get_by_role("textbox")
    field.fill("They met on Monday.")
    correct(theirs, "We met on Friday.")
    until(lambda: texts(visitor, job_id) == ["We met on Friday."])
    expect(field).to_have_value("They met on Monday.")
    field.blur()
    for page in (mine, theirs):
        expect(row(page)).to_contain_text("They met on Friday.")
    # the same word in two ways is for a person to decide
    row(mine).locator("p").dblclick()
    field.fill("They met on Sunday.")
    correct(theirs, "They met on Saturday.")
    until(lambda: texts(visitor, job_id) == ["They met on Saturday."])
    field.blur()
    card = mine.get_by_role("alert").filter(has_text="Somebody else changed the same words")
    expect(card).to_contain_text("They met on Sunday.")
    expect(card).to_contain_text("They met on Saturday.")
    card.get_by_role("button", name="Take mine").click()
    for page in (mine, theirs):
        expect(row(page)).to_contain_text("They met on Sunday.")


def test_an_undo_takes_back_what_one_did_and_no_more(site: Site, done: tuple[Visitor, str]) -> None:
    visitor, job_id = done
    url, headers = f"/v1/jobs/{job_id}/segments", {"Authorization": f"Bearer {visitor.key}"}
    site.http.post(f"{url}/0/split", json={"at": 2}, headers=headers).raise_for_status()
    site.http.patch(f"{url}/0", json={"text": "They met"}, headers=headers).raise_for_status()
    site.http.post(f"{url}/0/merge", json={"next": 1}, headers=headers).raise_for_status()
    page = visitor.open(f"/jobs/{job_id}")
    # the words of a person stay that were joined with the models'
    correct(page, "They met on Sunday.")
    until(lambda: texts(visitor, job_id) == ["They met on Sunday."])
    row(page).focus()
    page.keyboard.press("Control+z")
    until(lambda: texts(visitor, job_id) == ["They met on Monday."])
    expect(row(page)).to_contain_text("They met on Monday.")
    # and what somebody else changed since
    site.http.post(f"{url}/0/revert", json={}, headers=headers).raise_for_status()
    expect(row(page)).to_contain_text("We met on Monday.")
    correct(page, "We met on Sunday.")
    until(lambda: texts(visitor, job_id) == ["We met on Sunday."])
    site.http.patch(f"{url}/0", json={"text": "I met on Sunday."}, headers=headers).raise_for_status()
    expect(row(page)).to_contain_text("I met on Sunday.")
    row(page).focus()
    page.keyboard.press("Control+z")
    until(lambda: texts(visitor, job_id) == ["I met on Monday."])


def test_what_is_changed_offline_is_sent_later(done: tuple[Visitor, str]) -> None:
    visitor, job_id = done
    page = visitor.open(f"/jobs/{job_id}")
    expect(row(page)).to_be_visible()
    visitor.context.set_offline(True)
    correct(page, "Said without a line.")
    expect(page.get_by_text("1 change to be saved")).to_be_visible()
    expect(row(page)).to_contain_text("Said without a line.")
    visitor.context.set_offline(False)
    until(lambda: texts(visitor, job_id) == ["Said without a line."])
    expect(page.get_by_text("to be saved")).to_have_count(0)
    # also by who comes back to it, if it is left meanwhile
    visitor.context.set_offline(True)
    correct(page, "Left too early.")
    expect(page.get_by_text("1 change to be saved")).to_be_visible()
    page.get_by_role("link", name="Recordings").first.click()
    expect(row(page)).to_have_count(0)
    visitor.context.set_offline(False)
    page.go_back()
    until(lambda: texts(visitor, job_id) == ["Left too early."])
    expect(page.get_by_text("to be saved")).to_have_count(0)
    # also by another tab, if this one is closed
    visitor.context.set_offline(True)
    correct(page, "Closed too early.")
    expect(page.get_by_text("1 change to be saved")).to_be_visible()
    page.close()
    visitor.context.set_offline(False)
    visitor.context.new_page().goto(f"{visitor.site.url}/jobs/{job_id}")
    until(lambda: texts(visitor, job_id) == ["Closed too early."])


def test_what_the_server_does_not_take_is_not_lost(done: tuple[Visitor, str]) -> None:
    visitor, job_id = done
    page = visitor.open(f"/jobs/{job_id}")
    page.route(
        "**/segments/0",
        lambda route: route.fulfill(status=422, json={"title": "", "detail": "", "code": "invalid_request"}),
    )
    correct(page, "Written for nothing?")
    asked = page.get_by_role("alert").filter(has_text="could not be saved")
    expect(asked).to_contain_text("Written for nothing?")
    page.unroute("**/segments/0")
    asked.get_by_role("button", name="Take mine").click()
    until(lambda: texts(visitor, job_id) == ["Written for nothing?"])


def test_speakers_are_named_and_merged(site: Site, done: tuple[Visitor, str]) -> None:
    visitor, job_id = done
    page = visitor.open(f"/jobs/{job_id}")
    for label in ("SPEAKER_00", "SPEAKER_01"):
        headers = {"Authorization": f"Bearer {visitor.key}"}
        change = {"speaker": label}
        site.http.patch(f"/v1/jobs/{job_id}/segments/0", json=change, headers=headers).raise_for_status()
        if label == "SPEAKER_00":
            split = {"at": 2}
            site.http.post(f"/v1/jobs/{job_id}/segments/0/split", json=split, headers=headers).raise_for_status()
    expect(row(page, 0)).to_contain_text("Speaker 2")
    expect(row(page, 1)).to_contain_text("Speaker 1")
    page.get_by_role("button", name="Change Speaker 2").click()
    page.get_by_role("menuitem", name="Rename…").click()
    page.get_by_role("textbox", name="Name").fill("Ada")
    page.get_by_role("button", name="Save").click()
    expect(row(page, 0)).to_contain_text("Ada")
    page.get_by_role("button", name="Change Speaker 1").click()
    page.get_by_role("menuitem", name="Same person as Ada").click()
    page.get_by_role("button", name="Merge").click()
    expect(page.get_by_role("button", name=re.compile("^Change "))).to_have_count(1)
    row(page, 0).focus()
    expect(row(page, 1).locator(".speaker")).to_have_count(0)


def test_by_keyboard_alone(done: tuple[Visitor, str]) -> None:
    visitor, job_id = done
    page = visitor.open(f"/jobs/{job_id}")
    expect(row(page)).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('article')"):
            break
    expect(row(page)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_function("!window.playing.paused")
    page.keyboard.press("Space")
    page.wait_for_function("window.playing.paused")
    page.keyboard.press("e")
    page.keyboard.press("End")
    page.keyboard.type(" Ada was there.")
    page.keyboard.press("Control+s")
    expect(row(page)).to_contain_text("Monday. Ada was there.")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+f")
    page.keyboard.type("ada")
    expect(page.get_by_text("1 of 1")).to_be_visible()
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".chosen")).to_have_text("Ada")
    page.keyboard.press("Escape")
    expect(page.locator(".chosen")).to_have_count(0)
    until(lambda: texts(visitor, job_id) == ["We met on Monday. Ada was there."])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_grave(site: Site, visit: Visit, width: int, theme: str) -> None:
    visitor = visit(viewport={"width": width, "height": 844}, color_scheme=theme)
    job_id = long_transcript(site.sessions, Storage(site.settings), visitor.tenant)
    page = visitor.open(f"/jobs/{job_id}?t=60")
    expect(page.locator("article").first).to_be_visible()
    page.keyboard.press("d")
    assert grave_faults(page) == []
    page.keyboard.press("Control+f")
    page.keyboard.type("river")
    expect(page.locator(".chosen")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    assert grave_faults(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert grave_faults(page) == []


def test_ten_hours_open_scroll_and_are_searched(site: Site, visit: Visit) -> None:
    visitor = visit()
    job_id = long_transcript(site.sessions, Storage(site.settings), visitor.tenant)
    page = visitor.open()
    begun = time.monotonic()
    page.goto(f"{site.url}/jobs/{job_id}")
    expect(page.locator("article").first).to_be_visible()
    assert time.monotonic() - begun < 20, "two seconds, on a machine that has nothing else to do"
    assert page.locator("article").count() < 60, "only what is seen is there"
    page.locator(".list").evaluate("list => list.scrollTo(0, list.scrollHeight / 2)")
    expect(page.locator("article[data-index='62500']")).to_be_attached()
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable")
    found = {each["name"]: each["value"] for each in metrics.send("Performance.getMetrics")["metrics"]}
    assert found["JSHeapUsedSize"] < 300e6
    page.keyboard.press("Control+f")
    page.keyboard.type("mountain because")
    expect(page.locator(".chosen")).to_have_count(2)


def test_text_stays_where_it_is_when_what_is_above_changes(site: Site, visit: Visit) -> None:
    visitor = visit()
    job_id = long_transcript(site.sessions, Storage(site.settings), visitor.tenant)
    page = visitor.open(f"/jobs/{job_id}")
    row(page, 0).wait_for()
    page.locator(".list").evaluate("list => list.scrollTo(0, 4000)")
    expect(row(page, 0)).to_have_count(0)
    seen = page.locator(".list article").evaluate_all(
        "rows => rows.find((row) => row.getBoundingClientRect().top > 200).dataset.index"
    )
    before = resting(row(page, int(seen)))
    headers = {"Authorization": f"Bearer {visitor.key}"}
    body = {"text": "Much longer than it was. " * 40}
    site.http.patch(f"/v1/jobs/{job_id}/segments/1", json=body, headers=headers).raise_for_status()
    site.http.post(f"/v1/jobs/{job_id}/segments/0/split", json={"at": 3}, headers=headers).raise_for_status()
    # the events are there once one passage counts as checked
    expect(page.get_by_text("1 passage checked here")).to_be_visible()
    assert resting(row(page, int(seen))) == pytest.approx(before, abs=2)


@contextmanager
def api_process(settings: Settings, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The API as a process, over the same servers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "--host", HOST, "--port", str(port)],
        env=os.environ | environment_of(settings),
    )
    try:
        url = f"http://{HOST}:{port}/readyz"
        until(lambda: httpx.get(url).is_success, despite=(httpx.TransportError,))
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_it_goes_on_when_the_server_was_killed(site: Site, visit: Visit) -> None:
    visitor = visit(despite=("ERR_", "Failed to load resource"))
    job_id = upload(visitor)
    site.work()
    port = free_port()
    keep = f"sessionStorage.setItem('longhand.key', {json.dumps(visitor.key)})"
    visitor.context.add_init_script(keep)
    page = visitor.page
    with api_process(site.settings, port):
        page.goto(f"http://{HOST}:{port}/jobs/{job_id}")
        expect(row(page)).to_contain_text(SAID)
    # killed: what others change and what is typed here meanwhile is not lost
    expect(page.get_by_text("Offline")).to_be_visible()
    headers = {"Authorization": f"Bearer {visitor.key}"}
    site.http.post(f"/v1/jobs/{job_id}/segments/0/split", json={"at": 2}, headers=headers).raise_for_status()
    correct(page, "They met on Monday.")
    with api_process(site.settings, port):
        expect(page.locator("article")).to_have_count(2)
        expect(page.get_by_text("Offline")).to_have_count(0)
        until(lambda: texts(visitor, job_id) == ["They met", "on Monday."])
        expect(row(page)).to_contain_text("They met")


@pytest.mark.parametrize("lost", ["redis", "network"])
def test_it_goes_on_when_redis_or_the_network_was_away(site: Site, visit: Visit, lost: str) -> None:
    visitor = visit(despite=("ERR_", "Failed to load resource"))
    job_id = upload(visitor)
    site.work()
    port, redis_url = free_port(), site.settings.redis_url
    redis_port = urlsplit(redis_url).port or 6379
    with (
        closing(Proxy(redis_port)) as to_redis,
        closing(Proxy(port)) as to_api,
        api_process(
            site.settings.model_copy(
                update={"redis_url": redis_url.replace(f":{redis_port}", f":{to_redis.port}")}
            ),
            port,
        ),
    ):
        visitor.context.add_init_script(f"sessionStorage.setItem('longhand.key', {json.dumps(visitor.key)})")
        page = visitor.page
        page.goto(f"http://{HOST}:{to_api.port}/jobs/{job_id}")
        expect(row(page)).to_contain_text(SAID)
        cut = {"redis": to_redis, "network": to_api}[lost]
        cut.refuse(on=True)
        headers = {"Authorization": f"Bearer {visitor.key}"}
        site.http.post(f"/v1/jobs/{job_id}/segments/0/split", json={"at": 2}, headers=headers).raise_for_status()
        cut.refuse(on=False)
        # nobody reloads
        expect(page.locator("article")).to_have_count(2)
        correct(page, "They met")
        until(lambda: texts(visitor, job_id) == ["They met", "on Monday."])


def test_a_link_leads_to_a_moment(site: Site, visit: Visit) -> None:
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    job_id = long_transcript(site.sessions, Storage(site.settings), visitor.tenant)
    page = visitor.open(f"/jobs/{job_id}?t=18000")
    expect(page.locator("article[data-index='62500']")).to_be_visible()
    page.get_by_role("button", name="Copy, link or print").click()
    page.get_by_role("menuitem", name="Copy the text alone").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert len(page.evaluate("navigator.clipboard.readText()").split()) == 90_000
    assert OPERATOR not in page.url


def test_other_languages_and_directions(site: Site, visit: Visit, done: tuple[Visitor, str]) -> None:
    visitor, job_id = done
    with site.sessions.begin() as session:
        hebrew = {"text": "שלום לכולם", "language": "he", "words": []}
        session.execute(update(StoredSegment).where(StoredSegment.job_id == uuid.UUID(job_id)).values(hebrew))
        session.get_one(Job, uuid.UUID(job_id)).transcript_prefix = "jobs/none/"
    page = visitor.open(f"/jobs/{job_id}")
    text = row(page).locator("p")
    expect(text).to_have_attribute("lang", "he")
    assert text.evaluate("text => getComputedStyle(text).direction") == "rtl"
    expect(row(page).get_by_title("Hebrew")).to_be_visible()
