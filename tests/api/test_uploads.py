"""Uploads that come piece by piece: tus request by request, presigned parts, and the jobs made of them."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from api.app import create_app
from api.uploads.resumable import create as creation
from db import uploads
from db.access import quotas, tenants
from db.models import Job, Upload, UploadPart
from db.objects.storage import Storage
from db.objects.writer import PART_BYTES
from db.session import Sessions
from db.settings import MIB, Settings
from tasks.maintenance.sweep import sweep
from tasks.steps import fetch, purge
from tests.api.conftest import serving
from tests.api.test_jobs import objects, problem
from tests.api.test_limits import connect
from tests.api.uploads import PIECE, begin, create, encoded, id_of, make_job, offset, patch, patch_head
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import HANDLERS, recording, run_until_done
from tests.waiting import until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"diarize": False, "retry_seconds": 0.001})


@pytest.fixture
def runtime(settings: Settings) -> FakeRuntime:
    return FakeRuntime(settings, lambda _: "we met on monday", lambda _: "we met on Monday")


def content(sessions: Sessions, settings: Settings, url: str) -> bytes:
    """What counts of an upload."""
    with sessions() as session:
        pieces = uploads.parts(session, uuid.UUID(id_of(url)))
    return b"".join(uploads.read(Storage(settings), pieces))


def stored_bytes(sessions: Sessions, tenant: str = "default") -> int:
    with sessions() as session:
        return quotas.use(session, [tenant])[tenant].stored_bytes


def expire(sessions: Sessions, url: str) -> None:
    with sessions.begin() as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(Upload).where(Upload.id == uuid.UUID(id_of(url))).values(expires_at=past))


class TestTus:
    def test_what_the_server_speaks(self, client: httpx.Client, settings: Settings) -> None:
        answer = client.options("/v1/uploads")
        assert answer.status_code == 204
        assert answer.headers["Tus-Version"] == answer.headers["Tus-Resumable"] == "1.0.0"
        assert answer.headers["Tus-Max-Size"] == str(settings.max_upload_bytes)
        assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5"
        assert "concatenation" in answer.headers["Tus-Extension"].split(",")

    def test_another_version_is_refused(self, client: httpx.Client) -> None:
        answer = create(client, 3, Tus_Resumable="0.2.2")
        assert (answer.status_code, problem(answer)["code"]) == (412, "tus_version")
        assert answer.headers["Tus-Version"] == "1.0.0"

    def test_pieces_of_every_size_become_one_recording(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        """Small ones are written again with what follows, until there is enough for an object to stay."""
        data = os.urandom(PART_BYTES + 3 * MIB)
        metadata = encoded(filename="Größe 1.flac", sha256=hashlib.sha256(data).hexdigest())
        url = begin(client, len(data), Upload_Metadata=metadata)
        sizes = [1, 0, 2, MIB - 3, 5, 700_000, PART_BYTES + 1]
        at = 0
        for size in [*sizes, len(data) - sum(sizes)]:
            answer = patch(client, url, at, data[at : at + size])
            at += size
            assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(at))
            assert parsedate_to_datetime(answer.headers["Upload-Expires"]) > datetime.now(UTC)
            assert offset(client, url) == at
        assert content(sessions, settings, url) == data
        with sessions() as session:
            pieces = uploads.parts(session, uuid.UUID(id_of(url)))
        # all but the last are worth an object, and what was written again is gone
        assert min(piece.bytes for piece in pieces[:-1]) >= uploads.SMALLEST_PART
        assert sorted(objects(settings)) == sorted(piece.key for piece in pieces)
        head = client.head(url).headers
        assert (head["Upload-Length"], head["Upload-Metadata"]) == (str(len(data)), metadata)
        assert head["Cache-Control"] == "no-store"
        shown = client.get(url).json()
        assert (shown["status"], shown["received"], shown["filename"]) == ("completed", len(data), "Größe 1.flac")

    def test_the_first_piece_may_come_with_the_creation(self, client: httpx.Client) -> None:
        answer = create(client, 5, b"sou")
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "3")
        assert patch(client, answer.headers["Location"], 3, b"nd").headers["Upload-Offset"] == "5"

    def test_what_is_refused_after_the_creation_says_where_it_goes_on(
        self, client: httpx.Client, sessions: Sessions
    ) -> None:
        answer = create(client, 5, b"sou", Upload_Checksum="sha1 AAAA")
        assert (problem(answer)["code"], answer.headers["Upload-Offset"]) == ("checksum_mismatch", "0")
        assert patch(client, answer.headers["Location"], 0, b"sound").status_code == 204
        metadata = encoded(sha256=hashlib.sha256(b"other").hexdigest())
        answer = create(client, 5, b"sound", Upload_Metadata=metadata)
        assert (problem(answer)["code"], answer.headers["Upload-Offset"]) == ("sha256_mismatch", "5")
        assert client.delete(answer.headers["Location"]).status_code == 204

    def test_clients_that_can_only_post(self, client: httpx.Client) -> None:
        url = begin(client, 5)
        answer = client.post(
            url, content=b"sound", headers=PIECE | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
        )
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "5")
        assert client.post(url, headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 204
        assert client.head(url).status_code == 404

    @pytest.mark.parametrize(
        ("headers", "status", "code"),
        [
            ({"Upload_Length": "0"}, 422, "file_empty"),
            ({"Upload_Length": str(10**12)}, 413, "file_too_large"),
            ({"Upload_Length": "-1"}, 400, "invalid_upload_header"),
            ({"Upload_Length": "1" * 30}, 400, "invalid_upload_header"),
            ({"Upload_Metadata": "filename !!"}, 400, "invalid_upload_header"),
            ({"Upload_Metadata": encoded(sha256="beef")}, 400, "invalid_upload_header"),
            ({"Upload_Metadata": b"fil\x80e Zg=="}, 400, "invalid_upload_header"),
            ({"Upload_Metadata": b"a\x01b Zg=="}, 400, "invalid_upload_header"),
            ({"Upload_Concat": "final;"}, 400, "invalid_upload_header"),
            ({"Upload_Concat": "final;/v1/uploads/x"}, 400, "invalid_upload_header"),
            ({"Upload_Concat": "some"}, 400, "invalid_upload_header"),
            ({"Upload_Concat": f"final;/v1/uploads/{uuid.UUID(int=1)}"}, 404, "upload_not_found"),
        ],
    )
    def test_what_cannot_be_created(
        self, client: httpx.Client, settings: Settings, headers: dict[str, Any], status: int, code: str
    ) -> None:
        answer = create(client, 3, **headers)
        assert (answer.status_code, problem(answer)["code"]) == (status, code)
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        if status == 413:
            assert answer.headers["Tus-Max-Size"] == str(settings.max_upload_bytes)

    def test_more_than_was_announced_is_refused(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        url = begin(client, 5)
        assert problem(patch(client, url, 0, b"sounds"))["code"] == "upload_too_long"
        assert offset(client, url) == 0
        # its length is unknown until it has come
        answer = patch(client, url, 0, iter([b"sou", b"nds and more"]))
        assert (answer.status_code, problem(answer)["code"]) == (413, "upload_too_long")
        assert content(sessions, settings, url) == b"sou"[: offset(client, url)]

    def test_pieces_have_their_own_type(self, client: httpx.Client) -> None:
        answer = client.patch(begin(client, 5), content=b"sound", headers={"Upload-Offset": "0"})
        assert (answer.status_code, problem(answer)["code"]) == (415, "unsupported_media_type")

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
    def test_a_piece_that_is_not_what_its_checksum_says_does_not_count(
        self, client: httpx.Client, settings: Settings, algorithm: str
    ) -> None:
        data = os.urandom(PART_BYTES + 10)
        url = begin(client, len(data))

        def send(hashed: bytes) -> httpx.Response:
            digest = base64.b64encode(hashlib.new(algorithm, hashed).digest()).decode()
            return patch(client, url, 0, data, Upload_Checksum=f"{algorithm} {digest}")

        answer = send(b"else")
        assert (answer.status_code, problem(answer)["code"]) == (460, "checksum_mismatch")
        assert offset(client, url) == 0
        assert objects(settings) == []
        assert send(data).status_code == 204
        assert offset(client, url) == len(data)

    def test_a_body_with_a_checksum_that_breaks_off_leaves_nothing(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        url = begin(client, 2 * PART_BYTES)
        with connect(client) as breaking:
            breaking.sendall(patch_head(url, 2 * PART_BYTES, Upload_Checksum="sha1 AAAA"))
            breaking.sendall(bytes(PART_BYTES + 1))
            until(lambda: objects(settings), "a piece is stored")
            breaking.shutdown(socket.SHUT_RDWR)
        until(lambda: not objects(settings), "it is gone")
        assert offset(client, url) == 0

    def test_an_unknown_checksum(self, client: httpx.Client) -> None:
        url = begin(client, 5)
        for given in ("crc32 AAAA", "sha1 !", "sha1"):
            answer = patch(client, url, 0, b"sound", Upload_Checksum=given)
            assert answer.status_code in (400, 460)
        assert offset(client, url) == 0

    def test_of_two_at_one_offset_one_counts(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        """However their bodies interleave, what counts is what one of them sent."""
        size = PART_BYTES + MIB
        bodies = [bytes([number]) * size for number in range(6)]
        url = begin(client, size)

        def send(body: bytes) -> int | None:
            # the line may be closed on who still sends, before the answer could be read
            with suppress(httpx.ReadError, httpx.WriteError):
                return patch(client, url, 0, body).status_code
            return None

        with ThreadPoolExecutor(len(bodies)) as pool:
            statuses = list(pool.map(send, bodies))
        assert set(statuses) <= {204, 409, 423, None}
        assert statuses.count(204) <= 1
        while (at := offset(client, url)) < size:
            assert patch(client, url, at, bytes(size - at)).status_code == 204
        found = content(sessions, settings, url)
        assert found[:PART_BYTES] in [body[:PART_BYTES] for body in bodies]
        with sessions() as session:
            counted = set(session.scalars(select(UploadPart.key)))
        # those whose turn was over have removed what they wrote
        assert set(objects(settings)) == counted

    def test_who_comes_later_takes_over(self, client: httpx.Client, sessions: Sessions) -> None:
        """A client that lost its connection does not wait until the server knows that it is gone."""
        url = begin(client, 10)
        with connect(client) as hanging:
            hanging.sendall(patch_head(url, 10) + b"XXX")
            until(lambda: _has_writer(sessions, url), "the first has begun")
            assert patch(client, url, 0, b"sound").status_code == 204
            hanging.sendall(b"XXXXXXX")
            answer = hanging.recv(4096).decode()
        assert answer.startswith("HTTP/1.1 423")
        assert offset(client, url) == 5

    def test_what_came_before_the_line_broke_counts(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        url = begin(client, 10)
        with connect(client) as breaking:
            breaking.sendall(patch_head(url, 10) + b"sound")
            until(lambda: _has_writer(sessions, url), "it has begun")
            breaking.shutdown(socket.SHUT_RDWR)
        until(lambda: offset(client, url) == 5, "what came counts")
        assert content(sessions, settings, url) == b"sound"

    def test_a_piece_that_was_written_again_meanwhile(
        self, client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between a request's look at the rows and at the object another one has gone on."""
        url = create(client, 10, b"sound").headers["Location"]
        Storage(settings).delete(objects(settings))
        answer = patch(client, url, 5, b"sound")
        assert (answer.status_code, problem(answer)["code"]) == (423, "upload_locked")

    def test_uploads_in_parallel_become_one(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        data = os.urandom(3000)
        urls = [begin(client, 1000, Upload_Concat="partial") for _ in range(3)]
        whole = f"final;{' '.join(urls)}"
        assert problem(create(client, 0, Upload_Concat=whole))["code"] == "upload_incomplete"
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda n: patch(client, urls[n], 0, data[n * 1000 : (n + 1) * 1000]), range(3)))
        assert problem(make_job(client, urls[0]))["code"] == "upload_incomplete"
        assert problem(client.post(f"{urls[0]}/complete"))["code"] == "upload_is_partial"
        digest = hashlib.sha256(data).hexdigest()
        answer = create(client, 0, Upload_Concat=whole, Upload_Metadata=encoded(filename="a.flac", sha256=digest))
        assert (answer.status_code, answer.json()["status"]) == (201, "completed")
        url = answer.headers["Location"]
        assert content(sessions, settings, url) == data
        assert client.head(url).headers["Upload-Concat"] == whole
        assert problem(patch(client, url, 3000, b""))["code"] == "upload_is_final"
        assert client.head(urls[0]).status_code == 404
        assert stored_bytes(sessions) == 3000
        sweep(FakeRuntime(settings, str, str), grace=timedelta(0), upload_grace=timedelta(0))
        assert content(sessions, settings, url) == data

    def test_only_partial_uploads_are_concatenated(self, client: httpx.Client) -> None:
        url = create(client, 5, b"sound").headers["Location"]
        assert problem(create(client, 0, Upload_Concat=f"final;{url}"))["code"] == "invalid_upload_header"

    def test_another_recording_than_was_announced(self, client: httpx.Client) -> None:
        url = begin(client, 5, Upload_Metadata=encoded(sha256=hashlib.sha256(b"other").hexdigest()))
        answer = patch(client, url, 0, b"sound")
        assert (answer.status_code, problem(answer)["code"]) == (422, "sha256_mismatch")
        assert problem(make_job(client, url))["code"] == "upload_incomplete"
        assert problem(client.post(f"{url}/complete"))["code"] == "sha256_mismatch"

    def test_a_deleted_upload_leaves_nothing(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        url = create(client, 10, b"sound").headers["Location"]
        assert stored_bytes(sessions) == 10
        assert client.delete(url, headers={"Tus-Resumable": "1.0.0"}).status_code == 204
        assert client.head(url).status_code == 404
        assert problem(client.get(url))["code"] == "upload_not_found"
        assert objects(settings) == []
        assert stored_bytes(sessions) == 0


def _has_writer(sessions: Sessions, url: str) -> bool:
    with sessions() as session:
        return session.get_one(Upload, uuid.UUID(id_of(url))).writer is not None


def in_parts(client: httpx.Client, size: int, **values: Any) -> dict[str, Any]:
    answer = client.post("/v1/uploads", json={"bytes": size, "filename": "talk.flac"} | values)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/uploads/{shown['id']}"
    return shown


def put(part: dict[str, Any], data: bytes) -> httpx.Response:
    return httpx.put(part["url"], content=data[part["start"] : part["start"] + part["bytes"]])


class TestParts:
    @pytest.fixture(autouse=True)
    def small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(creation, "PART_BYTES", 100_000)

    def test_parts_come_in_parallel_and_again(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        data = os.urandom(950_000)
        shown = in_parts(client, len(data), sha256=hashlib.sha256(data).hexdigest())
        url, parts = f"/v1/uploads/{shown['id']}", shown["parts"]
        assert [part["number"] for part in parts] == list(range(1, 11))
        assert (shown["status"], shown["received"], parts[-1]["bytes"]) == ("receiving", 0, 50_000)
        wrong = put(parts[2], bytes(len(data)))
        assert wrong.status_code == 200
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda part: put(part, data), [*reversed(parts[1:]), *parts[4:7]]))
        assert {answer.status_code for answer in answers} == {200}
        refused = problem(client.post(f"{url}/complete"))
        assert (refused["code"], refused["missing"]) == ("upload_incomplete", [1])
        assert problem(make_job(client, url))["code"] == "upload_incomplete"
        shown = client.get(url).json()
        assert (shown["received"], [part["number"] for part in shown["parts"] if not part["stored"]]) == (
            850_000,
            [1],
        )
        # the URLs of the latest answer serve as well
        assert put(shown["parts"][0], data).status_code == 200
        for _ in range(2):
            shown = client.post(f"{url}/complete").json()
            assert (shown["status"], shown["received"]) == ("completed", len(data))
        assert {part["url"] for part in shown["parts"]} == {None}
        assert content(sessions, settings, url) == data

    def test_urls_end_in_an_hour_and_what_is_written_after_the_end_is_swept(
        self, client: httpx.Client, settings: Settings, sessions: Sessions, runtime: FakeRuntime
    ) -> None:
        kept, gone = in_parts(client, 10), in_parts(client, 10)
        url = httpx.URL(gone["parts"][0]["url"])
        assert 3500 < int(url.params["X-Amz-Expires"]) <= 3600
        assert client.delete(f"/v1/uploads/{gone['id']}").status_code == 204
        for shown in (kept, gone):
            assert put(shown["parts"][0], bytes(10)).status_code == 200
        sweep(runtime)
        assert [key.split("/")[1] for key in objects(settings)] == [kept["id"]]

    def test_what_is_in_use_does_not_expire(self, client: httpx.Client, sessions: Sessions) -> None:
        shown = in_parts(client, 10)
        parts, sent = f"/v1/uploads/{shown['id']}", begin(client, 10)

        def end(url: str) -> datetime:
            with sessions() as session:
                return session.get_one(Upload, uuid.UUID(id_of(url))).expires_at

        soon = datetime.now(UTC) + timedelta(minutes=1)
        put(shown["parts"][0], bytes(10))
        uses: list[tuple[str, Callable[[], httpx.Response]]] = [
            (parts, lambda: client.get(parts)),
            (parts, lambda: client.post(f"{parts}/complete")),
            (sent, lambda: patch(client, sent, 0, b"")),
        ]
        for url, use in uses:
            with sessions.begin() as session:
                session.execute(update(Upload).values(expires_at=soon))
            assert use().is_success
            assert end(url) > soon

    def test_a_part_has_the_size_that_was_planned(self, client: httpx.Client) -> None:
        shown = in_parts(client, 150_000)
        url, parts = f"/v1/uploads/{shown['id']}", shown["parts"]
        put(parts[1], bytes(150_000))
        for wrong in (b"short", bytes(parts[0]["bytes"] + 1)):
            assert httpx.put(parts[0]["url"], content=wrong).status_code == 403
        refused = problem(client.post(f"{url}/complete"))
        assert (refused["code"], refused["missing"]) == ("upload_incomplete", [1])

    def test_a_wrong_part_can_be_sent_again(self, client: httpx.Client) -> None:
        data = os.urandom(150_000)
        shown = in_parts(client, len(data), sha256=hashlib.sha256(data).hexdigest())
        url, parts = f"/v1/uploads/{shown['id']}", shown["parts"]
        put(parts[0], data)
        put(parts[1], bytes(len(data)))
        assert problem(client.post(f"{url}/complete"))["code"] == "sha256_mismatch"
        put(parts[1], data)
        assert client.post(f"{url}/complete").json()["status"] == "completed"

    def test_what_changes_behind_the_check_fails_the_job(
        self, client: httpx.Client, settings: Settings, sessions: Sessions, runtime: FakeRuntime
    ) -> None:
        data = os.urandom(1000)
        shown = in_parts(client, len(data), sha256=hashlib.sha256(data).hexdigest())
        url = f"/v1/uploads/{shown['id']}"
        put(shown["parts"][0], data)
        client.post(f"{url}/complete")
        put(shown["parts"][0], bytes(1000))
        job = make_job(client, url).json()
        run_until_done(runtime, [fetch.handler])
        shown = client.get(job["urls"]["self"]).json()
        assert (shown["status"], shown["error"]["code"]) == ("failed", "upload_changed")

    def test_parts_are_no_business_of_tus(self, client: httpx.Client) -> None:
        shown = in_parts(client, 10)
        assert problem(patch(client, f"/v1/uploads/{shown['id']}", 0, b"sound"))["code"] == "upload_in_parts"
        assert in_parts(client, 10, parts=False)["parts"] is None

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"bytes": 0}, 422, "file_empty"),
            ({"bytes": 10**12}, 413, "file_too_large"),
            ({"bytes": -1}, 422, "invalid_request"),
            ({"bytes": 1, "sha256": "x"}, 422, "invalid_request"),
            ({"bytes": 1, "size": 1}, 422, "invalid_request"),
            ({}, 422, "invalid_request"),
        ],
    )
    def test_what_cannot_be_created(
        self, client: httpx.Client, body: dict[str, Any], status: int, code: str
    ) -> None:
        answer = client.post("/v1/uploads", json=body)
        assert (answer.status_code, problem(answer)["code"]) == (status, code)


