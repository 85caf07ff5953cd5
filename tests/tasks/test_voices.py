"""Enrolment and recognition through the pipeline, with the real networks."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import func, select

from benchmarks.recordings import load
from db import speakers, voices
from db.models import Job, StoredSpeaker, StoredVoice, VoiceStatus
from db.settings import Settings
from speech.audio import flac
from speech.engines import SAMPLE_RATE, Samples
from speech.speakers.identification import Match, identify
from tasks.steps import diarize, embed, ingest, purge
from tests.conftest import MODELS
from tests.media import DATA, tone
from tests.tasks.fakes import FakeRuntime
from tests.tasks.pipeline import MakeRuntime, job_of, run_until_done, submit
from tests.tasks.test_speakers import ALL, transcript

HANDLERS = (ingest.handler, diarize.handler, embed.handler, purge.handler)
FIRST, SECOND = "ocean_0001.flac", "ocean_0036.flac"


def load_recording(name: str) -> Samples:
    return load(DATA / name)


def enrol(runtime: FakeRuntime, samples: Samples, name: str = "Ada", tenant: str = "default") -> StoredVoice:
    voice = StoredVoice(id=uuid.uuid4(), tenant=tenant, name=name)
    with runtime.sessions.begin() as session:
        session.add(voice)
    body = flac.encode(samples)
    submit(runtime, body, voice_id=voice.id, diarize=True, tenant=tenant)
    run_until_done(runtime, HANDLERS)
    with runtime.sessions() as session:
        assert session.scalar(select(func.count(Job.id)).where(Job.voice_id == voice.id)) == 0
        return session.get_one(StoredVoice, voice.id)


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> FakeRuntime:
    return make_runtime(models_dir=MODELS)


def test_a_speaker_with_an_enrolled_voice_is_named(runtime: FakeRuntime) -> None:
    first, second = load_recording(FIRST), load_recording(SECOND)
    middle = len(first) // 2
    ada = enrol(runtime, first[:middle])
    assert (ada.status, ada.model) == (VoiceStatus.READY, "campplus")
    assert ada.seconds is not None
    assert ada.seconds > 5
    enrol(runtime, first[:middle], "of another tenant", tenant="other")
    both = np.concatenate([first[middle:], second[: 20 * SAMPLE_RATE]])
    job_id = submit(runtime, flac.encode(both), diarize=True)
    run_until_done(runtime, ALL)
    known, stranger = transcript(runtime, job_id)["speakers"]
    assert (known["label"], known["name"], known["voice_id"]) == ("SPEAKER_00", "Ada", str(ada.id))
    assert known["score"] > 0.6
    assert (stranger["label"], stranger["name"], stranger["voice_id"]) == ("SPEAKER_01", None, None)
    text = runtime.storage.get(f"{job_of(runtime, job_id).transcript_prefix}transcript.txt").decode()
    assert "Ada:" in text
    with runtime.sessions.begin() as session:
        voices.rename(session, session.get_one(StoredVoice, ada.id), "Ada Lovelace")
    with runtime.sessions.begin() as session:
        (named,) = session.scalars(select(StoredSpeaker).where(StoredSpeaker.voice_id == ada.id))
        assert named.name == "Ada Lovelace"
        voices.delete(session, session.get_one(StoredVoice, ada.id))
    with runtime.sessions() as session:
        assert [speaker["name"] for speaker in speakers.of_job(session, job_id)] == [None, None]


def nobody() -> Samples:
    return np.asarray(tone(12)[0], np.float32)


def music() -> Samples:
    """Chords that change, with overtones."""
    time = np.arange(SAMPLE_RATE * 2) / SAMPLE_RATE
    overtones = [(ratio * over, over) for ratio in (1, 1.25, 1.5) for over in (1, 2, 3)]
    bars = [
        np.sum([np.sin(2 * np.pi * root * ratio * time) / over for ratio, over in overtones], axis=0)
        for root in (220, 262, 196, 247) * 2
    ]
    chords: Samples = (0.1 * np.concatenate(bars)).astype(np.float32)
    return chords


def two_people() -> Samples:
    return np.concatenate([load_recording(FIRST)[: 12 * SAMPLE_RATE], load_recording(SECOND)[: 12 * SAMPLE_RATE]])


def short() -> Samples:
    return load_recording("librivox_0880.flac")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (nobody, "voice_no_speech"),
        (music, "voice_no_speech"),
        (two_people, "voice_not_alone"),
        (short, "voice_too_short"),
    ],
)
def test_unsuitable_recordings_fail_the_enrolment(
    runtime: FakeRuntime, make: Callable[[], Samples], code: str
) -> None:
    voice = enrol(runtime, make())
    assert (voice.status, voice.error_code, voice.vector) == (VoiceStatus.FAILED, code, None)
    assert voice.error_message
    assert list(runtime.storage.list("")) == []


def test_an_unreadable_file_fails_the_enrolment(runtime: FakeRuntime) -> None:
    voice = StoredVoice(id=uuid.uuid4(), tenant="default", name="x")
    with runtime.sessions.begin() as session:
        session.add(voice)
    submit(runtime, b"no sound at all", voice_id=voice.id, diarize=True)
    run_until_done(runtime, HANDLERS)
    with runtime.sessions() as session:
        assert session.get_one(StoredVoice, voice.id).error_code == "audio_unreadable"


def test_each_voice_is_one_person_and_the_best_match_wins(settings: Settings) -> None:
    ada, bob = np.eye(3, dtype=np.float32)[:2]
    near = np.array([0.9, 0.1, 0.0], np.float32)
    near /= np.linalg.norm(near)
    assert identify([near, ada], [ada, bob], 0.5) == [None, Match(0, 1.0)]
    assert (identify([ada], [], 0.5), identify([], [ada], 0.5)) == ([None], [])
    assert identify([np.array([0.0, 0.0, 1.0], np.float32)], [ada, bob], 0.5) == [None]
