"""Recordings come in, are followed, found, stopped and deleted."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from db.models import Job, JobStatus
from tasks.steps import draft, fetch, ingest
from tests.jobs import make_job
from tests.media import DATA
from tests.waiting import until
from tests.web.conftest import Site, Visit, Visitor, finished

TALK = DATA / "jfk.flac"


def choose(page: Page, *files: Path) -> None:
    page.get_by_role("button", name="Add recordings").first.click()
    page.get_by_test_id("files").set_input_files(files)
    page.get_by_role("button", name=re.compile(r"Transcribe \d+ recording")).click()


def test_a_recording_is_uploaded_followed_and_done(site: Site, visit: Visit) -> None:
    visitor = visit()
    page = visitor.open()
    expect(page.get_by_role("heading", name="No recordings yet")).to_be_visible()
    choose(page, TALK)
    listed = page.locator("li[data-status]").filter(has_text="jfk.flac")
    expect(listed).to_have_attribute("data-status", "queued")
    site.work(fetch.handler, ingest.handler)
    expect(listed).to_contain_text("Drafting")
    site.work(draft.handler)
    expect(listed).to_contain_text("Refining")
    site.work()
    expect(listed).to_have_attribute("data-status", "completed")
    expect(listed).to_contain_text("0:11")
    listed.get_by_role("link", name="jfk.flac").click()
    expect(page).to_have_url(re.compile("/jobs/[0-9a-f-]{36}$"))
    page.reload()
    expect(page.get_by_text("jfk.flac").first).to_be_visible()
    assert finished(site, visitor.key)


def test_options_reach_the_job(site: Site, visit: Visit) -> None:
    visitor = visit()
    page = visitor.open()
    page.get_by_role("button", name="Add recordings").first.click()
    page.get_by_label("Or by address").fill("https://recordings.example/a.mp3\nrecordings.example/b.mp3")
    expect(page.get_by_text("is no address")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Transcribe"))).to_be_disabled()
    page.get_by_label("Or by address").fill("https://recordings.example/a.mp3")
    page.get_by_role("combobox", name="Language").select_option("en")
    page.get_by_role("combobox", name="Speakers").select_option("2")
    page.get_by_label("Names and terms").fill("Ada, Grace Hopper")
    page.get_by_text("More options").click()
    page.get_by_label("Second reading").select_option("never")
    page.get_by_label("Source", exact=True).fill("radio")
    page.get_by_label("Phone numbers").check()
    page.get_by_role("button", name="Transcribe 1 recording").click()
    expect(page.locator("li[data-status]")).to_contain_text("Fetching the recording")
    (job,) = site.jobs(visitor.key)
    asked = {"language": "en", "speakers": 2, "hotwords": ["Ada", "Grace Hopper"], "refine": "never"}
    assert asked.items() <= job["options"].items()
    assert (job["options"]["source"], job["options"]["redact"]) == ("radio", ["phone"])


def test_files_are_dropped_and_folders_chosen(visit: Visit, tmp_path: Path) -> None:
    page = visit().open()
    expect(page.get_by_role("heading", name="No recordings yet")).to_be_visible()
    carried = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["sound"], "dropped.wav"));
            return transfer;
        }"""
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": carried})
    expect(page.get_by_text("Drop recordings or folders here")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": carried})
    asking = page.get_by_role("dialog", name="Add recordings")
    expect(asking).to_contain_text("dropped.wav")
    folder = tmp_path / "folder" / "within"
    folder.mkdir(parents=True)
    for name in ("a.mp3", "b.ogg", "notes.txt", ".hidden.wav"):
        (folder / name).write_bytes(b"sound")
    page.get_by_test_id("folder").set_input_files(folder.parent)
    expect(asking).to_contain_text("3 files")
    expect(asking).to_contain_text("2 others left out")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Add recordings").first.click()
    expect(asking.get_by_role("button", name="Transcribe")).to_be_disabled()


def large(folder: Path) -> Path:
    """More than one request of an upload."""
    file = folder / "large.wav"
    file.write_bytes(bytes(20 * 2**20))
    return file


def slowly(page: Page) -> None:
    """Each request of an upload takes a while, so that there is something to pause."""

    def delay(route: Route) -> None:
        time.sleep(0.3)
        route.continue_()

    page.route("**/v1/uploads/*", delay)


def test_an_upload_is_paused_and_goes_on(visit: Visit, site: Site, tmp_path: Path) -> None:
    visitor = visit()
    page = visitor.open()
    slowly(page)
    choose(page, large(tmp_path))
    uploads = page.get_by_role("region", name="Uploads")
    page.get_by_role("button", name="Pause large.wav").click()
    expect(uploads).to_contain_text("Paused")
    assert site.jobs(visitor.key) == []
    page.get_by_role("button", name="Go on with large.wav").click()
    expect(page.locator("li[data-status]")).to_contain_text("large.wav")
    expect(uploads).to_have_count(0)
    assert sent(visitor) <= 4, "what had arrived was not sent again"


def sent(visitor: Visitor) -> int:
    return len({url for url in visitor.asked if "/v1/uploads/" in url})


def test_an_upload_goes_on_after_the_page_was_closed(visit: Visit, site: Site, tmp_path: Path) -> None:
    visitor = visit()
    page = visitor.open()
    slowly(page)
    file = large(tmp_path)
    choose(page, file)
    with page.expect_request(lambda request: request.method == "PATCH"):
        pass
    page.get_by_role("button", name="Pause large.wav").click()
    page.reload()
    uploads = page.get_by_role("region", name="Uploads")
    expect(uploads).to_contain_text("choose the same file again")
    begun = {url for url in visitor.asked if "/v1/uploads/" in url}
    uploads.get_by_role("button", name="Choose file").click()
    page.get_by_test_id("files").set_input_files(file)
    page.get_by_role("button", name="Transcribe 1 recording").click()
    expect(page.locator("li[data-status]")).to_contain_text("large.wav")
    assert {url for url in visitor.asked if "/v1/uploads/" in url} == begun, "it is the same upload"


def test_a_refused_upload_says_why_and_is_tried_again(visit: Visit, tmp_path: Path) -> None:
    visitor = visit(despite=("507",))
    page = visitor.open()
    full = {"code": "disk_full", "title": "Disk full", "detail": "Less than 1 GB is free."}
    page.route(
        "**/v1/jobs",
        lambda route: (
            route.fulfill(status=507, json=full) if route.request.method == "POST" else route.continue_()
        ),
    )
    choose(page, TALK)
    uploads = page.get_by_role("region", name="Uploads")
    expect(uploads).to_contain_text("The server’s disk is full.")
    page.unroute("**/v1/jobs")
    uploads.get_by_role("button", name="Try jfk.flac again").click()
    expect(page.locator("li[data-status]")).to_contain_text("jfk.flac")


@pytest.fixture
def three(site: Site, visit: Visit) -> Visitor:
    """With a failed job, one that waits and one that is done."""
    visitor = visit()
    failed, _, done = (
        make_job(site.sessions, tenant=visitor.tenant, filename=name)
        for name in ("bad.mp3", "next.mp3", "good.mp3")
    )
    with site.sessions.begin() as session:
        broken = session.get_one(Job, failed)
        broken.status, broken.error_code, broken.error_message = (
            JobStatus.FAILED,
            "audio_unreadable",
            "It is no audio.",
        )
        complete = session.get_one(Job, done)
        complete.status, complete.transcript_prefix, complete.degraded = JobStatus.COMPLETED, "x", True
    return visitor


def test_deleting_can_be_undone(three: Visitor, site: Site) -> None:
    page = three.open()
    rows = page.locator("li[data-status]")
    expect(rows).to_have_count(3)
    page.get_by_label("Select bad.mp3").check()
    page.get_by_label("Select next.mp3").check()
    page.get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(rows).to_have_count(3)
    assert len(site.jobs(three.key)) == 3
    page.get_by_role("button", name="Actions for good.mp3").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(rows).to_have_count(2)
    until(lambda: len(site.jobs(three.key)) == 2, "the job is deleted once nobody can undo it")


def test_what_was_deleted_is_so_when_the_page_is_left(three: Visitor, site: Site) -> None:
    page = three.open()
    page.get_by_role("button", name="Actions for good.mp3").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(page.locator("li[data-status]")).to_have_count(2)
    page.goto("about:blank")
    until(lambda: len(site.jobs(three.key)) == 2)


def test_deleting_can_be_undone_from_another_page(three: Visitor, site: Site) -> None:
    page = three.open()
    page.get_by_role("button", name="Actions for good.mp3").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("link", name="Keys").click()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="Recordings").click()
    expect(page.locator("li[data-status]")).to_have_count(3)
    assert len(site.jobs(three.key)) == 3


