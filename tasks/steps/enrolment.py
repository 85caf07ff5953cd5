"""Enrolment: the end of a job whose recording becomes a voice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db import voices
from db.models import VoiceStatus
from db.queue.transaction import JobTransaction
from speech.speakers.reconstruction import Speakers
from tasks import flow

MAX_OTHER_SPEAKER_SECONDS = 1.5
"""Speech of other people up to which an enrolment is accepted."""


def enrol(tx: JobTransaction, speakers: Speakers) -> Mapping[str, Any]:
    """Make a voice of the recording, if one person alone speaks in it for long enough."""
    seconds = {name: sum(t.end - t.start for t in speakers.turns if t.speaker == name) for name in speakers.labels}
    name, longest = max(seconds.items(), key=lambda item: item[1], default=("", 0.0))
    others = sum(seconds.values()) - longest
    if not seconds:
        flow.fail_job(tx, "voice_no_speech", "Nobody is heard to speak in this recording.")
    elif others > MAX_OTHER_SPEAKER_SECONDS:
        detail = f"{len(seconds)} people are heard, one of them for {others:.1f} s; send a recording of one alone."
        flow.fail_job(tx, "voice_not_alone", detail)
    elif longest < voices.MIN_SPEECH_SECONDS:
        detail = (
            f"Only {longest:.1f} s of speech are heard; a voice takes {voices.MIN_SPEECH_SECONDS:g} s or more."
        )
        flow.fail_job(tx, "voice_too_short", detail)
    else:
        vector = [float(x) for x in speakers.vectors[speakers.labels.index(name)]]
        voices.finish_enrolment(
            tx, status=VoiceStatus.READY, vector=vector, seconds=longest, model=voices.voiceprint_model(tx.job)
        )
    return {"speakers": len(seconds), "seconds": longest}
