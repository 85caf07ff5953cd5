"""What every reading begins with, and how it is committed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from db import readings, speakers, transcripts
from db.access import redaction
from db.models import Job, Json, Reading, Template
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.readings import Made
from speech.engines import EngineUnavailable
from speech.text.redaction.kinds import PersonalData
from speech.text.redaction.redact import redact_text
from tasks.errors import LeaseLost, Permanent, Unserved
from tasks.handler import Work
from tasks.readings.asking import Asker
from tasks.readings.lines import Line, make_lines
from tasks.readings.statements import Statement

DEADLINE = 4 * 3600.0
"""Seconds that a reading may take, for ten hours of transcript and a model on a CPU."""

LAST_SECONDS = 60.0
"""Of these, what is left for ending it when the model is late."""


@dataclass(frozen=True, slots=True)
class Started:
    """A reading that is to be made."""

    asker: Asker
    request: Json
    lines: Sequence[Line]
    language: str | None
    """Of the transcript."""
    corrected_at: datetime | None
    kinds: frozenset[PersonalData]
    """Of personal data that the job's transcript leaves out."""
    regions: Sequence[str]
    template: Template | None

    @property
    def wanted_language(self) -> str | None:
        given = self.request.get("language") or self.language
        return given if isinstance(given, str) else None

    def made(self, content: Json) -> Made:
        return Made(content, self.asker.model.name, dict(self.asker.tokens), self.corrected_at)

    def shown(self, statement: Statement) -> Json:
        """As it is stored: with the segments that it cites, and the time of the first."""
        cited = [self.lines[number - 1] for number in statement.cites]
        return {
            "text": self.redacted(statement.text),
            "segments": [line.segment for line in cited],
            "start": min(line.start for line in cited),
        }

    def redacted(self, text: str) -> str:
        """What is left out of the transcript may come about in a text that joins what several segments say."""
        return redact_text(text, self.kinds, self.regions) if self.kinds else text


def begin(claim: Claim, work: Work, deadline: float = DEADLINE) -> Started:
    """Raises StepError."""
    late_at = time.monotonic() + deadline - LAST_SECONDS
    runtime = work.runtime
    with runtime.sessions() as session:
        job = session.get(Job, claim.job_id)
        reading = session.get(Reading, (claim.job_id, claim.chunk_index))
        if job is None or reading is None:
            raise LeaseLost(f"reading {claim.chunk} of job {claim.job_id} was deleted")
        # before the segments: what is corrected in between makes the reading stale
        session.refresh(job)
        segments = transcripts.final_segments(session, claim.job_id)
        names = {each["label"]: each["name"] or each["label"] for each in speakers.of_job(session, claim.job_id)}
        kinds = redaction.of_job(session, job.tenant, job.options, runtime.settings).kinds
        name = reading.request.get("template")
        template = session.get(Template, (job.tenant, name)) if name is not None else None
    if name is not None and template is None:
        raise Permanent("template_not_found", f"There is no template {name!r}; it may have been deleted.")
    lines = make_lines(segments, names)
    if not lines:
        raise Permanent("nothing_said", "The transcript has no words.")
    try:
        model = runtime.engines.remote.language_model(reading.request.get("model"))
    except EngineUnavailable as error:
        raise Unserved(str(error)) from error
    return Started(
        Asker(work, claim, model, late_at),
        reading.request,
        lines,
        job.language,
        job.corrected_at,
        frozenset(map(PersonalData, kinds)),
        runtime.settings.redact_regions,
        template,
    )


def commit(tx: JobTransaction, claim: Claim, made: Made) -> Mapping[str, Any]:
    if not readings.complete(tx, claim.chunk_index, made):
        raise LeaseLost(f"reading {claim.chunk} of job {claim.job_id} was deleted")
    return {"tokens": made.tokens}