def test_names_are_text(site: Site, visit: Visit) -> None:
    visitor = visit()
    name = "<img src=x onerror=alert(1)>.mp3"
    make_job(site.sessions, tenant=visitor.tenant, filename=name)
    page = visitor.open()
    expect(page.get_by_role("link", name=name)).to_be_visible()
    assert page.locator("main img").count() == 0


def test_jobs_are_found_by_state_and_name(three: Visitor) -> None:
    page = three.open()
    rows = page.locator("li[data-status]")
    expect(rows).to_have_count(3)
    expect(rows.filter(has_text="bad.mp3")).to_contain_text("This is no audio or video, or it is damaged.")
    expect(rows.filter(has_text="good.mp3")).to_contain_text("Degraded")
    page.get_by_role("button", name="Failed").click()
    expect(rows).to_have_count(1)
    page.reload()
    expect(rows).to_have_text(re.compile("bad.mp3"))
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("searchbox", name="Search").fill("NEXT")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("next.mp3")
    page.get_by_role("searchbox", name="Search").fill("nothing of this name")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()


def test_several_are_stopped_and_tried_again(three: Visitor, site: Site) -> None:
    page = three.open()
    page.get_by_label("Select next.mp3").check()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("li[data-status=cancelled]")).to_have_count(1)
    page.get_by_label("Select next.mp3").check()
    page.get_by_label("Select bad.mp3").check()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("li[data-status=queued]")).to_have_count(2)


def test_more_are_shown_page_by_page(site: Site, visit: Visit) -> None:
    visitor = visit()
    for number in range(35):
        make_job(site.sessions, tenant=visitor.tenant, filename=f"{number}.mp3")
    page = visitor.open()
    rows = page.locator("li[data-status]")
    expect(rows).to_have_count(30)
    page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(35)
    make_job(site.sessions, tenant=visitor.tenant, filename="new.mp3")
    expect(rows.first).to_contain_text("new.mp3")
    expect(rows).to_have_count(36)


def test_it_goes_on_after_the_server_was_away(site: Site, visit: Visit) -> None:
    visitor = visit(despite=("ERR_FAILED",))
    page = visitor.open()
    page.route("**/v1/jobs?*", lambda route: route.abort())
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    make_job(site.sessions, tenant=visitor.tenant, filename="meanwhile.mp3")
    page.unroute("**/v1/jobs?*")
    expect(page.locator("li[data-status]")).to_contain_text("meanwhile.mp3")
    expect(page.get_by_role("alert")).to_have_count(0)
