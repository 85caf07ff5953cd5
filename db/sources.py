"""Where a recording may be fetched from: an address of http(s), of S3, or of a file of the server's folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import unquote

import httpx

from db.settings import Settings

MAX_LENGTH = 4096
SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
FILENAME = "recording"


class SourceNotAllowed(Exception):
    """The address is none that this server fetches from. The message says why, and what to do."""

    code = "url_not_allowed"


class SourceKind(StrEnum):
    HTTP = "http"
    S3 = "s3"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Source:
    """An address that the settings allow, as far as it can be told without looking it up."""

    kind: SourceKind
    address: str
    """With its credentials: neither shown nor logged."""
    shown: str
    filename: str
    bucket: str = ""
    key: str = ""
    """Of S3."""
    path: str = ""
    """Of a file."""


def parse_source(address: str, settings: Settings) -> Source:
    """Raises SourceNotAllowed."""
    address = address.strip()
    if not address or len(address) > MAX_LENGTH or re.search(r"[\x00-\x20\x7f]", _without_spaces(address)):
        raise SourceNotAllowed(f"Give an address of at most {MAX_LENGTH} printable characters.")
    match = SCHEME.match(address)
    scheme = match.group(1).lower() if match else "file"
    if scheme in ("http", "https"):
        return _http(address)
    if scheme == "s3":
        return _s3(address, settings)
    if scheme == "file":
        return _file(address, settings)
    raise SourceNotAllowed(f"Recordings are not fetched by {scheme}; use https, http or s3.")


def _without_spaces(address: str) -> str:
    """Names of files may have spaces, which are harmless; nothing else that is invisible is."""
    return address.replace(" ", "")


def _http(address: str) -> Source:
    try:
        url = httpx.URL(address)
        shown = shown_address(address)
    except (httpx.InvalidURL, ValueError):
        raise SourceNotAllowed("The address is no valid URL.") from None
    if not url.host:
        raise SourceNotAllowed("The address names no host.")
    return Source(SourceKind.HTTP, address, shown, filename_of(url.path))


def shown_address(address: str) -> str:
    """The address without user, password, query and fragment, any of which may be a credential."""
    if not re.match(r"https?:", address, re.IGNORECASE):
        return address
    url = httpx.URL(address)
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def _s3(address: str, settings: Settings) -> Source:
    bucket, _, key = address.partition("://")[2].partition("/")
    if not bucket or not key:
        raise SourceNotAllowed("Name a bucket and a key: s3://bucket/key.")
    check_bucket(bucket, settings)
    return Source(SourceKind.S3, address, address, filename_of(key), bucket=bucket, key=key)


def check_bucket(bucket: str, settings: Settings) -> None:
    """Raises SourceNotAllowed."""
    # this server's own bucket holds the recordings of all tenants
    if bucket not in settings.s3_source_buckets or bucket == settings.s3_bucket:
        raise SourceNotAllowed(
            f"This server fetches nothing from the bucket {bucket!r}; LONGHAND_S3_SOURCE_BUCKETS names those that "
            "it does."
        )


def _file(address: str, settings: Settings) -> Source:
    if settings.local_folder is None:
        raise SourceNotAllowed(
            "This server reads no files of its own; send the recording itself, or set LONGHAND_LOCAL_FOLDER."
        )
    path = address
    if SCHEME.match(address):
        host, slash, rest = address.partition(":")[2].removeprefix("//").partition("/")
        if host not in ("", "localhost"):
            raise SourceNotAllowed("A file of another machine cannot be read; use https or s3.")
        path = unquote(slash + rest)
    if "\x00" in path:
        raise SourceNotAllowed("The path holds a character that no file has.")
    return Source(SourceKind.FILE, address, address, filename_of(path), path=path)


def filename_of(path: str) -> str:
    """The last part of a path, printable and at most 255 characters."""
    return re.sub(r"[\x00-\x1f\x7f]", "", PurePosixPath(path).name)[:255] or FILENAME
