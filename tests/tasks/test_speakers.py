"""Diarization as steps, with the real engines: speakers in the transcript, degradation, engines by name."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from db.events import event_log
from db.models import JobStatus, KnownSpeaker, Passage, SegmentSource, StepKind, StoredSegment, StoredSpeaker
from db.queue.claims import Claim
from db.queue.transaction import job_transaction
from db.settings import Settings
from speech.audio import flac
from speech.engines import EngineInfo, EngineUnavailable, Samples
from speech.load import SelectedEngine
from speech.speakers.reconstruction import Speakers
from speech.text.words import Segment, Source, Turn, Word
from tasks.engines import Wanted
from tasks.runtime import Runtime
from tasks.step import run
from tasks.steps import align, diarize, draft, embed, finalize, ingest, refine
from tasks.steps.segments import relabel_segments
from tests.conftest import MODELS
from tests.hostile import many_channels
from tests.jobs import add_chunks, make_job
from tests.media import DATA, load, media_file
from tests.metering import usage_losses
from tests.tasks.pipeline import MakeRuntime, event_types, job_of, run_until_done, submit

TRANSCRIBING = (ingest.handler, draft.handler, refine.handler, align.handler)
DIARIZING = (diarize.handler, embed.handler)
ALL = (*TRANSCRIBING, *DIARIZING, finalize.handler)


def two_people() -> bytes:
    one, other = load("librivox_0870.flac"), load("ocean_0001.flac")[: 16_000 * 12]
    return flac.encode(np.concatenate([one, np.zeros(8000, np.float32), other]))


def transcript(runtime: Runtime, job_id: uuid.UUID) -> dict[str, Any]:
    prefix = job_of(runtime, job_id).transcript_prefix
    return dict(json.loads(runtime.storage.get(f"{prefix}transcript.json")))


@pytest.mark.parametrize("speakers_first", [True, False])
def test_speakers_are_assigned_whichever_comes_first(make_runtime: MakeRuntime, speakers_first: bool) -> None:
    runtime = make_runtime(models_dir=MODELS)
    job_id = submit(runtime, two_people(), diarize=True)
    run(ingest.handler, runtime)
    for group in (DIARIZING, TRANSCRIBING) if speakers_first else (TRANSCRIBING, DIARIZING):
        run_until_done(runtime, group)
    assert job_of(runtime, job_id).status == JobStatus.PROCESSING
    run_until_done(runtime, (finalize.handler,))
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, False)
    assert (job.models["diarize"]["engine"], job.models["embed"]["engine"]) == ("pyannote-onnx", "campplus-onnx")
    result = transcript(runtime, job_id)
    assert [speaker["label"] for speaker in result["speakers"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert result["turns"][0]["speaker"] == "SPEAKER_00"
    assert all(turn["speaker"] == "SPEAKER_01" for turn in result["turns"] if turn["start"] > 8)
    assert all(segment["speaker"] for segment in result["segments"])
    with runtime.sessions() as session:
        assert usage_losses(session, job_id) == []
    types = event_types(runtime, job_id)
    assert types.count("speakers.assigned") == 1
    assert (types.index("speakers.assigned") < types.index("segment.final")) is speakers_first


def test_what_people_did_before_the_speakers_were_known_stays(make_runtime: MakeRuntime) -> None:
    """A person names somebody in one segment and corrects another, and then the speakers are told apart."""
    runtime = make_runtime()
    job_id = make_job(runtime.sessions, diarize=True)
    add_chunks(runtime.sessions, job_id, 1)
    with job_transaction(runtime.sessions, job_id) as tx:
        for index, speaker, touched in ((0, "Bob", False), (1, None, True), (2, None, True)):
            made = Segment(
                index, 0, index * 3.0, index * 3 + 3.0, "as heard", 0.5, Source.REFINED, speaker=speaker
            )
            columns = made.to_json() | {"job_id": job_id, "source": SegmentSource.REFINED}
            tx.session.add(StoredSegment(**columns, machine=made.to_json() if touched else None))
        tx.session.add(StoredSpeaker(job_id=job_id, label="Bob", name="Robert", vector=[]))
    vectors = np.eye(2, dtype=np.float32)
    turns = Turn(0.0, 4.5, "SPEAKER_00"), Turn(6.0, 9.0, "SPEAKER_01")
    found = Speakers(turns, ("SPEAKER_00", "SPEAKER_01"), vectors)
    with job_transaction(runtime.sessions, job_id) as tx:
        embed.commit(tx, Claim(0, job_id, StepKind.EMBED, None, 1, 1), embed.EmbedOutput(found, 9.0, None))
    (told,) = [event.data for event in tx.events if event.type == "speakers.assigned"]
    assert {speaker["label"]: speaker["name"] for speaker in told["speakers"]} == {
        "Bob": "Robert",
        "SPEAKER_00": None,
        "SPEAKER_01": None,
    }
    with runtime.sessions() as session:
        rows = session.scalars(select(StoredSegment).order_by(StoredSegment.index)).all()
        assert [segment.speaker for segment in rows] == ["Bob", "SPEAKER_00", "SPEAKER_01"]
        searched = session.scalars(select(Passage.speaker).order_by(Passage.index)).all()
        assert list(searched) == [segment.speaker for segment in rows]
        assert [(segment.machine or {}).get("speaker") for segment in rows] == [None, "SPEAKER_00", "SPEAKER_01"]
        assert told["segments"] == [segment.to_json() for segment in rows]


def test_what_is_stored_of_labelled_segments_is_what_is_told(make_runtime: MakeRuntime) -> None:
    """Chunks in which a segment is divided, in which none is, and in which a person changed something."""
    runtime = make_runtime()
    job_id = make_job(runtime.sessions, diarize=True)
    add_chunks(runtime.sessions, job_id, 3)
    with job_transaction(runtime.sessions, job_id) as tx:
        for index, start in ((0, 0.0), (100, 10.0), (101, 13.0), (200, 20.0)):
            words = tuple(Word(f"word{n}", start + n / 2, start + n / 2 + 0.4, 0.9) for n in range(6))
            text = " ".join(word.text for word in words)
            made = Segment(index, index // 100, start, start + 2.9, text, 0.9, Source.REFINED, words=words)
            columns = made.to_json() | {"job_id": job_id, "source": SegmentSource.REFINED}
            tx.session.add(StoredSegment(**columns, **({"machine": made.to_json()} if index == 200 else {})))
    turns = [Turn(20.0, 23.0, "SPEAKER_02"), Turn(0.0, 1.4, "SPEAKER_00"), Turn(1.5, 16.0, "SPEAKER_01")]
    with job_transaction(runtime.sessions, job_id) as tx:
        version = tx.job.event_seq + 1
        told = relabel_segments(tx, turns)
    with runtime.sessions() as session:
        stored = session.scalars(select(StoredSegment).order_by(StoredSegment.index)).all()
    assert [(row.index, row.speaker, len(row.words), row.version) for row in stored] == [
        (0, "SPEAKER_00", 3, version),
        (1, "SPEAKER_01", 3, version),
        (100, "SPEAKER_01", 6, version),
        (101, "SPEAKER_01", 6, version),
        (200, "SPEAKER_02", 6, version),
    ]
    assert sorted((s.to_json() for s in told), key=lambda s: s["index"]) == [row.to_json() for row in stored]


def test_events_carry_the_speakers(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(models_dir=MODELS)
    job_id = submit(runtime, two_people(), diarize=True)
    run_until_done(runtime, ALL)
    with runtime.sessions() as session:
        events = event_log.after(session, job_id, 0)
    (assigned,) = [event.data for event in events if event.type == "speakers.assigned"]
    assert [speaker["label"] for speaker in assigned["speakers"]] == ["SPEAKER_00", "SPEAKER_01"]


def test_the_requested_number_of_speakers_is_kept(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(models_dir=MODELS)
    job_id = submit(runtime, two_people(), diarize=True, options={"speakers": 1})
    run_until_done(runtime, ALL)
    assert len(transcript(runtime, job_id)["speakers"]) == 1


def test_silence_has_no_speakers(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(models_dir=MODELS)
    job_id = submit(runtime, flac.encode(np.zeros(16_000 * 5, np.float32)), diarize=True)
    run_until_done(runtime, ALL)
    assert job_of(runtime, job_id).status == JobStatus.COMPLETED
    assert transcript(runtime, job_id)["speakers"] == []


def test_missing_diarization_models_degrade_the_job(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(models_dir=MODELS, voice_engine="wespeaker-onnx")
    job_id = submit(runtime, two_people(), diarize=True)
    with runtime.sessions.begin() as session:
        session.add(KnownSpeaker(job_id=job_id, name="Ada", sample=two_people()))
    run_until_done(runtime, ALL)
    with runtime.sessions() as session:
        assert session.scalar(select(KnownSpeaker)) is None, "nobody will be compared with her"
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded) == (JobStatus.COMPLETED, True)
    result = transcript(runtime, job_id)
    assert result["speakers"] == []
    assert result["segments"]


class WholeRecordingDiarizer:
    """Stands for an engine that takes the whole recording, as pyannote.audio's pipeline does."""

    info = EngineInfo("pyannote", "test", "cpu", "float32")

    def diarize(
        self, samples: Samples, *, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        self.samples = samples
        return [Turn(0.2, 7.0, "B"), Turn(8.0, 19.0, "A")]


def test_an_engine_for_whole_recordings_gets_the_recording_once(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, engine = make_runtime(models_dir=MODELS), WholeRecordingDiarizer()
    monkeypatch.setattr(runtime.engines, "diarizer", lambda *_: SelectedEngine(engine, engine.info))
    body = two_people()
    job_id = submit(runtime, body, diarize=True, options={"diarize_engine": "pyannote"})
    run_until_done(runtime, ALL)
    result = transcript(runtime, job_id)
    assert [speaker["label"] for speaker in result["speakers"]] == ["A", "B"]
    original = flac.decode(body)
    same = slice(16_000, 16_000 * 6)
    assert engine.samples[same] == pytest.approx(original[same], abs=1e-3)
    assert job_of(runtime, job_id).models["diarize"]["engine"] == "pyannote"
    with runtime.sessions() as session:
        assert usage_losses(session, job_id) == []


def test_engines_are_chosen_by_job(settings: Settings) -> None:
    runtime = Runtime(
        settings.model_copy(
            update={"models_dir": MODELS, "sensevoice_model": str(DATA / "sensevoice-random"), "draft_threads": 2}
        )
    )
    if not runtime.engines.catalogue.present("whisper-base-ggml"):
        pytest.skip("no ggml model here; `longhand models pull whisper-base-ggml` makes one")
    body = (DATA / "librivox_0880.flac").read_bytes()
    by_default = submit(runtime, body, language="en")
    german = submit(runtime, body, language="de")
    chosen = submit(
        runtime, body, language="en", options={"draft_engine": "whisper", "refine_engine": "whisper-cpp"}
    )
    absent = submit(runtime, body, options={"draft_engine": "sensevoice"})
    run_until_done(runtime, ALL)

    def served(job_id: uuid.UUID) -> list[Any]:
        models = job_of(runtime, job_id).models
        return [models[role][name] for role in ("draft", "refine") for name in ("engine", "instead_of")]

    assert served(by_default) == ["sensevoice-onnx", None, "whisper", None]
    assert served(german) == ["whisper", "sensevoice-onnx", "whisper", None]
    assert served(chosen) == ["whisper", None, "whisper-cpp", None]
    failed = job_of(runtime, absent)
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, "engine_unavailable")
    assert "sensevoice" in (failed.error_message or "")


def test_an_engine_that_cannot_load_is_tried_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    runtime = Runtime(settings.model_copy(update={"models_dir": MODELS}))
    if runtime.engines.catalogue.present("sensevoice-small"):
        pytest.skip("SenseVoice is here")
    for _ in range(3):
        assert runtime.engines.drafter().info.instead_of == "sensevoice-onnx"
    assert len([record for record in caplog.records if "sensevoice-small is not in" in record.message]) == 1
    with pytest.raises(EngineUnavailable, match="LONGHAND_VOICE_ENGINE is 'odd'"):
        Runtime(settings.model_copy(update={"voice_engine": "odd"})).engines.embedder()


def test_split_channels_become_speakers_merged_in_time(make_runtime: MakeRuntime) -> None:
    left, right = load("librivox_0870.flac"), load("ocean_0001.flac")[: 16_000 * 12]
    stereo = np.zeros((2, 16_000 * 16), np.float32)
    stereo[0, : len(left)] = left
    stereo[1, 16_000 * 4 : 16_000 * 4 + len(right)] = right
    runtime = make_runtime()
    job_id = submit(
        runtime,
        media_file(stereo, container="wav", codec="pcm_s16le", layout="stereo"),
        options={"channels": "split"},
    )
    run_until_done(runtime, ALL)
    job = job_of(runtime, job_id)
    assert (job.status, job.degraded, job.chunks) == (JobStatus.COMPLETED, False, 2)
    result = transcript(runtime, job_id)
    assert [speaker["label"] for speaker in result["speakers"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert [segment["speaker"] for segment in result["segments"]] == ["SPEAKER_00", "SPEAKER_01"]
    starts = [segment["start"] for segment in result["segments"]]
    assert starts == sorted(starts)
    text = runtime.storage.get(f"{job.transcript_prefix}transcript.srt").decode()
    assert "SPEAKER_00: we met" in text
    assert "SPEAKER_01: we met" in text


def test_too_many_channels_to_split(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    job_id = submit(runtime, many_channels(9), options={"channels": "split"})
    run_until_done(runtime, ALL)
    job = job_of(runtime, job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "audio_too_many_channels")


def test_roles_do_not_share_an_engine_of_the_same_name(settings: Settings) -> None:
    runtime = Runtime(settings.model_copy(update={"models_dir": MODELS}))
    drafter, refiner = runtime.engines.drafter(Wanted("whisper")), runtime.engines.refiner(Wanted("whisper"))
    assert drafter.engine is not refiner.engine
    assert (drafter.info.model, refiner.info.model) == ("tiny.en+base", "base")
