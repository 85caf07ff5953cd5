"""Batches: a CSV whose column `file` names recordings, and whose other columns are options of their jobs."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from cli.command import ExitCode, Failed
from cli.transcribe.files import write_whole
from cli.transcribe.source import SCHEMES, Row, Source

FILE = "file"
RESULTS = (FILE, "outcome", "transcripts", "job_id", "error")
DELIMITERS = ",;\t"
"""Spreadsheets write whichever is usual where they run."""


def read(path: Path, out: Path | None) -> Iterator[Source]:
    """The recordings of a batch, relative to its folder. Raises Failed, which names line and column."""
    lines: dict[str, int] = {}
    for row in _rows(path):
        source = _source(row, out)
        if (first := lines.setdefault(source.name, row.line)) != row.line:
            raise _wrong(row, f"column {FILE}: {row.file} stands in line {first} already")
        yield source


def _source(row: Row, out: Path | None) -> Source:
    base = row.batch.parent
    if row.file.startswith(SCHEMES):
        return Source(row.file, out or base, out or base, row)
    file = base / row.file
    if not file.is_file():
        raise _wrong(row, f"column {FILE}: there is no file {row.file}")
    if file.is_relative_to(base) and ".." not in file.parts:
        return Source(str(file), (out or base) / file.parent.relative_to(base), out or base, row)
    file = file.resolve()
    return Source(str(file), out or file.parent, out or file.parent, row)


def _rows(path: Path) -> Iterator[Row]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failed(f"{path} is not UTF-8: save it as CSV UTF-8.", ExitCode.USAGE) from error
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}.", ExitCode.USAGE) from error
    head = content.partition("\n")[0]
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=max(DELIMITERS, key=head.count), strict=True)
    try:
        columns = _columns(path, next(reader, []))
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            given = dict(zip(columns, cells, strict=False))
            row = Row(
                path, reader.line_num, given.pop(FILE, ""), {name: cell for name, cell in given.items() if cell}
            )
            if len(cells) > len(columns):
                raise _wrong(row, f"{len(cells)} fields for {len(columns)} columns; quote those with commas")
            if not row.file:
                raise _wrong(row, f"column {FILE}: it is empty")
            yield row
    except csv.Error as error:
        raise Failed(f"{path}, line {reader.line_num}: {error}.", ExitCode.USAGE) from error


def _columns(path: Path, names: Sequence[str]) -> list[str]:
    columns = [name.strip() for name in names]
    if FILE not in columns:
        raise Failed(f"{path}, line 1: there is no column {FILE}.", ExitCode.USAGE)
    for number, name in enumerate(columns, 1):
        if not name or name in columns[: number - 1]:
            fault = f"is there twice: {name}" if name else "has no name"
            raise Failed(f"{path}, line 1: column {number} {fault}.", ExitCode.USAGE)
    return columns


def _wrong(row: Row, what: str) -> Failed:
    return Failed(f"{row}, {what}.", ExitCode.USAGE)


def write_results(results: Sequence[tuple[Row, Sequence[str]]], out: Path | None) -> None:
    """`batch.results.csv` beside each batch, or in ``out``: what became of each row, in RESULTS but the file."""
    written: dict[Path, list[list[str]]] = defaultdict(list)
    for row, cells in results:
        written[row.batch].append([row.file, *cells])
    for batch, rows in written.items():
        text = io.StringIO(newline="")
        csv.writer(text).writerows([RESULTS, *rows])
        write_whole((out or batch.parent) / f"{batch.stem}.results.csv", text.getvalue().encode())
