"""Words spoken to the page come out live, and stand in the transcript at the end."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from cli.stack.stack import Stack
from tests.browser import WAIT_MS, chromium

SPOKEN = re.compile(r"what you can do for your country", re.IGNORECASE)


def test_what_is_said_is_heard(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    """On a server without keys, by its other name: the page is of `localhost`, live sessions are not."""
    expect.set_options(timeout=WAIT_MS)
    folder = tmp_path_factory.mktemp("spoken")
    with chromium(folder) as browser, browser.new_context(locale="en-GB") as context:
        complaints: list[str] = []
        context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page = context.new_page()
        page.goto(stack.api_url.replace("127.0.0.1", "localhost"))
        page.get_by_role("button", name="Record", exact=True).first.click()
        page.get_by_role("combobox", name="Language").last.select_option("en")
        page.get_by_role("button", name="Start recording").click()
        panel = page.get_by_role("region", name="Recording now")
        expect(panel.get_by_role("log")).to_contain_text(re.compile("and so", re.IGNORECASE))
        expect(panel.get_by_role("log")).to_contain_text(SPOKEN)
        panel.get_by_role("button", name="Stop").click()
        expect(page).to_have_url(re.compile("/jobs/[0-9a-f-]{36}$"))
        expect(page.get_by_role("main")).to_contain_text(SPOKEN)
        expect(page.get_by_role("progressbar")).to_have_count(0)
        expect(page.get_by_role("main")).to_contain_text(SPOKEN)
        assert complaints == []
