"""OpenAI's own clients against this server: what they send is taken, and what they read is answered."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai.types.audio import TranscriptionDiarized, TranscriptionVerbose
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from api.access.audit_log import AuditLog
from api.app import create_app
from api.openai.answers import diarized_segments
from api.openai.fields import parse_fields
from api.problems import Problem
from api.routes.transcripts import build_transcript
from db import transcripts
from db.access import audit
from db.access import keys as stored_keys
from db.models import (
    AuditEntry,
    Job,
    JobStatus,
    KnownSpeaker,
    Priority,
    Scope,
    StepKind,
    StepState,
    StoredVoice,
    VoiceStatus,
)
from db.session import Sessions
from db.settings import Settings
from speech.audio import flac
from speech.text.transcript import Speaker, Transcript
from speech.text.words import Segment, Source
from tasks.steps import diarize, embed, purge
from tests.api.conftest import serving
from tests.api.test_limits import connect
from tests.jobs import steps_of
from tests.node import node
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import HANDLERS, recording, run_until_done
from tests.waiting import LIMIT_SECONDS, until

SAID = "We met on Monday."
SHORT = recording("jfk.flac")
SILENCE = flac.encode(np.zeros(16_000, np.float32))


def of(
    client: httpx.Client, *, api_key: str = "any", max_retries: int = 0, timeout: float = LIMIT_SECONDS
) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{client.base_url}/v1", api_key=api_key, max_retries=max_retries, timeout=timeout
    )


def work_off(settings: Settings) -> None:
    """Run every step that is ready, as workers would."""
    runtime = FakeRuntime(settings, lambda _: "we met on monday", lambda _: SAID)
    run_until_done(runtime, [*HANDLERS, diarize.handler, embed.handler])


@contextmanager
def asked(settings: Settings, sessions: Sessions, ask: Callable[[], Any]) -> Iterator[Future[Any]]:
    """What a client asks for in a thread, with its job worked off meanwhile."""
    before = len(all_jobs(sessions))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        until(lambda: answer.done() or len(all_jobs(sessions)) > before)
        if not answer.done():
            work_off(settings)
        yield answer


def all_jobs(sessions: Sessions) -> list[Job]:
    with sessions() as session:
        return list(session.scalars(select(Job).order_by(Job.created_at)))


def only_job(sessions: Sessions) -> Job | None:
    return next(iter(all_jobs(sessions)), None)


class TestAnswers:
    @pytest.fixture
    def ask(self, client: httpx.Client, settings: Settings, sessions: Sessions) -> Callable[..., Any]:
        def asking(**wanted: Any) -> Any:
            given = {"file": ("audio.bin", SHORT), "model": "whisper-1"} | wanted

            def create() -> Any:
                answer = of(client).audio.transcriptions.create(**given)
                return list(answer) if given.get("stream") else answer

            with asked(settings, sessions, create) as answer:
                return answer.result()

        return asking

    def test_text(self, ask: Callable[..., Any], sessions: Sessions, settings: Settings) -> None:
        keywords = ["ASR", *(f"word {number}" for number in range(96))]
        answer = ask(language="en", temperature=0.2, prompt="Monday, and Acme: the firm", keywords=keywords)
        assert answer.text.startswith(SAID)
        assert answer.usage.seconds == pytest.approx(11.0, abs=0.1)
        job = only_job(sessions)
        assert job is not None
        assert job.options["hotwords"] == ["Monday", "and Acme", "the firm", *keywords]
        assert (job.options["language"], job.options["refine"], job.diarize) == ("en", "only", False)
        assert not steps_of(sessions, job.id, StepKind.DRAFT), "nobody reads a draft"
        # nothing is kept
        assert until(lambda: all_jobs(sessions)[0].deleted_at)
        run_until_done(FakeRuntime(settings, lambda _: "", lambda _: ""), [purge.handler])
        assert all_jobs(sessions) == []

    def test_plain_and_subtitles(self, ask: Callable[..., Any]) -> None:
        assert ask(response_format="text").startswith(SAID)
        assert ask(response_format="srt").startswith("1\n00:00:0")
        assert ask(response_format="vtt").startswith("WEBVTT\n")

    def test_verbose(self, ask: Callable[..., Any]) -> None:
        answer = ask(response_format="verbose_json")
        assert isinstance(answer, TranscriptionVerbose)
        assert isinstance(answer.duration, float)
        assert (answer.language, answer.words) == ("english", None)
        assert answer.segments is not None
        assert answer.text == "".join(segment.text for segment in answer.segments)
        assert [segment.id for segment in answer.segments] == list(range(len(answer.segments)))
        for segment in answer.segments:
            fields = segment.model_dump()
            assert fields["tokens"] == []
            kinds = {name: type(value) for name, value in fields.items()}
            names = ("start", "end", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob")
            assert [kinds[name] for name in names] == [float] * 6
            assert (kinds["id"], kinds["seek"], kinds["text"]) == (int, int, str)
        words = ask(response_format="verbose_json", timestamp_granularities=["word"])
        assert (words.segments, words.words[0].word) == (None, "We")
        both = ask(response_format="verbose_json", timestamp_granularities=["word", "segment"])
        assert len(both.words) == 4 * len(both.segments)

    def test_who_spoke(self, ask: Callable[..., Any], sessions: Sessions) -> None:
        answer = ask(model="gpt-4o-transcribe-diarize", response_format="diarized_json", chunking_strategy="auto")
        assert isinstance(answer, TranscriptionDiarized)
        assert {segment.speaker for segment in answer.segments} <= {"A", "B", "C"}
        assert answer.task == "transcribe"
        (job,) = all_jobs(sessions)
        assert job.diarize

    def test_drafts(self, ask: Callable[..., Any], sessions: Sessions) -> None:
        assert ask(model="longhand-draft").text.startswith("we met")
        (job,) = all_jobs(sessions)
        assert not steps_of(sessions, job.id, StepKind.REFINE)

    def test_a_stream(self, ask: Callable[..., Any]) -> None:
        # several chunks
        *deltas, done = ask(file=recording(), stream=True)
        assert {event.type for event in deltas} == {"transcript.text.delta"}
        assert done.type == "transcript.text.done"
        assert "".join(event.delta for event in deltas) == done.text
        assert done.text.startswith(SAID)
        *segments, done = ask(stream=True, response_format="diarized_json")
        assert {event.type for event in segments} == {"transcript.text.segment"}
        assert done.type == "transcript.text.done"

    def test_a_recording_that_is_none(self, ask: Callable[..., Any], sessions: Sessions) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(file=b"no audio at all")
        assert (caught.value.code, caught.value.type) == ("audio_unreadable", "invalid_request_error")
        # the clients would send it again and again
        assert caught.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(openai.APIError, match="could not be read") as failed:
            ask(file=b"no audio at all", stream=True)
        assert failed.value.code == "audio_unreadable"
        assert until(lambda: all(job.deleted_at for job in all_jobs(sessions)))


class TestJobs:
    def test_one_that_is_kept(self, client: httpx.Client, settings: Settings, sessions: Sessions) -> None:
        create = of(client).audio.transcriptions.with_raw_response.create
        with asked(
            settings,
            sessions,
            lambda: create(file=SHORT, model="longhand", extra_body={"keep": True, "source": "news"}),
        ) as answer:
            headers = answer.result().headers
        job = client.get(headers["Location"]).json()
        assert (job["status"], job["options"]["source"], headers["x-request-id"]) == (
            "completed",
            "news",
            job["id"],
        )
        with sessions() as session:
            entry = session.scalars(select(AuditEntry).where(AuditEntry.action.startswith("POST"))).one()
        assert (entry.action, entry.target) == ("POST /v1/audio/transcriptions", job["id"])

    @pytest.mark.parametrize("stream", [False, True])
    def test_who_hangs_up_ends_it(self, client: httpx.Client, sessions: Sessions, stream: bool) -> None:
        def listen() -> None:
            list(of(client, timeout=0.5).audio.transcriptions.create(file=SHORT, model="whisper-1", stream=stream))

        with pytest.raises((openai.APITimeoutError, openai.APIConnectionError)):
            listen()
        job = until(lambda: next((job for job in all_jobs(sessions) if job.status == JobStatus.CANCELLED), None))
        assert until(lambda: all_jobs(sessions)[0].deleted_at)
        assert {step.state for step in steps_of(sessions, job.id, StepKind.INGEST)} == {StepState.SKIPPED}

    @pytest.mark.parametrize("stream", [False, True])
    def test_who_hangs_up_before_the_answer_begins_ends_it_too(
        self, client: httpx.Client, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, stream: bool
    ) -> None:
        commit = AuditLog.commit

        async def late(log: AuditLog, entry: audit.Entry) -> None:
            await asyncio.sleep(0.3)
            await commit(log, entry)

        monkeypatch.setattr(AuditLog, "commit", late)
        request = client.build_request(
            "POST",
            "/v1/audio/transcriptions",
            files={"file": SHORT},
            data={"model": "whisper-1", "stream": str(stream).lower()},
        )
        head = "\r\n".join(
            [f"POST {request.url.path} HTTP/1.1", *(f"{n}: {v}" for n, v in request.headers.items()), "", ""]
        )
        with connect(client) as hanging_up:
            hanging_up.sendall(head.encode() + request.read())
            until(lambda: only_job(sessions))
        assert until(lambda: all_jobs(sessions)[0].deleted_at)

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_outage_of_postgres_amid_it(
        self,
        client: httpx.Client,
        settings: Settings,
        sessions: Sessions,
        monkeypatch: pytest.MonkeyPatch,
        stream: bool,
    ) -> None:
        """A stream goes on; a whole answer is an error whose job nobody keeps."""
        away = iter([True])

        def once(read: Callable[..., Any]) -> Callable[..., Any]:
            def reading(*given: Any) -> Any:
                if next(away, False):
                    raise OperationalError("SELECT", {}, Exception("Postgres is away"))
                return read(*given)

            return reading

        monkeypatch.setattr(transcripts, "aligned_segments", once(transcripts.aligned_segments))
        monkeypatch.setattr("api.routes.openai.build_transcript", once(build_transcript))

        def ask() -> Any:
            answer = of(client).audio.transcriptions.create(file=SHORT, model="whisper-1", stream=stream)
            return list(answer) if stream else answer

        with asked(settings, sessions, ask) as answer:
            if stream:
                assert answer.result()[-1].text.startswith(SAID)
            else:
                assert isinstance(answer.exception(), openai.InternalServerError)
        assert until(lambda: all_jobs(sessions)[0].deleted_at)

    def test_who_comes_back(self, client: httpx.Client, settings: Settings, sessions: Sessions) -> None:
        def ask(timeout: float = LIMIT_SECONDS) -> Any:
            return of(client, timeout=timeout).audio.transcriptions.create(
                file=SHORT, model="whisper-1", extra_headers={"Idempotency-Key": "k"}
            )

        with pytest.raises(openai.APITimeoutError):
            ask(0.5)
        job = until(lambda: only_job(sessions))
        assert job.status == JobStatus.QUEUED
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask)
            work_off(settings)
            assert waiting.result().text == ask().text
        assert [found.id for found in all_jobs(sessions)] == [job.id]

    def test_one_that_takes_too_long_goes_on(self, settings: Settings, sessions: Sessions) -> None:
        hasty = settings.model_copy(update={"transcribe_seconds": 0.1})
        with serving(create_app(hasty), hasty) as client:
            with pytest.raises(openai.InternalServerError) as caught:
                of(client, max_retries=2).audio.transcriptions.create(file=SHORT, model="whisper-1")
            assert (caught.value.status_code, caught.value.code) == (504, "transcript_not_ready")
            (job,) = all_jobs(sessions)
            assert (job.status, job.deleted_at) == (JobStatus.QUEUED, None)

    def test_more_at_once_than_upload_slots(self, settings: Settings, sessions: Sessions) -> None:
        few = settings.model_copy(update={"max_uploads": 2})
        with serving(create_app(few), few) as client, ThreadPoolExecutor(12) as pool:
            create = of(client).audio.transcriptions.create
            answers = [pool.submit(create, file=SILENCE, model="whisper-1") for _ in range(12)]
            until(lambda: len(all_jobs(sessions)) == 12)
            work_off(settings)
            assert {answer.result().text for answer in answers} == {""}


class TestErrors:
    def test_models(self, client: httpx.Client) -> None:
        names = [model.id for model in of(client).models.list()]
        assert {"longhand", "longhand-draft", "whisper-1", "gpt-4o-transcribe-diarize"} <= set(names)
        assert of(client).models.retrieve("whisper-1").object == "model"
        with pytest.raises(openai.NotFoundError) as caught:
            of(client).models.retrieve("gpt-5")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")

    @pytest.mark.parametrize(
        ("wanted", "status", "code", "param"),
        [
            ({"model": "whisper-9"}, 404, "model_not_found", "model"),
            ({"language": "xx"}, 400, "invalid_options", "language"),
            ({"temperature": 7}, 400, "invalid_request", "temperature"),
            ({"response_format": "docx"}, 400, "invalid_request", "response_format"),
            ({"stream": True, "response_format": "srt"}, 400, "unsupported_value", "response_format"),
            ({"timestamp_granularities": ["page"]}, 400, "invalid_request", "timestamp_granularities.0"),
            ({"include": ["logprobs"]}, 400, "unsupported_parameter", "include"),
            ({"known_speaker_references": ["data:,A"]}, 400, "invalid_request", "known_speaker_references"),
            ({"known_speaker_names": ["Ada"]}, 400, "voice_not_found", "known_speaker_names"),
            ({"extra_body": {"no_such": 1}}, 400, "invalid_options", None),
            ({"extra_body": {"priority": "soon"}}, 400, "invalid_options", "priority"),
            ({"file": b""}, 400, "file_empty", None),
        ],
    )
    def test_bad_requests(
        self, client: httpx.Client, sessions: Sessions, wanted: Any, status: int, code: str, param: str | None
    ) -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            of(client).audio.transcriptions.create(**{"file": SHORT, "model": "whisper-1"} | wanted)
        error = caught.value
        assert (error.status_code, error.code) == (status, code)
        assert param is None or error.param == param
        assert isinstance(error.body, dict)
        assert set(error.body) == {"message", "type", "param", "code"}
        assert all_jobs(sessions) == []

    def test_without_a_file(self, client: httpx.Client) -> None:
        for body in ({"data": {"model": "whisper-1"}}, {"json": {"model": "whisper-1"}}, {}):
            answer = client.post("/v1/audio/transcriptions", **body)  # type: ignore[arg-type]
            assert answer.status_code == 415
            assert answer.json()["error"]["code"] == "unsupported_media_type"

    def test_keys_and_limits(self, settings: Settings, sessions: Sessions) -> None:
        def key(*scopes: Scope) -> str:
            with sessions.begin() as session:
                _, made = stored_keys.create(
                    session,
                    tenant="one",
                    name="of one",
                    scopes=set(scopes),
                    max_priority=Priority.NORMAL,
                    expires_at=None,
                )
            return made

        writes, reads = key(Scope.JOBS_WRITE), key(Scope.JOBS_READ)
        limited = settings.model_copy(update={"tenant_jobs_at_once": 0})
        with serving(create_app(limited), limited) as client:

            def refused(api_key: str) -> openai.APIStatusError:
                with pytest.raises(openai.APIStatusError) as caught:
                    of(client, api_key=api_key).audio.transcriptions.create(file=SHORT, model="whisper-1")
                return caught.value

            assert isinstance(error := refused("lh_nobody"), openai.AuthenticationError)
            assert (error.code, error.type) == ("unauthorized", "authentication_error")
            assert isinstance(error := refused(reads), openai.PermissionDeniedError)
            assert error.code == "scope_missing"
            assert isinstance(error := refused(writes), openai.RateLimitError)
            assert (error.code, error.type) == ("quota_jobs", "rate_limit_error")
            assert of(client, api_key=reads).models.list().data
        assert all_jobs(sessions) == []


def test_names_of_voices_and_letters() -> None:
    def segment(index: int, speaker: str | None) -> Segment:
        return Segment(index, 0, float(index), index + 1.0, "so", 0.9, Source.REFINED, speaker=speaker)

    said = (segment(0, "SPEAKER_01"), segment(1, "SPEAKER_00"), segment(2, "SPEAKER_02"), segment(3, None))
    people = (Speaker("SPEAKER_00", "Ada"), Speaker("SPEAKER_01"), Speaker("SPEAKER_02", "Bob"))
    transcript = Transcript("1", "completed", "en", 4.0, said, speakers=people)

    def speakers(*known: str) -> list[str]:
        return [found["speaker"] for found in diarized_segments(transcript, known)]

    assert speakers() == ["A", "Ada", "Bob", "B"]
    assert speakers("Ada") == ["A", "Ada", "B", "C"]


def test_known_speakers_are_enrolled_voices(client: httpx.Client, sessions: Sessions) -> None:
    with sessions.begin() as session:
        for name, ready in (("Ada", True), ("Bob", False)):
            voice = StoredVoice(id=uuid.uuid4(), tenant="default", name=name, status=VoiceStatus.PENDING)
            if ready:
                voice.status, voice.vector, voice.model, voice.seconds = VoiceStatus.READY, [1.0], "campplus", 6.0
            session.add(voice)
    with pytest.raises(openai.BadRequestError, match="'Bob'"):
        of(client).audio.transcriptions.create(file=SHORT, model="whisper-1", known_speaker_names=["Ada", "Bob"])


def test_known_speakers_by_samples(client: httpx.Client, settings: Settings, sessions: Sessions) -> None:
    sample = "data:audio/flac;base64," + b64encode(SHORT).decode()

    def ask(names: list[str], samples: list[str], **wanted: Any) -> Any:
        given: dict[str, Any] = {"known_speaker_names": names, "known_speaker_references": samples}
        given |= {"model": "whisper-1", "response_format": "diarized_json"} | wanted
        return of(client).audio.transcriptions.create(file=SHORT, **given)

    for names, samples, wanted, message in (
        (["Ada"], [sample, sample], {}, "a name of its own"),
        (["Ada", "Ada"], [sample, sample], {}, "a name of its own"),
        (["Ada"], ["https://example.com/ada.wav"], {}, "no data URL"),
        (["Ada"], [sample + "!"], {}, "not base64"),
        (["Ada"], [sample + "\u00e4"], {}, "not base64"),
        (["Ada"], ["data:audio/wav;base64,"], {}, "is empty"),
        (["Ada"], [sample], {"response_format": "json"}, "diarized_json"),
        (["Ada"], [sample], {"extra_body": {"channels": "split"}}, "channels `split`"),
        (["Ada"], [sample], {"extra_body": {"diarize": False}}, "`diarize: false`"),
        (list("ABCDE"), [sample] * 5, {}, "at most 4"),
        (["Ada"], ["data:audio/wav;base64," + "A" * 4 * 1024 * 1024], {}, "larger than 4194304 bytes"),
    ):
        with pytest.raises(openai.BadRequestError, match=message) as refused:
            ask(names, samples, **wanted)
        assert refused.value.param in ("known_speaker_references", None)
    assert all_jobs(sessions) == []
    with asked(settings, sessions, lambda: ask(["Jack"], [sample], extra_body={"keep": True})) as answer:
        assert {segment.speaker for segment in answer.result().segments} == {"Jack"}
    with sessions() as session:
        assert session.scalar(select(KnownSpeaker)) is None, "samples are forgotten once they have served"
    noise = "data:audio/wav;base64," + b64encode(bytes(100)).decode()
    with asked(settings, sessions, lambda: ask(["Jack"], [noise])) as answer:
        with pytest.raises(openai.APIStatusError, match="sample of 'Jack'") as failed:
            answer.result()
        assert (failed.value.status_code, failed.value.code) == (400, "known_speaker_unreadable")


@pytest.mark.filterwarnings("ignore:deprecated")
def test_translations(client: httpx.Client, settings: Settings, sessions: Sessions) -> None:
    def translate(**wanted: Any) -> Any:
        return of(client).audio.translations.create(file=SHORT, model="whisper-1", **wanted)

    with asked(settings, sessions, lambda: translate(response_format="verbose_json")) as answer:
        told = answer.result()
    assert (told.text.startswith(SAID), told.language) == (True, "english")
    assert told.model_dump()["task"] == "translate"
    assert (all_jobs(sessions)[-1].options["translate"], all_jobs(sessions)[-1].options["refine"]) == (
        True,
        "only",
    )
    with pytest.raises(openai.BadRequestError, match="only the strong model translates"):
        of(client).audio.translations.create(file=SHORT, model="longhand-draft")


def test_forms_as_clients_send_them() -> None:
    fields, options = parse_fields(
        [
            ("model", "whisper-1"),
            ("timestamp_granularities", "word"),
            ("timestamp_granularities[]", "segment"),
            ("language", ""),
            ("languages[]", "fr"),
            ("chunking_strategy[type]", "server_vad"),
            ("stream", "false"),
            ("prompt", "x" * 100 + "\u0007, and v1.5 of e.g.\nit"),
            ("hotwords", "one,two"),
        ]
    )
    assert [granularity.value for granularity in fields.timestamp_granularities] == ["word", "segment"]
    assert (options.language, options.hotwords) == ("fr", ["one", "two"])
    _, options = parse_fields([("prompt", ", ".join(map(str, range(300))))])
    assert options.hotwords == [str(number) for number in range(200, 300)]
    _, options = parse_fields([("prompt", "x" * 100 + "\u0007, and v1.5 of it")])
    assert options.hotwords == ["x" * 80, "x" * 20, "and v1.5 of it"]
    assert parse_fields([("channels", "split"), ("response_format", "diarized_json")])[1].diarize is None
    for policy in ("always", "never"):
        assert parse_fields([("refine", policy)])[1].refine.value == policy
    with pytest.raises(Problem, match="refine"):
        parse_fields([("refine", "perhaps")])


def test_the_javascript_client(
    client: httpx.Client, settings: Settings, sessions: Sessions, tmp_path: Path
) -> None:
    file = tmp_path / "audio.bin"
    file.write_bytes(SHORT)
    command = [*node("openai.mjs"), f"{client.base_url}/v1", str(file)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for made in itertools.count(1):
        until(lambda made=made: running.poll() is not None or len(all_jobs(sessions)) >= made)  # type: ignore[misc]
        if running.poll() is not None:
            break
        work_off(settings)
    said, errors = running.communicate()
    assert running.returncode == 0, errors
    told = json.loads(said)
    assert "whisper-1" in told["models"]
    assert told["text"].startswith(SAID)
    assert told["verbose"]["segments"]
    assert told["verbose"]["words"]
    assert told["deltas"] == told["done"] == told["text"]
    assert told["types"].count("transcript.text.done") == 1
    assert told["error"] == {"status": 400, "code": "invalid_options", "param": "language"}
