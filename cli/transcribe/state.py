"""What was begun and what is done: a journal beside the transcripts, which outlives a killed process.

Each line is a JSON object and stands when it is written; the last of a kind counts. A line that was cut short, or
is none of ours, is one that was never written: a folder that is transcribed may come from others. Paths are
relative to the folder where they can be, so that it may be moved; addresses are noted by their hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

from cli.command import Failed
from cli.transcribe.source import Source

NAME = ".longhand-transcribe.jsonl"


class State:
    """Of one root folder. One process has it open at a time."""

    def __init__(self, root: Path) -> None:
        """Raises Failed while another process works on the folder, or if it cannot be written to."""
        self._root = root
        self._files: dict[str, dict[str, Any]] = {}
        self._works: dict[str, dict[str, Any]] = defaultdict(dict)
        self._results: dict[str, dict[str, Any]] = {}
        self._taken: set[Path] = set()
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._journal = self._open(root / NAME)
        except OSError as error:
            raise Failed(
                f"{root} cannot be written to ({error.strerror}): name another folder with --out."
            ) from error

    def _open(self, path: Path) -> BinaryIO:
        # what a link leads to is not ours to lengthen
        journal = os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666), "a+b")
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            journal.close()
            raise Failed(f"Another `longhand transcribe` or `watch-folder` works on {self._root}.") from error
        journal.seek(0)
        content = journal.read()
        for line in content.splitlines():
            try:
                self._apply(json.loads(line))
            except (ValueError, RecursionError):
                continue
        if content and not content.endswith(b"\n"):
            journal.write(b"\n")
        return journal

    def close(self) -> None:
        self._journal.close()

    def digest(self, source: Source, stat: os.stat_result) -> str | None:
        """The SHA-256 of a file, if it has not changed since it was noted."""
        known = self._files.get(self._name(source))
        unchanged = known and (known["size"], known["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
        return str(known["sha256"]) if known and unchanged else None

    def note_digest(self, source: Source, stat: os.stat_result, sha256: str) -> None:
        self._write(
            {"file": self._name(source), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
        )

    def work(self, key: str) -> Mapping[str, Any]:
        """What was begun for a recording with its options: ``id``, of its upload and job, ``idempotency_key``."""
        return self._works[key]

    def note_work(self, key: str, **known: str) -> None:
        self._write({"work": key, **known})

    def target(self, source: Source, formats: Sequence[str]) -> Path:
        """Where the transcripts of a source go, without a format's ending; the same in every run.

        Named like the recording, where nothing else is: neither another's transcript nor a file that is not ours.
        """
        if not self._has_target(source):
            name = source.filename
            candidates = chain([name.rpartition(".")[0] or name, name], (f"{name}-{n}" for n in count(2)))
            base = next(
                base
                for base in map(source.folder.joinpath, candidates)
                if _folded(base) not in self._taken and not any(file_of(base, each).exists() for each in formats)
            )
            relative = str(base.relative_to(self._root))
            self._write({"result": self._name(source), "base": relative, "formats": {}})
        return self._root / str(self._results[self._name(source)]["base"])

    def is_done(self, source: Source, format_: str, key: str, *, there: bool = True) -> bool:
        """Whether the transcript is of this content and these options, and is ``there``, or was."""
        known = self._results[self._name(source)]
        is_of_key = known["formats"].get(format_) == key
        return is_of_key and (not there or file_of(self._root / known["base"], format_).exists())

    def is_of_another(self, source: Source, format_: str, key: str) -> bool:
        """Whether the transcript is there, of other content or options."""
        known = self._results[self._name(source)]["formats"].get(format_)
        return known is not None and known != key

    def is_claimed(self, source: Source, format_: str) -> bool:
        """Whether the file of this name is from here, if there is one."""
        return format_ in self._results[self._name(source)]["formats"]

    def claim(self, source: Source, format_: str) -> None:
        """Before a transcript is written. Raises Failed where that would replace a file that is not ours."""
        file = file_of(self._root / self._results[self._name(source)]["base"], format_)
        if not self.is_claimed(source, format_) and file.exists():
            raise Failed(f"{file} is there already, and not from here: move it away.")
        self._note_format(source, format_, None)

    def note_done(self, source: Source, format_: str, key: str) -> None:
        self._note_format(source, format_, key)

    def _note_format(self, source: Source, format_: str, key: str | None) -> None:
        known = self._results[self._name(source)]
        self._write({**known, "formats": {**known["formats"], format_: key}})

    def _name(self, source: Source) -> str:
        if source.is_url:
            # an address may hold a credential
            return f"sha256:{hashlib.sha256(source.name.encode(errors='surrogateescape')).hexdigest()}"
        inside = source.path.is_relative_to(self._root)
        return str(source.path.relative_to(self._root)) if inside else source.name

    def _write(self, line: Mapping[str, Any]) -> None:
        self._apply(line)
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()

    def _apply(self, line: Mapping[str, Any]) -> None:
        """Raises ValueError for what is no line of a journal."""
        match line:
            case {"file": str(name), "size": int(), "mtime_ns": int(), "sha256": str()}:
                self._files[name] = dict(line)
            case {"work": str(key), **known} if _are_strings(known.values()):
                self._works[key] |= known
            case {"result": str(name), "base": str(base), "formats": dict(formats)} if _are_strings(
                each for each in formats.values() if each is not None
            ):
                os.fsencode(base)  # raises ValueError for what can be no file's name
                if "\0" in base or not Path(base).name or Path(base).is_absolute() or ".." in Path(base).parts:
                    raise ValueError(f"{base!r} is no place below {self._root}.")
                self._results[name] = dict(line)
                self._taken.add(_folded(self._root / base))
            case _:
                raise ValueError(f"{line!r} is no line of a journal.")

    def _has_target(self, source: Source) -> bool:
        """Whether one is known, which no link of the folder's leads out of it."""
        if (known := self._results.get(self._name(source))) is None:
            return False
        base: Path = self._root / known["base"]
        # the source's own folder was chosen by the user, who may have put it elsewhere by a link
        try:
            return base.parent == source.folder or base.parent.resolve().is_relative_to(self._root.resolve())
        except (OSError, RuntimeError):  # links that lead in a circle
            return False


ENDINGS = {"karaoke": "karaoke.vtt", "textgrid": "TextGrid"}
"""Of formats that are not called like their files."""


def file_of(base: Path, format_: str) -> Path:
    return base.with_name(f"{base.name}.{ENDINGS.get(format_, format_)}")


def _are_strings(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _folded(path: Path) -> Path:
    """The same for names that some file systems do not tell apart."""
    return Path(str(path).casefold())
