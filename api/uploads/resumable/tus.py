"""The headers of tus 1.0 (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime

from starlette.datastructures import Headers

from api.problems import Problem
from api.uploads.limits import too_large
from db.models import Upload
from db.settings import Settings

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,checksum,expiration,concatenation"
CHECKSUMS = ("sha1", "sha256", "md5")
CONTENT_TYPE = "application/offset+octet-stream"
CHECKSUM_MISMATCH = 460

MAX_CONCATENATED = 1000
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a request says its body hashes to."""

    algorithm: str
    digest: bytes

    def new(self) -> hashlib._Hash:
        return hashlib.new(self.algorithm, usedforsecurity=False)


def capabilities(settings: Settings) -> dict[str, str]:
    """The headers that say what this server can do."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(settings.max_upload_bytes),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }


def check_version(headers: Headers) -> None:
    """Raises Problem (412) if the client speaks another version."""
    if headers.get("tus-resumable", VERSION) != VERSION:
        detail = f"This server speaks version {VERSION} of the tus protocol."
        raise Problem(412, "tus_version", "Other version of tus", detail, headers={"Tus-Version": VERSION})


def number(headers: Headers, name: str) -> int:
    """A header that is a number of bytes. Raises Problem."""
    value = headers.get(name)
    if value is None or not re.fullmatch(r"[0-9]{1,18}", value):
        raise invalid_header(name, "a number of bytes")
    return int(value)


def length(headers: Headers, settings: Settings) -> int:
    """Bytes of the upload to create. Raises Problem."""
    size = number(headers, "Upload-Length")
    check_length(size, settings)
    return size


def check_length(size: int, settings: Settings) -> None:
    """Raises Problem."""
    if size > settings.max_upload_bytes:
        problem = too_large(settings.max_upload_bytes)
        problem.headers["Tus-Max-Size"] = str(settings.max_upload_bytes)
        raise problem
    if size == 0:
        raise Problem(422, "file_empty", "File empty", "The file holds no bytes.")


def metadata(headers: Headers) -> dict[str, str]:
    """The pairs of ``Upload-Metadata``. Raises Problem."""
    found = {}
    for pair in _printable(headers, "Upload-Metadata").split(","):
        name, _, value = pair.strip().partition(" ")
        if name:
            found[name] = _base64("Upload-Metadata", value).decode("utf-8", "replace")
    return found


def digest_in(values: dict[str, str]) -> str | None:
    """The ``sha256`` of the metadata. Raises Problem."""
    given = values.get("sha256", "").lower()
    if given and not SHA256.fullmatch(given):
        raise invalid_header("Upload-Metadata", "a sha256 of 64 hexadecimal digits")
    return given or None


def checksum(headers: Headers) -> Checksum | None:
    """Raises Problem."""
    if (given := headers.get("upload-checksum")) is None:
        return None
    algorithm, _, value = given.partition(" ")
    if algorithm not in CHECKSUMS:
        raise invalid_header("Upload-Checksum", f"one of {', '.join(CHECKSUMS)}, and a hash in base64")
    return Checksum(algorithm, _base64("Upload-Checksum", value))


def concatenated(headers: Headers) -> Sequence[uuid.UUID] | None:
    """The uploads that are to become one, if that is asked for. Raises Problem."""
    given = _printable(headers, "Upload-Concat", "partial")
    if given == "partial":
        return None
    kind, _, urls = given.partition(";")
    try:
        found = [uuid.UUID(url.rpartition("/")[2]) for url in urls.split()]
    except ValueError:
        found = []
    if kind != "final" or not 0 < len(found) == len(set(found)) <= MAX_CONCATENATED:
        raise invalid_header(
            "Upload-Concat", f"`partial`, or `final;` and up to {MAX_CONCATENATED} different URLs"
        )
    return found


def state(upload: Upload) -> dict[str, str]:
    """The headers that say how an upload stands."""
    headers = {"Upload-Offset": str(upload.received)}
    if upload.used_at is None:
        headers["Upload-Expires"] = format_datetime(upload.expires_at.astimezone(UTC), usegmt=True)
    return headers


def description(upload: Upload) -> dict[str, str]:
    """What ``HEAD`` says besides: what the client said when it created the upload."""
    said = {"Upload-Metadata": upload.metadata_line, "Upload-Concat": upload.concat}
    return {"Upload-Length": str(upload.bytes)} | {name: value for name, value in said.items() if value}


def invalid_header(name: str, wanted: str) -> Problem:
    return Problem(400, "invalid_upload_header", "Invalid header", f"{name} must be {wanted}.")


def _printable(headers: Headers, name: str, default: str = "") -> str:
    """A header that is sent back as it came, which no other bytes survive. Raises Problem."""
    value = headers.get(name, default)
    if not (value.isascii() and value.isprintable()):
        raise invalid_header(name, "in printable ASCII")
    return value


def _base64(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_header(name, "in base64") from None
