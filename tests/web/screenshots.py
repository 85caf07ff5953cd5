"""Pictures of every page, for docs/screenshots/: `make screenshots` runs it, `make test` does not."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from db.objects.storage import Storage
from tests.live.conftest import serving
from tests.web.conftest import Site, Visit
from tests.web.conversation import converse
from tests.web.showcase import Showcase, fill

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SIZES = {"wide": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
QUALITY = 0.8
TALK = "Lecture 7 – Operating systems.mp4"


def add_recordings(page: Page) -> None:
    page.get_by_role("button", name="Add recordings").click()
    page.get_by_label("Or by address").fill("https://recordings.example/talk.mp3")
    page.get_by_label("Names and terms").fill("Ada Lovelace, Analytical Engine")


def settle(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("status", name="Loading")).to_have_count(0)


def read(page: Page) -> None:
    """Somebody listens, and has looked for words that are doubtful."""
    expect(page.locator("article").nth(3)).to_be_visible()
    if page.viewport_size == SIZES["wide"]:
        page.get_by_label("Mark doubtful words").check()
    page.locator("article").nth(5).get_by_text("fourth").click()
    page.keyboard.press("Space")
    expect(page.locator(".spoken")).to_have_count(1)
    page.wait_for_timeout(300)


def type_over(page: Page) -> None:
    read(page)
    page.keyboard.press("e")
    page.keyboard.press("End")
    page.keyboard.type(" Nobody spoke.")
    page.wait_for_timeout(300)


def speak(page: Page) -> None:
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_role("button", name="Start recording").click()
    expect(page.get_by_role("log")).to_contain_text(re.compile("can do for you", re.IGNORECASE))


@pytest.fixture(scope="module")
def live(site: Site) -> Iterator[str]:
    """Live sessions where the page looks for them, with real engines."""
    assert site.settings.live_url is not None
    with serving(site.settings, port=urlsplit(site.settings.live_url).port) as url:
        yield url


Prepare = Callable[[Page], None]

SHOTS: dict[str, tuple[Callable[[Showcase], str], Prepare]] = {
    "home": (lambda _: "/", settle),
    "add": (lambda _: "/", add_recordings),
    "transcript": (lambda case: f"/jobs/{case.jobs[TALK]}", read),
    "correcting": (lambda case: f"/jobs/{case.jobs[TALK]}", type_over),
    "voices": (lambda _: "/voices", settle),
    "models": (lambda _: "/training", settle),
    "usage": (lambda _: "/usage", settle),
    "keys": (lambda _: "/keys", settle),
    # the last one: who leaves it is asked whether to
    "record": (lambda _: "/", speak),
}
"""By the name of the picture: the path, and what is done there before it is taken."""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("live")
def test_pictures(visit: Visit, size: str, theme: str) -> None:
    visitor = visit(viewport=SIZES[size], color_scheme=theme, reduced_motion="reduce")
    case = fill(visitor.site.sessions, visitor.tenant)
    converse(visitor.site.sessions, Storage(visitor.site.settings), case.jobs[TALK])
    for name, (path, prepare) in SHOTS.items():
        page = visitor.open(path(case))
        prepare(page)
        write(page, FOLDER / f"{name}-{size}-{theme}.webp")


def write(page: Page, file: Path) -> None:
    """What the page shows, as WebP, which Chromium itself makes of it."""
    png = base64.b64encode(page.screenshot()).decode()
    other = page.context.new_page()
    webp = other.evaluate(
        """async ([png, quality]) => {
            const image = new Image();
            image.src = `data:image/png;base64,${png}`;
            await image.decode();
            const canvas = new OffscreenCanvas(image.width, image.height);
            canvas.getContext("2d").drawImage(image, 0, 0);
            const blob = await canvas.convertToBlob({ type: "image/webp", quality });
            const bytes = new Uint8Array(await blob.arrayBuffer());
            return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
        }""",
        [png, QUALITY],
    )
    other.close()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(webp))
