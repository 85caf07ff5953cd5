"""What is to be transcribed: files, what of folders looks like a recording, addresses, and what batches name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cli.command import ExitCode, Failed
from cli.transcribe import batch
from cli.transcribe.source import SCHEMES, Source
from db.recordings import is_recording


def find(arguments: Sequence[str], out: Path | None) -> list[Source]:
    """All recordings, each once, in order. Raises Failed for a path that there is not, and for a faulty batch."""
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
    path = Path(os.path.abspath(argument))  # noqa: PTH100  (resolve() would follow links)
    if path.is_dir():
        for file in _recordings(path):
            yield Source(str(file), (out or path) / file.parent.relative_to(path), out or path)
    elif path.is_file() and path.suffix.lower() == ".csv":
        yield from batch.read(path, out)
    elif path.is_file():
        yield Source(str(path), out or path.parent, out or path.parent)
    else:
        raise Failed(f"There is no file or folder {argument}.", ExitCode.USAGE)


def _recordings(folder: Path) -> Iterator[Path]:
    """Neither hidden ones nor through links to folders; and folders that cannot be read, to fail by themselves."""
    unreadable: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if is_recording(Path(name)))
    yield from (Path(error.filename) for error in unreadable)
