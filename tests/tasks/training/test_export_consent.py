"""Consent, retention and corrections in exports."""

from __future__ import annotations

import uuid

from sqlalchemy import select, update

from db import voices
from db.models import SegmentSource, StoredSegment, StoredSpeaker, StoredTurn, StoredVoice, VoiceStatus
from speech.training.dataset.filters import Reason
from tests.tasks.fakes import FakeRuntime
from tests.tasks.training.exports import (
    RECORDINGS,
    files_of,
    run_export,
    samples_of,
    transcribe_recording,
)


def test_segments_without_consent_or_retention_are_rejected(runtime: FakeRuntime) -> None:
    private = transcribe_recording(runtime, RECORDINGS[0], options={"training": False})
    shared = transcribe_recording(runtime, RECORDINGS[1])
    voice = StoredVoice(
        id=uuid.uuid4(), tenant="default", name="Ada", status=VoiceStatus.READY, vector=[1.0], training=False
    )
    with runtime.sessions.begin() as session:
        session.add(voice)
        session.add(StoredSpeaker(job_id=shared, label="SPEAKER_00", vector=[1.0], voice_id=voice.id))
        session.execute(update(StoredSegment).where(StoredSegment.job_id == shared).values(speaker="SPEAKER_00"))
    transcribe_recording(runtime, RECORDINGS[2], options={"retain_days": 1e-5})
    exported = run_export(runtime)
    reasons = {row.job_id: row.reason for row in samples_of(runtime, exported)}
    assert reasons.pop(private) == reasons.pop(shared) == Reason.NO_CONSENT
    assert list(reasons.values()) == [Reason.NOT_RETAINED]
    assert not [path for path in files_of(runtime, exported) if path.startswith(("raw/", "asr/"))]
    with runtime.sessions.begin() as session:
        voices.delete(session, session.get_one(StoredVoice, voice.id))
    later = {row.job_id: row.reason for row in samples_of(runtime, run_export(runtime))}
    assert later[shared] == Reason.NO_CONSENT, "a refusal outlives the deleted voice"


def test_whoever_is_heard_in_a_clip_has_to_agree(runtime: FakeRuntime) -> None:
    """People join segments and say who speaks in them; that makes nobody agree."""
    job_id = transcribe_recording(runtime, RECORDINGS[0])
    voice = StoredVoice(
        id=uuid.uuid4(), tenant="default", name="Ada", status=VoiceStatus.READY, vector=[1.0], training=False
    )
    with runtime.sessions.begin() as session:
        session.add(voice)
        session.add(StoredSpeaker(job_id=job_id, label="SPEAKER_00", vector=[1.0], voice_id=voice.id))
        session.add(StoredSpeaker(job_id=job_id, label="SPEAKER_01", vector=[0.5]))
        session.flush()
        session.add(StoredTurn(job_id=job_id, index=0, start=0.5, end=1.5, speaker="SPEAKER_00"))
        session.execute(update(StoredSegment).where(StoredSegment.job_id == job_id).values(speaker="SPEAKER_01"))
    assert [row.reason for row in samples_of(runtime, run_export(runtime))] == [Reason.NO_CONSENT]


def test_translations_are_no_candidates(runtime: FakeRuntime) -> None:
    transcribe_recording(runtime, RECORDINGS[0], options={"translate": True, "refine": "only"})
    spoken = transcribe_recording(runtime, RECORDINGS[1])
    assert {row.job_id for row in samples_of(runtime, run_export(runtime))} == {spoken}


def test_correcting_a_name_gives_no_consent_and_no_corrected_text(runtime: FakeRuntime) -> None:
    """Correcting the name alone does not correct the text, and no name overrides a refusal."""
    refused = transcribe_recording(runtime, RECORDINGS[0], options={"training": False})
    renamed = transcribe_recording(runtime, RECORDINGS[1])
    corrected = transcribe_recording(runtime, RECORDINGS[2])
    with runtime.sessions.begin() as session:
        for segment in session.scalars(select(StoredSegment)):
            segment.machine = segment.to_json()
            segment.speaker, segment.confidence = "Alice", 0.3
            if segment.job_id == corrected:
                segment.source, segment.confidence = SegmentSource.HUMAN, 1.0
                segment.text = "what was really said in there"
    rows = {row.job_id: row for row in samples_of(runtime, run_export(runtime, max_correction=1.0))}
    assert rows[refused].reason == Reason.NO_CONSENT
    assert (rows[renamed].reason, rows[renamed].human) == (Reason.UNCERTAIN, False)
    assert (rows[corrected].reason, rows[corrected].human) == (None, True)
