"""Reading a multipart upload as it arrives: the file goes to S3 in parts, never whole to memory or disk."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from email.message import Message
from pathlib import PurePosixPath

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from api.problems import Problem
from api.uploads.limits import too_large
from db.objects.writer import ObjectWriter

FIELD_BYTES = 64 * 1024
"""A form field larger than this is no option."""

PARTS = 256
FIELDS_BYTES = PARTS * FIELD_BYTES
"""Of all fields together, however large a single one may be."""

HEADER_BYTES = 8 * 1024
"""More parts than options and their repetitions, or longer headers, and the body is not a form for us."""

FILENAME = "recording"


@dataclass(slots=True)
class Form:
    """The content of a multipart body."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    """Names and values of the fields, in their order."""
    filename: str | None = None
    received: int = 0
    """Bytes of the file part."""

    @property
    def fields(self) -> dict[str, str]:
        """The last value of each name."""
        return dict(self.pairs)


@dataclass(slots=True)
class _Part:
    name: str
    filename: str | None
    max_bytes: int
    text: bytearray = field(default_factory=bytearray)


class FormReader:
    """Feeds a request body through the parser: fields into a Form, the ``file`` part into ``take``.

    ``take(data)`` returns True when the writer wants a flush, which happens between two reads of the body.
    """

    def __init__(
        self,
        content_type: str,
        take: Callable[[bytes], bool],
        max_bytes: int,
        check: Callable[[Form], object] = lambda form: None,
        field_bytes: Callable[[str], int] = lambda name: FIELD_BYTES,
    ) -> None:
        """``check`` is called with the fields before the file; ``field_bytes`` with the name of each part before
        it is read, and returns how large a field of it may be. Both may raise Problem."""
        boundary = _boundary(content_type)
        self.form = Form()
        self._take, self._max_bytes = take, max_bytes
        self._check, self._field_bytes = check, field_bytes
        self._part: _Part | None = None
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[str, str] = {}
        self._parts = self._text_bytes = 0
        self._due = False
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._extend_header(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._extend_header(1, data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    async def read(self, body: AsyncIterator[bytes], flush: Callable[[], Awaitable[None]]) -> Form:
        """Consume the body. Raises Problem for what is malformed or too large."""
        try:
            async for data in body:
                self._parser.write(data)
                if self._due:
                    self._due = False
                    await flush()
        except FormParserError as error:
            raise malformed("The multipart body could not be parsed.") from error
        if not self._ended:
            raise malformed("The multipart body ended before its closing boundary.")
        return self.form

    def _begin(self) -> None:
        self._headers = {}
        self._parts += 1
        if self._parts > PARTS:
            raise malformed(f"The multipart body has more than {PARTS} parts.")

    def _extend_header(self, side: int, data: bytes) -> None:
        self._header[side].extend(data)
        if len(self._header[side]) > HEADER_BYTES or len(self._headers) > PARTS:
            raise malformed("A part of the multipart body has headers that are too long.")

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[name.decode("latin-1").lower()] = value.decode("utf-8", "replace")
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        parameters = _parameters(self._headers.get("content-disposition", ""))
        name = parameters.get("name")
        if name is None:
            raise malformed("A part of the multipart body has no name.")
        self._part = _Part(name, parameters.get("filename"), self._field_bytes(name))
        if name == "file":
            if self.form.filename is not None:
                raise Problem(422, "file_repeated", "One file a job", "Send one `file`; make a job for each.")
            self._check(self.form)
            self.form.filename = safe_filename(self._part.filename)

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        assert part is not None  # noqa: S101  (the parser calls back in order)
        if part.name == "file":
            self.form.received += end - start
            if self.form.received > self._max_bytes:
                raise too_large(self._max_bytes)
            self._due = self._take(data[start:end]) or self._due
        else:
            part.text += data[start:end]
            self._text_bytes += end - start
            if len(part.text) > part.max_bytes:
                detail = f"The field {part.name!r} is larger than {part.max_bytes} bytes."
                raise Problem(422, "invalid_options", "Invalid options", detail)
            if self._text_bytes > FIELDS_BYTES:
                detail = f"The fields of the form are larger than {FIELDS_BYTES} bytes together."
                raise Problem(422, "invalid_options", "Invalid options", detail)

    def _part_end(self) -> None:
        part = self._part
        if part is not None and part.name != "file":
            self.form.pairs.append((part.name, part.text.decode("utf-8", "replace")))
        self._part = None

    def _end(self) -> None:
        self._ended = True


async def flush(writer: ObjectWriter) -> None:
    await to_thread.run_sync(writer.flush)


def malformed(detail: str) -> Problem:
    return Problem(400, "malformed_body", "Malformed body", detail)


def safe_filename(name: str | None) -> str:
    """The last component of what the client calls the file, printable and at most 255 characters."""
    base = PurePosixPath((name or "").replace("\\", "/")).name
    return re.sub(r"[\x00-\x1f\x7f]", "", base)[:255] or FILENAME


def _parameters(disposition: str) -> dict[str, str]:
    message = Message()
    message["content-disposition"] = disposition
    found = {}
    for name in ("name", "filename"):
        value = message.get_param(name, header="content-disposition")
        if isinstance(value, tuple):  # RFC 2231: charset, language, text
            value = value[2]
        if value is not None:
            found[name] = str(value)
    return found


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        raise Problem(
            415,
            "unsupported_media_type",
            "Unsupported media type",
            "Send the recording as the part `file` of multipart/form-data.",
        )
    return boundary.encode("latin-1", "replace")
