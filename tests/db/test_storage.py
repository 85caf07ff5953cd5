from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from db.objects.storage import ObjectMissing, Storage
from db.settings import MIB, Settings


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings)


@pytest.mark.parametrize("size", [1, 8 * MIB, 20 * MIB + 7])
def test_an_object_written_in_parts_is_read_by_ranges(storage: Storage, size: int) -> None:
    data = os.urandom(size)
    writer = storage.writer("jobs/one/source", "application/octet-stream")
    for start in range(0, size, 3 * MIB):
        if writer.accept(data[start : start + 3 * MIB]):
            writer.flush()
    writer.close()
    assert (writer.size, writer.sha256) == (size, hashlib.sha256(data).hexdigest())
    with storage.open("jobs/one/source") as file:
        assert file.read() == data
        file.seek(-1, os.SEEK_END)
        assert file.read(10) == data[-1:]
        file.seek(size // 2)
        assert file.read(100) == data[size // 2 : size // 2 + 100]


def test_an_aborted_upload_leaves_nothing(storage: Storage) -> None:
    writer = storage.writer("jobs/two/source", "application/octet-stream")
    assert writer.accept(os.urandom(9 * MIB))
    writer.flush()
    writer.abort()
    assert list(storage.list("jobs/two/")) == []
    assert list(storage.stale_uploads(datetime.now(UTC) + timedelta(minutes=1))) == []


def test_a_missing_object_raises(storage: Storage) -> None:
    with pytest.raises(ObjectMissing):
        storage.get("jobs/none/source")
    with pytest.raises(ObjectMissing):
        storage.open("jobs/none/source")


def test_a_presigned_url_keeps_the_filename(storage: Storage) -> None:
    storage.put("jobs/three/source", b"sound", "audio/flac")
    answer = httpx.get(storage.presign("jobs/three/source", "Größe 1.flac", 60))
    assert answer.content == b"sound"
    assert "Gr%C3%B6%C3%9Fe%201.flac" in answer.headers["content-disposition"]
