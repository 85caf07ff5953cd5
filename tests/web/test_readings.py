"""What a language model made of a transcript, and the vocabulary, on the page."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, expect

from api.app import create_app
from db import readings
from db.models import ReadingKind
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.readings import Made
from db.session import Sessions
from db.settings import Settings
from tests.api.conftest import serving
from tests.browser import WAIT_MS
from tests.media import DATA
from tests.transcribed import transcribed
from tests.web.conftest import grave_faults

TEXTS = ["aider sat down", "then aider spoke", "and the budget is large"]


def test_a_citation_plays_and_a_proposal_is_accepted(
    settings: Settings, sessions: Sessions, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "endpoints.toml"
    file.write_text('[[language_model]]\nname = "reader"\nhosts = ["http://127.0.0.1:9"]\n')
    with_model = settings.model_copy(update={"endpoints": file})
    job = transcribed(sessions, TEXTS)
    Storage(settings).put(f"jobs/{job}/source", (DATA / "ocean_0036.flac").read_bytes(), "audio/flac")
    said = {"text": "The budget is large.", "segments": [2], "start": 12.0}
    content = {"title": said | {"text": "A budget"}, "summary": [said], "chapters": [], "actions": []}
    with job_transaction(sessions, job) as tx:
        number = readings.start(tx, ReadingKind.SUMMARY, {}).number
        readings.complete(tx, number, Made(content, "reader", {}, None))
        number = readings.start(tx, ReadingKind.TRANSLATION, {"language": "fr"}).number
        french = [{"index": 2, "version": 0, "text": "et le budget est grand"}]
        readings.complete(tx, number, Made({"segments": french}, "reader", {}, None))
    with serving(create_app(with_model), with_model) as http:
        for index, text in enumerate(["Ada sat down", "then Ada spoke"]):
            http.patch(f"/v1/jobs/{job}/segments/{index}", json={"text": text}).raise_for_status()
        context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(f"{http.base_url}/jobs/{job}")
        expect(page.get_by_text("The transcript was changed since.")).to_have_count(2)
        expect(page.get_by_role("heading", name="A budget")).to_be_visible()
        page.get_by_role("button", name="The budget is large.").click()
        expect(page.get_by_role("slider", name="Position in the recording")).to_have_attribute(
            "aria-valuenow", re.compile(r"^1[2-9]")
        )
        page.get_by_role("checkbox", name="French").check()
        expect(page.get_by_text("et le budget est grand")).to_be_visible()
        expect(page.get_by_text("and the budget is large")).to_be_visible()
        page.get_by_role("button", name="Download in French").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name="Subtitles (SRT)").click()
        assert download.value.suggested_filename.endswith(".fr.srt")
        assert "et le budget est grand" in download.value.path().read_text()
        page.get_by_label("Translate into …").select_option("de")
        page.get_by_role("button", name="Translate", exact=True).click()
        expect(page.get_by_text("It is being translated …")).to_be_visible()
        page.get_by_label("Ask about this recording").fill("How large?")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The answer is being written …")).to_be_visible()
        assert grave_faults(page) == []
        page.goto(f"{http.base_url}/vocabulary")
        expect(page.get_by_text("Corrected 2 times, heard as: aider")).to_be_visible()
        page.get_by_role("button", name="Accept").click()
        expect(page.get_by_text("Heard as: aider", exact=True)).to_be_visible()
        assert grave_faults(page) == []
        # a player may ask for what follows the last byte
        assert [each for each in complaints if "416" not in each] == []
        context.close()
