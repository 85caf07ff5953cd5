"""People divide and join segments, name and merge speakers, and hear what they correct."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text

from db import voices
from db.events import event_log
from db.models import (
    Chunk,
    Job,
    JobStatus,
    Role,
    SegmentSource,
    Step,
    StepKind,
    StepState,
    StoredHypothesis,
    StoredSegment,
    StoredSpeaker,
    StoredTurn,
    StoredVoice,
)
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.session import Sessions
from db.settings import Settings
from speech.text.words import Hypothesis, Phrase, Word
from tests.api.test_jobs import problem
from tests.jobs import make_job
from tests.waiting import until

TEXT = "We met on Sunday."


@pytest.fixture
def job_id(sessions: Sessions) -> uuid.UUID:
    """A completed job: three segments of two speakers in two chunks."""
    made = make_job(sessions)
    with job_transaction(sessions, made) as tx:
        for chunk in (0, 1):
            tx.session.add(Chunk(job_id=made, index=chunk, start=30 * chunk, end=30 * chunk + 30, key=f"c{chunk}"))
        for label in ("SPEAKER_00", "SPEAKER_01"):
            tx.session.add(StoredSpeaker(job_id=made, label=label, vector=[1.0, 0.0]))
        tx.session.flush()
        for place, (start, label) in enumerate([(0.0, "SPEAKER_00"), (10.0, "SPEAKER_01"), (30.0, "SPEAKER_00")]):
            tx.session.add(StoredTurn(job_id=made, index=place, start=start, end=start + 4, speaker=label))
        for index, start in ((0, 0.0), (1, 10.0), (100, 30.0)):
            words = [
                {"text": text, "start": start + i, "end": start + i + 0.8, "confidence": 0.7}
                for i, text in enumerate(TEXT.split())
            ]
            tx.session.add(
                StoredSegment(
                    job_id=made, index=index, chunk=index // 100, start=start, end=start + 4, text=TEXT,
                    speaker=f"SPEAKER_0{index % 100}", language="en", confidence=0.7,
                    source=SegmentSource.REFINED, words=words,
                )
            )  # fmt: skip
        tx.job.status, tx.job.duration, tx.job.models = JobStatus.COMPLETED, 60.0, {"embed": {"model": "campplus"}}
        tx.job.transcript_prefix = f"jobs/{made}/old/"
    return made


def segments(client: httpx.Client, job_id: uuid.UUID) -> dict[int, dict[str, Any]]:
    found = client.get(f"/v1/jobs/{job_id}/transcript").json()["segments"]
    return {segment["index"]: segment for segment in found}


def last_event(sessions: Sessions, job_id: uuid.UUID) -> tuple[str, dict[str, Any], int]:
    with sessions() as session:
        event = event_log.after(session, job_id, 0)[-1]
    return event.type.value, event.data, event.seq


class TestSegments:
    def test_dividing_and_joining(self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID) -> None:
        before = segments(client, job_id)
        url = f"/v1/jobs/{job_id}/segments"
        first, second = client.post(f"{url}/0/split", json={"at": 1}).json()["segments"]
        assert (first["index"], first["text"], second["index"], second["text"]) == (0, "We", 2, "met on Sunday.")
        assert (first["source"], second["speaker"]) == ("refined", "SPEAKER_00")
        type_, data, seq = last_event(sessions, job_id)
        assert (type_, data) == ("segments.replaced", {"segments": [first, second], "removed": []})
        assert {first["version"], second["version"]} == {seq}
        assert [s["text"] for s in segments(client, job_id).values()] == ["We", "met on Sunday.", TEXT, TEXT]

        (joined,) = client.post(f"{url}/0/merge", json={"next": 2}).json()["segments"]
        type_, data, seq = last_event(sessions, job_id)
        assert (type_, data["removed"], joined["version"]) == ("segments.replaced", [2], seq)
        assert segments(client, job_id) == {**before, 0: {**before[0], "version": seq}}

    def test_neighbours_of_two_chunks(self, client: httpx.Client, job_id: uuid.UUID) -> None:
        (joined,) = client.post(f"/v1/jobs/{job_id}/segments/1/merge", json={"next": 100}).json()["segments"]
        assert (joined["start"], joined["end"], joined["text"]) == (10.0, 34.0, f"{TEXT} {TEXT}")
        assert (joined["speaker"], joined["chunk"]) == ("SPEAKER_01", 0)

    def test_no_draft_comes_back_where_all_was_joined_to_another_chunk(
        self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
    ) -> None:
        phrase = Phrase(0, 1, "as drafted", (Word("drafted", 0, 1, 0.5),), 0.5)
        content = Hypothesis("en", (phrase,)).to_json()
        with job_transaction(sessions, job_id) as tx:
            tx.job.status = JobStatus.PROCESSING
            tx.session.add(StoredHypothesis(job_id=job_id, chunk=1, role=Role.DRAFT, engine={}, content=content))
            tx.session.add(Step(job_id=job_id, kind=StepKind.ALIGN, chunk=1, state=StepState.DONE))
        client.post(f"/v1/jobs/{job_id}/segments/1/merge", json={"next": 100})
        assert list(segments(client, job_id)) == [0, 1]

    def test_a_correction_stays_with_its_half(self, client: httpx.Client, job_id: uuid.UUID) -> None:
        url = f"/v1/jobs/{job_id}/segments"
        client.patch(f"{url}/0", json={"text": "We first met on Monday."})
        _, second = client.post(f"{url}/0/split", json={"at": 3}).json()["segments"]
        assert (second["text"], second["source"]) == ("on Monday.", "human")
        reverted = client.post(f"{url}/{second['index']}/revert", json={}).json()
        assert (reverted["text"], reverted["source"]) == ("on Sunday.", "refined")
        assert segments(client, job_id)[0]["text"] == "We first met"

    def test_reverting(self, client: httpx.Client, job_id: uuid.UUID) -> None:
        url, before = f"/v1/jobs/{job_id}/segments/0", segments(client, job_id)[0]
        assert client.post(f"{url}/revert", json={}).json() == before, "nothing was changed"
        client.patch(url, json={"text": "Wrong.", "speaker": "SPEAKER_01"})
        reverted = client.post(f"{url}/revert", json={}).json()
        assert reverted == {**before, "speaker": "SPEAKER_01", "version": reverted["version"]}

    def test_confirming_and_renaming_are_two_things(self, client: httpx.Client, job_id: uuid.UUID) -> None:
        url = f"/v1/jobs/{job_id}/segments/0"
        renamed = client.patch(url, json={"speaker": "Ada"}).json()
        assert (renamed["source"], renamed["confidence"]) == ("refined", 0.7)
        confirmed = client.patch(url, json={"text": TEXT}).json()
        assert (confirmed["source"], confirmed["confidence"]) == ("human", 1.0)
        assert {word["confidence"] for word in confirmed["words"]} == {1.0}

    def test_who_comes_second_is_shown_what_there_is(self, client: httpx.Client, job_id: uuid.UUID) -> None:
        url = f"/v1/jobs/{job_id}/segments/0"
        first = client.patch(url, json={"text": "They met.", "version": 0})
        assert first.status_code == 200
        for path, body in (
            ("", {"text": "I met."}),
            ("/split", {"at": 1}),
            ("/merge", {"next": 1}),
            ("/revert", {}),
        ):
            method = "POST" if path else "PATCH"
            told = problem(client.request(method, url + path, json={**body, "version": 0}))
            assert (told["status"], told["code"]) == (409, "segment_changed")
            assert told["segment"] == first.json()
        version = first.json()["version"]
        assert client.patch(url, json={"text": "I met.", "version": version}).status_code == 200
        late = problem(client.post(f"/v1/jobs/{job_id}/segments/0/merge", json={"next": 1, "next_version": 7}))
        assert late["segment"]["index"] == 1

    @pytest.mark.parametrize(
        ("path", "body", "status", "code"),
        [
            ("0/split", {"at": 4}, 422, "invalid_request"),
            ("0/split", {"at": 0}, 422, "invalid_request"),
            ("9/split", {"at": 1}, 404, "segment_not_found"),
            ("0/merge", {"next": 100}, 409, "segments_apart"),
            ("1/merge", {"next": 0}, 409, "segments_apart"),
            ("0/merge", {"next": 9}, 404, "segment_not_found"),
        ],
    )
    def test_what_cannot_be(
        self, client: httpx.Client, job_id: uuid.UUID, path: str, body: dict[str, int], status: int, code: str
    ) -> None:
        answer = client.post(f"/v1/jobs/{job_id}/segments/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    def test_what_nobody_could_correct_is_not_made(
        self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
    ) -> None:
        for index in (0, 1):
            client.patch(f"/v1/jobs/{job_id}/segments/{index}", json={"text": "ab " * 1000})
        answer = client.post(f"/v1/jobs/{job_id}/segments/0/merge", json={"next": 1})
        assert (answer.status_code, answer.json()["code"]) == (422, "segment_too_long")

    def test_a_chunk_has_a_hundred_segments(
        self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
    ) -> None:
        with sessions.begin() as session:
            session.get_one(StoredSegment, (job_id, 1)).index = 99
        answer = client.post(f"/v1/jobs/{job_id}/segments/0/split", json={"at": 1})
        assert (answer.status_code, answer.json()["code"]) == (409, "too_many_segments")

    def test_outdated_files_are_not_sent(
        self, client: httpx.Client, settings: Settings, job_id: uuid.UUID
    ) -> None:
        Storage(settings).put(f"jobs/{job_id}/old/transcript.txt", b"as it was", "text/plain")
        assert client.get(f"/v1/jobs/{job_id}/transcript?format=txt").text == "as it was"
        client.post(f"/v1/jobs/{job_id}/segments/0/split", json={"at": 1})
        assert TEXT in client.get(f"/v1/jobs/{job_id}/transcript?format=txt").text


class TestSpeakers:
    def test_a_name_is_everywhere(self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID) -> None:
        answer = client.patch(f"/v1/jobs/{job_id}/speakers", json={"label": "SPEAKER_00", "name": "Ada"}).json()
        assert [(speaker["label"], speaker["name"]) for speaker in answer["speakers"]] == [
            ("SPEAKER_00", "Ada"),
            ("SPEAKER_01", None),
        ]
        type_, data, _ = last_event(sessions, job_id)
        assert (type_, data) == ("speakers.changed", {**answer, "merged": None})
        assert "Ada: We met" in client.get(f"/v1/jobs/{job_id}/transcript?format=srt").text
        client.patch(f"/v1/jobs/{job_id}/speakers", json={"label": "SPEAKER_00", "name": None})
        assert "Ada" not in client.get(f"/v1/jobs/{job_id}/transcript?format=srt").text

    def test_a_name_that_was_typed_in_can_be_changed(self, client: httpx.Client, job_id: uuid.UUID) -> None:
        client.patch(f"/v1/jobs/{job_id}/segments/0", json={"speaker": "Bob"})
        answer = client.patch(f"/v1/jobs/{job_id}/speakers", json={"label": "Bob", "name": "Robert"}).json()
        assert {s["label"]: s["name"] for s in answer["speakers"]}["Bob"] == "Robert"

    def test_merging(self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID) -> None:
        url = f"/v1/jobs/{job_id}/speakers"
        client.patch(url, json={"label": "SPEAKER_01", "name": "Ada"})
        merged = {"label": "SPEAKER_01", "into": "SPEAKER_00"}
        (speaker,) = client.post(f"{url}/merge", json=merged).json()["speakers"]
        assert (speaker["label"], speaker["name"]) == ("SPEAKER_00", "Ada")
        transcript = client.get(f"/v1/jobs/{job_id}/transcript").json()
        assert {s["speaker"] for s in transcript["segments"] + transcript["turns"]} == {"SPEAKER_00"}
        assert last_event(sessions, job_id)[1]["merged"] == merged

    def test_this_is_ada(self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID) -> None:
        enrolment = {"name": "Ada", "job_id": str(job_id), "speaker": "SPEAKER_00"}
        voice = client.post("/v1/voices", json=enrolment).json()
        assert (voice["status"], voice["seconds"], voice["model"]) == ("ready", 8.0, "campplus")
        with sessions() as session:
            assert session.scalars(select(StoredVoice.vector)).one() == [1.0, 0.0]
        (first, _) = last_event(sessions, job_id)[1]["speakers"]
        assert (first["name"], first["voice_id"], first["score"]) == ("Ada", voice["id"], None)
        # and in another place: who she is is known once
        url = f"/v1/jobs/{job_id}/speakers"
        told = problem(client.patch(url, json={"label": "SPEAKER_01", "voice_id": voice["id"]}))
        assert (told["status"], told["code"]) == (409, "voice_assigned")
        client.patch(url, json={"label": "SPEAKER_00", "voice_id": None})
        answer = client.patch(url, json={"label": "SPEAKER_01", "voice_id": voice["id"]}).json()
        assert [speaker["name"] for speaker in answer["speakers"]] == [None, "Ada"]
        assert problem(client.post("/v1/voices", json=enrolment))["code"] == "voice_exists"

    def test_a_voice_that_is_being_forgotten_is_nobodys(
        self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
    ) -> None:
        enrolment = {"name": "Ada", "job_id": str(job_id), "speaker": "SPEAKER_00"}
        voice_id = client.post("/v1/voices", json=enrolment).json()["id"]
        url = f"/v1/jobs/{job_id}/speakers"
        client.patch(url, json={"label": "SPEAKER_00", "name": None})
        waiting = select(func.count()).select_from(text("pg_locks")).where(text("NOT granted"))
        with ThreadPoolExecutor() as pool, sessions.begin() as session, sessions() as watching:
            voices.delete(session, session.get_one(StoredVoice, uuid.UUID(voice_id)))
            asked = pool.submit(client.patch, url, json={"label": "SPEAKER_01", "voice_id": voice_id})
            until(lambda: asked.done() or watching.scalar(waiting))
            session.commit()
            told = problem(asked.result())
        assert (told["status"], told["code"]) == (404, "voice_not_found")

    @pytest.mark.parametrize(
        ("speaker", "changes", "status", "code"),
        [
            ("SPEAKER_01", {}, 422, "voice_too_short"),
            ("SPEAKER_07", {}, 404, "speaker_not_found"),
            ("SPEAKER_00", {"models": {}}, 422, "voice_without_voiceprint"),
        ],
    )
    def test_who_cannot_be_enrolled(
        self,
        client: httpx.Client,
        sessions: Sessions,
        job_id: uuid.UUID,
        speaker: str,
        changes: dict[str, Any],
        status: int,
        code: str,
    ) -> None:
        with sessions.begin() as session:
            for name, value in changes.items():
                setattr(session.get_one(Job, job_id), name, value)
        answer = client.post("/v1/voices", json={"name": "Ada", "job_id": str(job_id), "speaker": speaker})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert client.get("/v1/voices").json()["data"] == []

    def test_a_refusal_to_be_trained_on_outlasts_a_new_name(
        self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
    ) -> None:
        voice = client.post(
            "/v1/voices", json={"name": "Ada", "job_id": str(job_id), "speaker": "SPEAKER_00"}
        ).json()
        client.patch(f"/v1/voices/{voice['id']}", json={"training": False})
        client.delete(f"/v1/voices/{voice['id']}")
        client.patch(f"/v1/jobs/{job_id}/speakers", json={"label": "SPEAKER_00", "name": "A."})
        with sessions() as session:
            assert session.get_one(StoredSpeaker, (job_id, "SPEAKER_00")).voice_id == uuid.UUID(voice["id"])

    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "code"),
        [
            ("PATCH", "", {"label": "SPEAKER_00"}, 422, "invalid_request"),
            ("PATCH", "", {"label": "SPEAKER_00", "name": "A", "voice_id": None}, 422, "invalid_request"),
            ("PATCH", "", {"label": "Nobody", "name": "A"}, 404, "speaker_not_found"),
            ("PATCH", "", {"label": "SPEAKER_00", "voice_id": str(uuid.uuid4())}, 404, "voice_not_found"),
            ("POST", "/merge", {"label": "SPEAKER_00", "into": "SPEAKER_00"}, 422, "invalid_request"),
            ("POST", "/merge", {"label": "SPEAKER_00", "into": "Nobody"}, 404, "speaker_not_found"),
        ],
    )
    def test_what_cannot_be(
        self, client: httpx.Client, job_id: uuid.UUID, method: str, path: str, body: Any, status: int, code: str
    ) -> None:
        answer = client.request(method, f"/v1/jobs/{job_id}/speakers{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


class TestPlayback:
    def test_the_waveform(
        self, client: httpx.Client, sessions: Sessions, settings: Settings, job_id: uuid.UUID
    ) -> None:
        url = f"/v1/jobs/{job_id}/peaks"
        assert problem(client.get(url))["code"] == "peaks_not_ready"
        key = f"jobs/{job_id}/peaks-1"
        Storage(settings).put(key, bytes(range(250)) * 6, "application/octet-stream")
        with sessions.begin() as session:
            session.get_one(Job, job_id).peaks_key = key
        answer = client.get(url, params={"points": 6})
        assert answer.json() == {"start": 0.0, "end": 60.0, "peaks": [249] * 6}
        part = client.get(url, params={"start": 10, "end": 10.2}).json()
        assert part == {"start": 10.0, "end": pytest.approx(10.2), "peaks": [0, 1, 2, 3, 4]}
        assert client.get(url, params={"start": 99}).json()["peaks"] == []
        unchanged = client.get(url, params={"points": 6}, headers={"If-None-Match": answer.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert client.get(url, params={"points": 7}, headers={"If-None-Match": answer.headers["etag"]}).is_success

    def test_browsers_are_sent_to_what_they_play(
        self, client: httpx.Client, sessions: Sessions, job_id: uuid.UUID
    ) -> None:
        with sessions.begin() as session:
            session.get_one(Job, job_id).sha256 = "0" * 64
        url = f"/v1/jobs/{job_id}/audio?playable=true"
        assert "/source" in client.get(url).headers["location"]
        with sessions.begin() as session:
            session.get_one(Job, job_id).rendition_key = f"jobs/{job_id}/rendition-1.ogg"
        assert "/rendition-1.ogg" in client.get(url).headers["location"]
        assert "/source" in client.get(f"/v1/jobs/{job_id}/audio").headers["location"]