class TestJobs:
    def test_an_upload_becomes_a_transcript(
        self, client: httpx.Client, settings: Settings, sessions: Sessions, runtime: FakeRuntime
    ) -> None:
        data = recording()
        url = create(client, len(data), data, Upload_Metadata=encoded(filename="ocean.flac")).headers["Location"]
        answer = make_job(client, url, language="en")
        assert answer.status_code == 202
        job = answer.json()
        assert (job["id"], job["audio"]["filename"], job["audio"]["bytes"]) == (
            id_of(url),
            "ocean.flac",
            len(data),
        )
        assert job["audio"]["sha256"] is None
        assert stored_bytes(sessions) == len(data)
        assert problem(client.get(job["urls"]["audio"]))["code"] == "audio_not_fetched"
        used = client.get(url).json()
        assert (used["status"], used["job_id"]) == ("used", job["id"])
        run_until_done(runtime, [fetch.handler, *HANDLERS])
        job = client.get(job["urls"]["self"]).json()
        assert job["status"] == "completed"
        assert job["audio"]["sha256"] == hashlib.sha256(data).hexdigest()
        assert httpx.get(client.get(job["urls"]["audio"]).headers["Location"]).content == data
        # the pieces are gone, and the recording is not
        assert not [key for key in objects(settings) if uploads.is_piece(key)]
        assert stored_bytes(sessions) == len(data)
        assert client.get(url).status_code == 404
        # whoever did not hear the answer asks again
        assert make_job(client, url, language="en").json()["id"] == job["id"]

    def test_an_upload_makes_one_job(self, client: httpx.Client, sessions: Sessions) -> None:
        url = create(client, 5, b"sound").headers["Location"]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: make_job(client, url, language="en"), range(6)))
        assert {answer.status_code for answer in answers} == {202}
        assert {answer.json()["id"] for answer in answers} == {id_of(url)}
        with sessions() as session:
            assert len(session.scalars(select(Job)).all()) == 1
        assert problem(make_job(client, url, language="de"))["code"] == "upload_used"
        assert problem(client.delete(url))["code"] == "upload_used"

    def test_an_idempotency_key_is_one_for_uploads_too(self, client: httpx.Client) -> None:
        first, second = (create(client, 5, b"sound").headers["Location"] for _ in range(2))

        def send(url: str, key: str) -> httpx.Response:
            return client.post("/v1/jobs", json={"upload_id": id_of(url)}, headers={"Idempotency-Key": key})

        assert send(first, "a").json()["id"] == send(first, "a").json()["id"] == id_of(first)
        assert problem(send(second, "a"))["code"] == "idempotency_key_reused"
        assert send(second, "b").status_code == 202

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"upload_id": "x"},
            {"upload_id": str(uuid.UUID(int=1)), "audio_url": "https://a.example/b"},
            {"upload_id": str(uuid.UUID(int=1)), "options": {"langauge": "en"}},
        ],
    )
    def test_requests_that_make_no_sense(self, client: httpx.Client, body: dict[str, Any]) -> None:
        answer = client.post("/v1/jobs", json=body)
        assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_request")

    def test_no_upload_no_job(self, client: httpx.Client) -> None:
        answer = make_job(client, f"/v1/uploads/{uuid.uuid4()}")
        assert (answer.status_code, problem(answer)["code"]) == (404, "upload_not_found")
        assert problem(make_job(client, begin(client, 5)))["code"] == "upload_incomplete"

    def test_a_job_deleted_before_its_recording_was_put_together_leaves_nothing(
        self, client: httpx.Client, settings: Settings, sessions: Sessions, runtime: FakeRuntime
    ) -> None:
        partial = create(client, 5, b"sound", Upload_Concat="partial").headers["Location"]
        url = create(client, 0, Upload_Concat=f"final;{partial}").headers["Location"]
        job = make_job(client, url).json()
        assert len(objects(settings)) == 1
        assert client.delete(job["urls"]["self"]).status_code == 204
        run_until_done(runtime, [purge.handler])
        assert objects(settings) == []
        assert stored_bytes(sessions) == 0
        assert client.get(url).status_code == 404

    @pytest.mark.parametrize("deleted", [False, True])
    def test_pieces_of_a_worker_that_died_before_it_tidied_up(
        self,
        client: httpx.Client,
        settings: Settings,
        runtime: FakeRuntime,
        monkeypatch: pytest.MonkeyPatch,
        deleted: bool,
    ) -> None:
        """They lie below the id of another upload, and go with the job, or with the next sweep."""
        partial = create(client, 5, b"sound", Upload_Concat="partial").headers["Location"]
        url = create(client, 0, Upload_Concat=f"final;{partial}").headers["Location"]
        job = make_job(client, url).json()
        with monkeypatch.context() as dying:
            dying.setattr(uploads, "tidy", lambda *_: None)
            run_until_done(runtime, [fetch.handler])
        assert len(objects(settings)) == 2
        if deleted:
            client.post(f"{job['urls']['self']}/cancel")
            assert client.delete(job["urls"]["self"]).status_code == 204
            run_until_done(runtime, [purge.handler])
        else:
            sweep(runtime)
        left = objects(settings)
        assert [key.split("/")[1] for key in left] == ([] if deleted else [job["id"]])
        assert not any(map(uploads.is_piece, left))
        assert client.get(url).status_code == 404

    def test_retention_of_recordings_reaches_what_was_never_put_together(
        self, client: httpx.Client, settings: Settings, sessions: Sessions
    ) -> None:
        partial = create(client, 5, b"sound", Upload_Concat="partial").headers["Location"]
        url = create(client, 0, Upload_Concat=f"final;{partial}").headers["Location"]
        job = make_job(client, url).json()
        assert client.post(f"{job['urls']['self']}/cancel").status_code == 200
        with sessions.begin() as session:
            session.get_one(Job, uuid.UUID(job["id"])).completed_at = datetime.now(UTC) - timedelta(days=9)
        sweep(FakeRuntime(settings.model_copy(update={"retain_audio_days": 2.0}), str, str))
        assert objects(settings) == []
        assert stored_bytes(sessions) == 0
        assert client.get(url).status_code == 404


