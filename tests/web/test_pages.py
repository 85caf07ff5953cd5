"""Every page: whom it lets in, who can read it, and how; and what can be done there."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from api.app import create_app
from db.models import Export, Job, ModelVersion, StoredKey, StoredVoice, VersionState
from db.settings import Settings
from tests.api.conftest import serving
from tests.jobs import add_chunks, make_job
from tests.media import DATA
from tests.web.conftest import Site, Visit, grave_faults
from tests.web.showcase import fill

PATHS = ("/", "/search?q=the", "/voices", "/vocabulary", "/training", "/usage", "/queues", "/keys")
NOT_WELCOME = ("401",)
"""What the console says of a request without a valid key."""


def ready(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("status", name="Loading")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_everybody_can_read_it(visit: Visit, theme: str, width: int) -> None:
    """axe finds nothing serious, nothing is wider than the window, and the policy forbids nothing."""
    visitor = visit(color_scheme=theme, viewport={"width": width, "height": 900}, reduced_motion="reduce")
    fill(visitor.site.sessions, visitor.tenant)
    for path in PATHS:
        page = visitor.open(path)
        ready(page)
        assert grave_faults(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert grave_faults(page) == []
    visitor.open("/")
    page.get_by_role("button", name="Add recordings").click()
    page.get_by_text("More options").click()
    assert grave_faults(page) == []


def test_it_is_used_by_the_keyboard_alone(visit: Visit, site: Site) -> None:
    visitor = visit()
    fill(site.sessions, visitor.tenant)
    page = visitor.open()
    ready(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Record", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Add recordings")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Add recordings")).to_be_focused()
    page.get_by_role("button", name="Actions for notes.pdf").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Try again")).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="notes.pdf")).to_have_count(0)
    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="notes.pdf")).to_be_visible()


def test_a_key_is_asked_for_and_kept_for_the_tab(visit: Visit) -> None:
    visitor = visit(signed_in=False, despite=NOT_WELCOME)
    page = visitor.open("/usage")
    asking = page.get_by_role("dialog", name="Sign in")
    assert grave_faults(page) == []
    asking.get_by_label("API key").fill("wrong")
    asking.get_by_role("button", name="Sign in").click()
    expect(asking).to_contain_text("This key is unknown")
    asking.get_by_label("API key").fill(visitor.key)
    asking.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1, name="Usage")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", level=1, name="Usage")).to_be_visible()
    other = visitor.context.new_page()
    other.goto(visitor.site.url)
    expect(other.get_by_role("dialog", name="Sign in")).to_be_visible()
    page.evaluate("window.theirs = 'in memory'")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_function("window.theirs === undefined")
    expect(asking).to_be_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0


def test_a_key_is_kept_for_longer_if_asked_to(visit: Visit) -> None:
    visitor = visit(signed_in=False, despite=NOT_WELCOME)
    page = visitor.open()
    asking = page.get_by_role("dialog", name="Sign in")
    asking.get_by_label("API key").fill(visitor.key)
    asking.get_by_label("Stay signed in").check()
    asking.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1, name="Recordings")).to_be_visible()
    other = visitor.context.new_page()
    other.goto(visitor.site.url)
    expect(other.get_by_role("heading", level=1, name="Recordings")).to_be_visible()


def test_a_reader_is_shown_what_it_may_do(visit: Visit, site: Site) -> None:
    visitor = visit(signed_in=False, despite=NOT_WELCOME)
    fill(site.sessions, visitor.tenant)
    page = visitor.open()
    page.get_by_label("API key").fill(site.key(visitor.tenant, "jobs:read"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Board meeting.wav")).to_be_visible()
    expect(page.get_by_role("button", name="Add recordings")).to_have_count(0)
    expect(page.get_by_role("button", name="Actions for Board meeting.wav")).to_have_count(0)
    pages = page.get_by_role("navigation", name="Pages")
    expect(pages.get_by_role("link")).to_have_text(["Recordings", "Search", "Vocabulary", "Usage"])


def test_an_open_server_asks_for_nothing(settings: Settings, browser: Browser) -> None:
    with serving(create_app(settings), settings) as client, browser.new_context(locale="en-GB") as context:
        page = context.new_page()
        page.goto(str(client.base_url))
        expect(page.get_by_role("heading", name="No recordings yet")).to_be_visible()
        expect(page.get_by_role("button", name="Sign out")).to_have_count(0)


def test_language_and_theme_are_chosen(visit: Visit) -> None:
    page = visit().open("/voices")
    page.get_by_role("button", name="Language").click()
    page.get_by_role("menuitemcheckbox", name="中文").click()
    expect(page.get_by_role("heading", level=1, name="声音")).to_be_visible()
    page.get_by_role("button", name="主题").click()
    page.get_by_role("menuitemcheckbox", name="深色").click()
    page.reload()
    expect(page.get_by_role("heading", level=1, name="声音")).to_be_visible()
    assert page.evaluate(
        "[document.documentElement.lang, getComputedStyle(document.documentElement).colorScheme]"
    ) == [
        "zh-Hans",
        "dark",
    ]


def test_it_comes_up_in_the_readers_language(visit: Visit) -> None:
    page = visit(locale="zh-CN").open()
    expect(page.get_by_role("heading", level=1, name="录音")).to_be_visible()


def test_voices_are_heard_renamed_and_forgotten(visit: Visit, site: Site) -> None:
    visitor = visit()
    case = fill(site.sessions, visitor.tenant)
    recording = (DATA / "jfk.flac").read_bytes()
    with site.sessions() as session:
        source = session.scalars(select(Job.source_key).where(Job.id == case.jobs["Board meeting.wav"])).one()
    site.runtime.storage.put(source, recording, "audio/flac")
    page = visitor.open("/voices")
    with page.expect_request(re.compile("X-Amz-Signature")):
        page.get_by_role("button", name="Listen to Ada Lovelace").click()
    expect(page.get_by_text("The engine weaves algebraical patterns.")).to_be_visible()
    page.get_by_role("button", name="Listen to Ada Lovelace").click()
    expect(page.get_by_role("button", name="Listen to Ada Lovelace")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Listen to Grace Hopper").click()
    expect(page.get_by_role("status")).to_contain_text("was not heard in any recording yet")
    page.get_by_role("button", name="Actions for Grace Hopper").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_role("textbox", name="Name").fill("Ada Lovelace")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_contain_text("There is another voice of this name.")
    page.get_by_role("textbox", name="Name").fill("Rear Admiral Hopper")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Rear Admiral Hopper")).to_be_visible()
    page.get_by_role("button", name="Actions for Ada Lovelace").click()
    page.get_by_role("menuitem", name="Forget").click()
    page.get_by_role("button", name="Forget").click()
    expect(page.get_by_role("button", name="Actions for Ada Lovelace")).to_have_count(0)
    with site.sessions() as session:
        named = select(StoredVoice.name).where(StoredVoice.tenant == visitor.tenant)
        assert "Ada Lovelace" not in set(session.scalars(named))
    visitor.complaints = [each for each in visitor.complaints if "409" not in each]


def test_a_voice_is_enrolled(visit: Visit, site: Site) -> None:
    visitor = visit()
    page = visitor.open("/voices")
    page.get_by_role("button", name="Add a voice").click()
    page.get_by_role("textbox", name="Name").fill("Ada")
    page.get_by_label("Recording", exact=True).set_input_files(DATA / "jfk.flac")
    page.get_by_role("dialog").get_by_role("button", name="Add a voice").click()
    expect(page.get_by_text("Learning")).to_be_visible()


def test_versions_are_promoted_and_rolled_back(visit: Visit, site: Site) -> None:
    visitor = visit()
    fill(site.sessions, visitor.tenant)
    page = visitor.open("/training")
    expect(
        page.get_by_text("Wrong characters in drafts: 14.8% before, 12.1% with the version that serves.")
    ).to_be_visible()
    fourth = page.get_by_role("listitem").filter(has_text="Version 4")
    fourth.get_by_role("button", name="Promote").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    expect(fourth.first).to_contain_text("Serving")
    fourth.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(fourth.first).to_contain_text("Rolled back")
    with site.sessions() as session:
        states = select(ModelVersion.number).where(
            ModelVersion.tenant == visitor.tenant, ModelVersion.state == VersionState.SERVING
        )
        assert session.scalars(states).all() == [3]
    page.get_by_role("button", name="Export yesterday").click()
    expect(page.get_by_role("status")).to_contain_text("The export has begun")
    with site.sessions() as session:
        assert len(session.scalars(select(Export.date).where(Export.tenant == visitor.tenant)).all()) == 4


def test_a_key_is_made_shown_once_and_revoked(visit: Visit, site: Site) -> None:
    visitor = visit()
    page = visitor.open("/keys")
    page.get_by_role("button", name="Make a key").click()
    page.get_by_role("textbox", name="Name").fill("importer")
    page.get_by_label("voices").check()
    page.get_by_role("dialog").get_by_role("button", name="Make a key").click()
    shown = page.get_by_role("dialog", name="The key of importer")
    key = shown.get_by_role("textbox").input_value()
    assert site.jobs(key) == []
    shown.get_by_role("button", name="Close").last.click()
    expect(page.get_by_text(key)).to_have_count(0)
    listed = page.get_by_role("row").filter(has_text="importer")
    listed.get_by_role("button", name="Actions for importer").click()
    page.get_by_role("menuitem", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(listed).to_contain_text("Revoked")
    with site.sessions() as session:
        row = session.scalars(
            select(StoredKey).where(StoredKey.name == "importer", StoredKey.tenant == visitor.tenant)
        ).one()
        assert set(row.scopes) == {"jobs:read", "jobs:write", "voices"}
        assert row.revoked_at is not None


def test_usage_is_shown_and_saved(visit: Visit, site: Site) -> None:
    visitor = visit()
    fill(site.sessions, visitor.tenant)
    page = visitor.open("/usage")
    expect(page.get_by_role("cell", name="sensevoice-small")).to_be_visible()
    page.get_by_label("Span").select_option("7")
    with page.expect_download() as saving:
        page.get_by_role("button", name="CSV").click()
    assert saving.value.suggested_filename.startswith("usage-")
    assert "sensevoice-small" in saving.value.path().read_text()


def test_queues_are_shown_to_admins(visit: Visit, site: Site) -> None:
    visitor = visit()
    job = make_job(site.sessions, tenant=visitor.tenant)
    add_chunks(site.sessions, job, 3)
    page = visitor.open("/")
    page.get_by_role("link", name="Queues").click()
    expect(page.get_by_role("heading", name="cpu")).to_contain_text("0 workers")
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name="draft", exact=True))
    expect(row.get_by_role("cell").nth(1)).to_have_text("3")
    expect(row).to_contain_text("not known yet")
    # it is asked again and again
    add_chunks(site.sessions, job, 2)
    expect(row.get_by_role("cell").nth(1)).to_have_text("5", timeout=20_000)


class TestWhatIsServed:
    def test_files_with_a_hash_never_change(self, site: Site) -> None:
        document = site.http.get("/", headers={"Accept-Encoding": "gzip"})
        assert document.headers["Content-Encoding"] == "gzip"
        assert document.headers["Cache-Control"] == "no-cache"
        (script,) = re.findall(r'src="(/assets/[^"]+\.js)"', document.text)
        asset = site.http.get(script)
        assert "immutable" in asset.headers["Cache-Control"]
        assert asset.headers["Content-Type"].startswith("text/javascript")
        assert site.http.get("/assets/none.js").json()["code"] == "not_found"

    @pytest.mark.parametrize("path", ["/", "/jobs/0", "/voices", "/training", "/usage", "/keys", "/queues"])
    def test_pages_can_be_asked_for_by_their_paths(self, site: Site, path: str) -> None:
        answer = site.http.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert answer.text.startswith("<!doctype html>")
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert f"{site.settings.live_url};" in policy, "and live sessions, where they are"
        assert site.http.head(path).status_code == 200

    def test_other_paths_are_not_the_pages(self, site: Site) -> None:
        assert site.http.get("/nowhere").json()["code"] == "not_found"
        assert site.http.get("/v1/nowhere").json()["code"] == "unauthorized"
        assert site.http.get("/healthz").json() == {"status": "ok"}
