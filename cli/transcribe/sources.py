"""What is to be transcribed: files, what of folders looks like a recording, and addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cli.command import ExitCode, Failed

EXTENSIONS = frozenset(
    [
        *(
            "3gp",
            "aac",
            "ac3",
            "aif",
            "aiff",
            "amr",
            "ape",
            "avi",
            "caf",
            "flac",
            "flv",
            "m4a",
            "m4b",
            "m4v",
            "mka",
        ),
        *("mkv", "mov", "mp2", "mp3", "mp4", "mpeg", "mpg", "mts", "oga", "ogg", "opus", "ts", "wav", "webm"),
        *("wma", "wmv"),
    ]
)
"""Of files in folders. What is named itself is sent whatever it is called: the server looks inside."""

SCHEMES = ("http://", "https://", "s3://")


@dataclass(frozen=True, slots=True)
class Source:
    """A recording, and where its transcripts go."""

    name: str
    """An absolute path, or an address."""
    folder: Path
    """That its transcripts are written to."""
    root: Path
    """Where what is done is kept: the folder given by --out, or the one that was searched."""

    @property
    def is_url(self) -> bool:
        return self.name.startswith(SCHEMES)

    @property
    def path(self) -> Path:
        return Path(self.name)

    @property
    def filename(self) -> str:
        """Fit to be a file's name here."""
        if not self.is_url:
            return self.path.name
        address = urlsplit(self.name)
        last = unquote(address.path).rstrip("/").rpartition("/")[2] or address.hostname or "recording"
        return re.sub(r"[^\w.-]+", "_", last)[:100].lstrip(".") or "recording"


def find(arguments: Sequence[str], out: Path | None) -> list[Source]:
    """All recordings, each once, in order. Raises Failed for a path that there is not."""
    found: dict[str, Source] = {}
    for argument in arguments:
        for source in _expand(argument, out.absolute() if out else None):
            found.setdefault(source.name, source)
    return list(found.values())


def _expand(argument: str, out: Path | None) -> Iterator[Source]:
    if argument.startswith(SCHEMES):
        folder = out or Path.cwd()
        yield Source(argument, folder, folder)
        return
    path = Path(argument).absolute()
    if path.is_dir():
        for file in _recordings(path):
            yield Source(str(file), (out or path) / file.parent.relative_to(path), out or path)
    elif path.is_file():
        yield Source(str(path), out or path.parent, out or path.parent)
    else:
        raise Failed(f"There is no file or folder {argument}.", ExitCode.USAGE)


def _recordings(folder: Path) -> Iterator[Path]:
    """Neither hidden ones nor through links to folders; and folders that cannot be read, to fail by themselves."""
    unreadable: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix[1:].lower() in EXTENSIONS:
                yield Path(place, name)
    yield from (Path(error.filename) for error in unreadable)
