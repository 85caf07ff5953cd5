"""Which addresses the settings allow, and what of them is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.settings import Settings
from db.sources import SourceNotAllowed, parse_source

SETTINGS = Settings.model_validate(
    {"s3_bucket": "ours", "s3_source_buckets": ["given", "ours"], "local_folder": Path("/srv/recordings")}
)


@pytest.mark.parametrize(
    ("address", "shown", "filename"),
    [
        ("https://a.example/x/talk.mp3", "https://a.example/x/talk.mp3", "talk.mp3"),
        ("HTTPS://user:secret@a.example:8443/t.mp3?token=secret#secret", "https://a.example:8443/t.mp3", "t.mp3"),
        ("http://us%65r:p%40ss@[2606:4700::1111]/", "http://[2606:4700::1111]/", "recording"),
        ("https://a.example", "https://a.example", "recording"),
        ("https://a.example/%E5%BD%95%E9%9F%B3.mp3", "https://a.example/%E5%BD%95%E9%9F%B3.mp3", "录音.mp3"),
        ("https://a.example/a%2F..%2Fb%00c.mp3", "https://a.example/a%2F..%2Fb%00c.mp3", "bc.mp3"),
        ("s3://given/a/b.flac", "s3://given/a/b.flac", "b.flac"),
        ("/srv/recordings/a.wav", "/srv/recordings/a.wav", "a.wav"),
        ("file:///srv/recordings/a%20b.wav", "file:///srv/recordings/a%20b.wav", "a b.wav"),
    ],
)
def test_what_is_shown(address: str, shown: str, filename: str) -> None:
    source = parse_source(address, SETTINGS)
    assert (source.shown, source.filename) == (shown, filename)
    assert source.address == address


@pytest.mark.parametrize(
    "address",
    [
        *("", " ", "x" * 5000, "https://", "https:///x", "http://0177.0.0.1/", "https://a.example/\r\nX: y"),
        *("ftp://a.example/x", "gopher://a.example/", "data:audio/wav;base64,AAAA", "javascript:alert(1)"),
        *("s3://", "s3://given", "s3://given/", "s3://other/x", "s3:given/x", "s3://ours/jobs/1/source"),
        *("file://other.example/x", "file:///srv/recordings/%00", "/srv/recordings/\x00"),
    ],
)
def test_what_is_not_allowed(address: str) -> None:
    with pytest.raises(SourceNotAllowed):
        parse_source(address, SETTINGS)


@pytest.mark.parametrize("address", ["/etc/passwd", "file:///etc/passwd", "talk.mp3", "s3://given/x"])
def test_nothing_but_the_web_unless_it_is_set(address: str) -> None:
    with pytest.raises(SourceNotAllowed, match="LONGHAND_"):
        parse_source(address, Settings())