class TestLimits:
    def test_an_upload_counts_as_stored_from_its_beginning(self, client: httpx.Client, sessions: Sessions) -> None:
        with sessions.begin() as session:
            tenants.change(session, "default", {"stored_bytes": 100, "jobs_at_once": 1})
        url = begin(client, 60)
        answer = create(client, 60)
        assert (answer.status_code, problem(answer)["code"]) == (429, "quota_stored_bytes")
        assert "Retry-After" in answer.headers
        patch(client, url, 0, bytes(60))
        # what is there is not counted twice while it changes hands
        assert make_job(client, url).status_code == 202
        assert stored_bytes(sessions) == 60
        assert problem(create(client, 10))["code"] == "quota_jobs"

    def test_uploads_begun_at_once_stay_within_the_bytes_allowed(
        self, client: httpx.Client, sessions: Sessions
    ) -> None:
        with sessions.begin() as session:
            tenants.change(session, "default", {"stored_bytes": 100})
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: create(client, 30), range(12)))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 9

    def test_open_uploads_are_bounded(self, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(creation, "MAX_OPEN", 2)
        first = begin(client, 5)
        begin(client, 5)
        answer = create(client, 5)
        assert (answer.status_code, problem(answer)["code"]) == (429, "too_many_uploads")
        client.delete(first)
        assert create(client, 5).status_code == 201

    def test_a_full_disk(self, settings: Settings, sessions: Sessions) -> None:
        (settings.data_dir / "s3").mkdir()
        with serving(create_app(settings), settings) as client:
            url = begin(client, 5)
            settings.min_free_bytes = 10**18
            assert problem(create(client, 5))["code"] == "disk_full"
            assert problem(patch(client, url, 0, b"sound"))["code"] == "disk_full"
            settings.min_free_bytes = 0
            assert patch(client, url, 0, b"sound").status_code == 204

    def test_a_disk_that_fills_up_amid_a_body(self, settings: Settings, sessions: Sessions) -> None:
        (settings.data_dir / "s3").mkdir()
        with serving(create_app(settings), settings) as client:
            url = begin(client, 3 * PART_BYTES)

            def body() -> Iterator[bytes]:
                yield bytes(PART_BYTES)
                until(lambda: offset(client, url) == PART_BYTES, "the first piece counts")
                settings.min_free_bytes = 10**18
                yield bytes(PART_BYTES)

            answer = patch(client, url, 0, body())
            assert (answer.status_code, problem(answer)["code"]) == (507, "disk_full")
            assert offset(client, url) == PART_BYTES

    def test_bodies_at_once_and_stalled_ones(self, settings: Settings, sessions: Sessions) -> None:
        bounded = settings.model_copy(update={"max_uploads": 1, "stall_seconds": 1.0})
        with serving(create_app(bounded), bounded) as client:
            url = begin(client, 10)
            with connect(client) as stalled:
                stalled.sendall(patch_head(url, 10) + b"sound")
                until(lambda: _has_writer(sessions, url), "it has begun")
                assert problem(patch(client, begin(client, 5), 0, b"sound"))["code"] == "too_many_uploads"
                assert stalled.recv(4096).decode().startswith("HTTP/1.1 408")
            assert offset(client, url) == 5

    def test_who_is_refused_a_slot_has_created_nothing(self, settings: Settings, sessions: Sessions) -> None:
        one = settings.model_copy(update={"max_uploads": 1})
        with serving(create_app(one), one) as client:
            partial = create(client, 5, b"sound", Upload_Concat="partial").headers["Location"]
            whole = f"final;{partial}"
            busy = begin(client, 10)
            with connect(client) as sending:
                sending.sendall(patch_head(busy, 10) + b"sound")
                until(lambda: _has_writer(sessions, busy), "it has begun")
                for answer in (create(client, 0, Upload_Concat=whole), create(client, 1000, b"sound")):
                    assert (answer.status_code, problem(answer)["code"]) == (429, "too_many_uploads")
                assert stored_bytes(sessions) == 15
                sending.sendall(b"sound")
                assert sending.recv(4096).decode().startswith("HTTP/1.1 204")
            assert create(client, 0, Upload_Concat=whole).status_code == 201

    def test_an_expired_upload_is_forgotten_with_its_pieces(
        self, client: httpx.Client, settings: Settings, sessions: Sessions, runtime: FakeRuntime
    ) -> None:
        expired, kept = (create(client, 10, b"sound").headers["Location"] for _ in range(2))
        used = create(client, 5, b"sound").headers["Location"]
        make_job(client, used)
        for url in (expired, used):
            expire(sessions, url)
        assert client.head(expired).status_code == 404
        assert patch(client, expired, 5, b"s").status_code == 404
        assert problem(client.delete(expired))["code"] == "upload_not_found"
        sweep(runtime, grace=timedelta(0), upload_grace=timedelta(0))
        assert {key.split("/")[1] for key in objects(settings)} == {id_of(kept), id_of(used)}
        assert stored_bytes(sessions) == 15
        assert patch(client, kept, 5, b"sound").status_code == 204

    def test_pieces_that_no_row_counts_yet_are_left_alone_for_a_day(
        self, client: httpx.Client, settings: Settings, runtime: FakeRuntime
    ) -> None:
        url = begin(client, 10)
        Storage(settings).put(uploads.new_key(uuid.UUID(id_of(url))), b"sound", "audio/flac")
        sweep(runtime, grace=timedelta(0))
        assert len(objects(settings)) == 1
        sweep(runtime, upload_grace=timedelta(0))
        assert objects(settings) == []


def test_tenants_see_their_own_uploads_alone(settings: Settings) -> None:
    keyed = settings.model_copy(update={"api_keys": {"k1": "one", "k2": "two"}})
    with serving(create_app(keyed), keyed) as client:
        client.headers["Authorization"] = "Bearer k1"
        url = create(client, 10, b"sound").headers["Location"]
        partial = create(client, 5, b"sound", Upload_Concat="partial").headers["Location"]
        client.headers["Authorization"] = "Bearer k2"
        answers = [
            client.head(url),
            client.get(url),
            patch(client, url, 5, b"sound"),
            client.post(f"{url}/complete"),
            client.delete(url),
            make_job(client, url),
            create(client, 0, Upload_Concat=f"final;{partial}"),
        ]
        assert {answer.status_code for answer in answers} == {404}
        client.headers["Authorization"] = "Bearer k1"
        assert patch(client, url, 5, b"sound").status_code == 204
