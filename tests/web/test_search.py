"""Finding what was said, sorting recordings, and showing one to somebody without a key."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from db.search import meanings
from db.tenant_role import ensure_tenant_role
from tasks.maintenance.meanings import read_more
from tasks.steps import index
from tests.api.test_search import add_transcript
from tests.web.conftest import Site, Visit, Visitor, grave_faults


@pytest.fixture
def visitor(visit: Visit, site: Site) -> Visitor:
    """Somebody with two recordings, whose sound is nowhere."""
    visitor = visit(despite=("404", "403", "409", "Failed to load resource"))
    add_transcript(
        site.sessions, ["Good morning.", "The 𝕏 budget is small."], tenant=visitor.tenant, filename="board.flac"
    )
    add_transcript(site.sessions, ["We speak of plans."], tenant=visitor.tenant, filename="talk.flac")
    return visitor


def test_a_search_opens_the_recording_where_it_was_said(visitor: Visitor) -> None:
    page = visitor.open("/search")
    page.get_by_role("searchbox").fill("budget")
    expect(page.locator("mark")).to_have_text("budget")
    assert grave_faults(page) == []
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Money")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("searchbox").fill("nothing of this")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("button", name="Saved").click()
    page.get_by_role("menuitemcheckbox", name="Money").click()
    page.get_by_role("link", name="budget").click()
    expect(page).to_have_url(re.compile(r"/jobs/.*\?t=12&play=1$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("board.flac")
    expect(page.locator("article").filter(has_text="budget")).to_be_visible()


def test_a_search_by_meaning_needs_none_of_the_words(visitor: Visitor, site: Site) -> None:
    page = visitor.open("/search?q=our+funds+are+limited&mode=meaning")
    expect(page.get_by_text("pgvector")).to_be_visible()
    page.get_by_label("Find").select_option(value="")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    expect(page.get_by_label("Find")).to_have_count(0)
    meanings.create(site.settings.database_url)
    ensure_tenant_role(site.settings.database_url)
    read_more(site.runtime)
    site.work(index.handler)
    page.reload()
    page.get_by_label("Find").select_option(label="What it means (English)")
    expect(page.get_by_role("link", name="budget is small")).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    assert grave_faults(page) == []


def test_recordings_are_sorted(visitor: Visitor) -> None:
    page = visitor.open()
    page.get_by_role("button", name="Actions for board.flac").click()
    page.get_by_role("menuitem", name="Title and tags").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Title").fill("The board")
    dialog.get_by_label("Tags").fill("money, 2026")
    dialog.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Tag: money").click()
    expect(page.get_by_role("link", name="The board")).to_be_visible()
    expect(page.get_by_role("link", name="talk.flac")).to_have_count(0)
    page.get_by_label("Select The board").check()
    page.get_by_role("button", name="Tags", exact=True).click()
    dialog.get_by_label("Tags", exact=True).fill("minutes, money")
    dialog.get_by_role("button", name="Add the tags").click()
    expect(page.get_by_role("button", name="Tag: minutes")).to_be_visible()
    page.get_by_label("Select The board").check()
    page.get_by_role("button", name="Add to a collection").click()
    dialog.get_by_label("Name").fill("Meetings")
    assert grave_faults(page) == []
    dialog.get_by_role("button", name="Add to a collection").click()
    page.get_by_role("button", name="money: show recordings with any tag").click()
    expect(page.get_by_role("link", name="talk.flac")).to_be_visible()
    page.get_by_label("Collection").select_option(label="Meetings (1)")
    expect(page.get_by_role("link", name="talk.flac")).to_have_count(0)
    expect(page.get_by_role("link", name="The board")).to_be_visible()


def test_a_link_shows_the_transcript_without_a_key(visitor: Visitor, visit: Visit) -> None:
    page = visitor.open()
    page.get_by_role("button", name="Actions for board.flac").click()
    page.get_by_role("menuitem", name="Share").click()
    page.get_by_label("With the recording").uncheck()
    page.get_by_role("button", name="Make a link").click()
    address = page.get_by_label("Link", exact=True).input_value()
    assert grave_faults(page) == []
    stranger = visit(signed_in=False, despite=("401",))
    seen = stranger.page
    seen.goto(address)
    expect(seen.get_by_role("heading", level=1)).to_have_text("board")
    expect(seen.get_by_text("budget is small")).to_be_visible()
    expect(seen.get_by_role("navigation")).to_have_count(0)
    assert grave_faults(seen) == []
    assert not [url for url in stranger.asked if "lhl_" in url.partition("#")[0]]
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)
    seen.reload()
    expect(seen.get_by_text("has expired or was revoked")).to_be_visible()
