"""The names of files that clients save."""

from __future__ import annotations

import re
from urllib.parse import quote

from speech.text.cleaning import single_line

NOT_IN_FILE_NAMES = re.compile(r'[<>:"/\\|?*%\x7f]')
"""On the file systems that there are; and what clients may decode once more."""
MAX_STEM_BYTES = 150


def file_stem(name: str) -> str:
    """A name as file systems take it, without the ending."""
    stem = NOT_IN_FILE_NAMES.sub("_", single_line(name))
    return stem.encode()[:MAX_STEM_BYTES].decode(errors="ignore").strip(" .") or "download"


def attachment(stem: str, ending: str) -> dict[str, str]:
    """The header that names a download (RFC 6266): with a plain name beside, if it is not plain itself."""
    stem = file_stem(stem)
    plain = re.sub(r"[^ -~]", "_", stem)
    value = f'attachment; filename="{plain}.{ending}"'
    if plain != stem:
        value += f"; filename*=UTF-8''{quote(f'{stem}.{ending}', safe='')}"
    return {"Content-Disposition": value}
