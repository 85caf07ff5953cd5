"""finalize: writes the transcript to S3 in the formats that are kept there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from db import speakers, transcripts
from db.models import Job, JobStatus, Role, Signal, StepKind
from db.objects.storage import transcript_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.training import canary
from speech.text.formats import file_names, render_files
from speech.text.transcript import Speaker, Transcript
from speech.text.words import Segment, Turn
from tasks import flow
from tasks.errors import LeaseLost, Superseded
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.training import signals


@dataclass(frozen=True, slots=True)
class FinalizeOutput:
    """The prefix of the transcript files, and the language of most of the text."""

    prefix: str
    event_seq: int
    """The newest event of the job when its segments were read."""
    language: str | None
    signals: Sequence[Signal]
    """Quality of the models of each role that did the job as the versions that it was given to."""
    canary_jobs: int
    """Jobs in each stage of a canary."""


def work(claims: Sequence[Claim], work: Work) -> list[FinalizeOutput]:
    (claim,) = claims
    with work.runtime.sessions() as session:
        job = session.scalar(select(Job).where(Job.id == claim.job_id))
        if job is None:
            raise LeaseLost(f"job {claim.job_id} was deleted")
        segments = transcripts.final_segments(session, claim.job_id)
        named = None if job.options.get("translate") else job.options.get("language")
        language = named or transcripts.spoken_language(session, claim.job_id) or job.language
        turns = speakers.turns(session, claim.job_id)
        speaker_rows = speakers.of_job(session, claim.job_id)
    transcript = Transcript(
        job_id=str(job.id),
        status=JobStatus.COMPLETED,
        language=language,
        duration=job.duration,
        segments=tuple(Segment.from_json(segment) for segment in segments),
        turns=tuple(Turn(**turn) for turn in turns),
        speakers=tuple(Speaker(**speaker) for speaker in speaker_rows),
    )
    # the fence in the prefix keeps a late worker from overwriting what its successor committed
    prefix = f"{transcript_prefix(claim.job_id)}{claim.fence}/"
    for name, body, media_type in render_files(transcript):
        work.runtime.storage.put(prefix + name, body, media_type)
    measured = [signals.measure(work.runtime, job, role) for role in Role]
    present = [signal for signal in measured if signal is not None]
    return [FinalizeOutput(prefix, job.event_seq, language, present, work.runtime.settings.canary_jobs)]


def commit(tx: JobTransaction, claim: Claim, output: FinalizeOutput) -> Mapping[str, Any]:
    if tx.job.event_seq != output.event_seq:
        raise Superseded(f"job {tx.job.id} was corrected while its transcript was written")
    flow.complete_job(tx, output.prefix, output.language)
    for signal in output.signals:
        tx.session.merge(signal)
        tx.session.flush()
        canary.review(tx.session, tx.job.tenant, signal.role, output.canary_jobs)
    return {"prefix": output.prefix}


def _discard(runtime: Runtime, output: FinalizeOutput) -> None:
    runtime.storage.delete(output.prefix + name for name in file_names())


handler = Handler(StepKind.FINALIZE, work, commit, deadline=300, discard=_discard)
