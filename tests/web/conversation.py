"""A transcript as people have it before them: an interview, partly checked, with words that are doubtful."""

from __future__ import annotations

import math
import uuid
from typing import Any

import numpy as np

from db.models import Chunk, Job, SegmentSource, StoredSegment, StoredSpeaker, StoredTurn
from db.objects.storage import Storage
from db.queue.transaction import job_transaction
from db.session import Sessions
from speech.audio import flac
from speech.audio.peaks import PEAKS_PER_SECOND
from speech.engines import SAMPLE_RATE

HOST, GUEST, CALLER = "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"
LINES: tuple[tuple[str, str, str], ...] = (
    (HOST, "en", "Good evening. Tonight we talk about the harbour, and about the people who rebuilt it."),
    (HOST, "en", "With me is Miriam Okafor, who was the engineer in charge when the storm came."),
    (GUEST, "en", "Thank you. I should say at once that I was in charge of very little that night."),
    (GUEST, "en", "The water stood at the second floor, and the pumps were somewhere under it."),
    (HOST, "en", "How long did it take until you could see what was left?"),
    (GUEST, "en", "Three days. On the fourth morning we walked along the quay, and half of it was simply gone."),
    (
        GUEST,
        "en",
        "What we found instead were the old oak piles, from sixteen eighty, and they had not moved.",
    ),
    (HOST, "en", "So the oldest part of the harbour held."),
    (GUEST, "en", "It held better than my concrete did. One learns to be polite to carpenters."),
    (CALLER, "fr", "Bonsoir, je vous appelle de Saint-Malo, et chez nous c’était exactement pareil."),
    (HOST, "en", "A caller from Saint-Malo, where it was just the same. Miriam, does that surprise you?"),
    (GUEST, "en", "Not at all. The drawings travelled along the coast with the people who could read them."),
    (GUEST, "en", "We sent ours to the museum, and asked the grandchildren of the shipwrights to look at them."),
    (HOST, "en", "And what did they say?"),
    (GUEST, "en", "That we had been holding them upside down."),
)
DOUBTFUL = {"piles,", "shipwrights", "quay,", "polite"}
CHECKED = {0, 1, 4}


def converse(sessions: Sessions, storage: Storage, job_id: uuid.UUID) -> None:
    """Give a finished job a conversation."""
    at, segments, turns = 0.6, [], []
    for number, (speaker, language, text) in enumerate(LINES):
        words, start = [], at
        for each in text.split():
            length = 0.12 + 0.045 * len(each)
            confidence = 0.41 if each in DOUBTFUL else 0.96
            words.append(
                {"text": each, "start": round(at, 3), "end": round(at + length, 3), "confidence": confidence}
            )
            at += length + 0.06
        segment: dict[str, Any] = {
            "index": number,
            "chunk": 0,
            "start": start,
            "end": at,
            "text": text,
            "speaker": speaker,
            "language": language,
            "confidence": 0.94,
            "source": SegmentSource.HUMAN if number in CHECKED else SegmentSource.REFINED,
            "words": words,
        }
        segments.append(segment)
        turns.append({"index": number, "start": start, "end": at, "speaker": speaker})
        at += 0.7
    storage.put(f"jobs/{job_id}/source", flac.encode(np.zeros(int(at * SAMPLE_RATE), np.float32)), "audio/flac")
    key = f"jobs/{job_id}/peaks-1"
    storage.put(key, bytes(_loudness(second / PEAKS_PER_SECOND, turns) for second in range(int(at * 25))), "x/y")
    with job_transaction(sessions, job_id) as tx:
        add = tx.session.add
        add(Chunk(job_id=job_id, index=0, start=0, end=at, key="none"))
        for label, name in ((HOST, None), (GUEST, "Miriam Okafor"), (CALLER, None)):
            add(StoredSpeaker(job_id=job_id, label=label, name=name, vector=[1.0]))
        tx.session.flush()
        tx.session.add_all(StoredSegment(job_id=job_id, **segment) for segment in segments)
        tx.session.add_all(StoredTurn(job_id=job_id, **turn) for turn in turns)
        _describe(tx.job, key, at)


def _describe(job: Job, peaks_key: str, seconds: float) -> None:
    job.peaks_key, job.duration, job.sha256 = peaks_key, seconds, "0" * 64
    job.filename = "Harbour lights, episode 14.m4a"


def _loudness(seconds: float, turns: list[dict[str, Any]]) -> int:
    if not any(turn["start"] <= seconds < turn["end"] for turn in turns):
        return 6
    waves = math.sin(seconds * 7.3) * math.sin(seconds * 1.7) + 0.8 * math.sin(seconds * 23.1)
    return int(125 + 65 * waves)
