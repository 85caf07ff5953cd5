"""Everything fails in turn while real recordings are transcribed, and nothing is lost."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import delete, select

from db.models import Chunk, Event
from db.storage import Storage
from tests.chaos.audit import lost
from tests.chaos.run import storm
from tests.chaos.worker import POISON
from tests.chaos.world import World, until
from tests.media import DATA

SEED = 20


def test_nothing_is_lost(made: World, transcripts: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    report = storm(made, transcripts, seed=SEED, rounds=1, jobs=11)
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201
    assert len(made.jobs) >= 20
    assert report.lost == [], "\n".join(made.said)


def test_deaf_workers_work_on_and_make_room_for_ones_that_hear(made: World, transcripts: dict[str, Any]) -> None:
    """Every connection to Redis hangs without closing, while new ones work: by its own word the broker is well."""
    until(made.ready)
    made.redis_proxy.hang(on=True)
    made.redis_proxy.hang(on=False)
    job = made.submit(DATA / "jfk.flac", {})
    made.finish()
    assert made.transcript(job) == transcripts["jfk.flac"]
    # the first in the line has noticed by now, and listens again
    until(lambda: "cpu" in _hearing(made))


def _hearing(made: World) -> set[str]:
    """The queues whose workers answer through the broker."""
    answers = made.celery.control.ping(timeout=3) or []
    return {name.split("@")[0] for answer in answers for name in answer}


def test_poison_is_set_aside_and_others_never_notice(made: World, transcripts: dict[str, Any]) -> None:
    poison = made.submit(DATA / "librivox_0880.flac", {"hotwords": [POISON]})
    others = [made.submit(DATA / name, {}) for name in ("ocean_0036.flac", "jfk.flac", "demo.flac")]
    made.finish()
    failed = made.client.job(poison.job_id)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "transcription_failed")
    for job in others:
        assert made.transcript(job) == transcripts[job.recording.name]
        assert made.client.job(job.job_id)["degraded"] is False


def test_the_audit_sees_what_is_lost(made: World, transcripts: dict[str, Any]) -> None:
    """Last, for it does damage: an object gone, an event gone, a transcript changed, an object too many."""
    first, second, third = (job for job in made.jobs[-4:] if made.client.job(job.job_id)["status"] == "completed")
    made.jobs[:] = [first, second, third]
    storage = Storage(made.settings)
    # one that rows name: an attempt that was poisoned may have left another behind, which nobody would miss
    with made.sessions() as session:
        named = session.scalars(select(Chunk.key).where(Chunk.job_id == first.job_id).limit(1)).one()
    storage.delete([named])
    storage.put(f"jobs/{uuid.uuid4()}/source", b"?", "text/plain")
    with made.sessions.begin() as session:
        session.execute(delete(Event).where(Event.job_id == second.job_id, Event.seq == 2))
    changed = {**transcripts, third.recording.name: {}}
    found = " ".join(lost(made, changed))
    assert f"objects of job {first.job_id} are missing" in found
    assert f"the log of {second.recording.name} ({second.job_id}) has gaps" in found
    assert f"the transcript of {third.recording.name} ({third.job_id}) differs" in found
    assert "3 uploads were accepted and" in found
