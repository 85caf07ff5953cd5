"""The clips of an export: FLAC files cut from the chunks of its jobs."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from sqlalchemy import select, update

from db.erasure.withdrawal import ExportedSamples
from db.models import Export, Sample, Split
from db.queue.claims import Claim
from db.training import dataset, exports
from speech.audio import flac
from speech.training.dataset.candidates import Candidate
from speech.training.dataset.clips import Clip
from speech.training.dataset.filters import Reason
from speech.training.dataset.paths import asr_path
from tasks.handler import Work
from tasks.runtime import Runtime
from tasks.training.export.audio import ChunkAudio


def write_clips(work: Work, claim: Claim, export: Export) -> None:
    """Write the clips that are not written yet, one transaction for each job."""
    runtime = work.runtime
    with runtime.sessions() as session:
        unwritten = dataset.jobs_with_unwritten_clips(session, export.job_id)
    for job_id in unwritten:
        work.lease.check(claim)
        with runtime.sessions() as session:
            samples = session.scalars(
                select(Sample)
                .where(Sample.export_id == export.job_id, Sample.job_id == job_id, Sample.reason.is_(None))
                .order_by(Sample.segment)
            ).all()
        hashes = _write_job(runtime, export, job_id, samples)
        with work.transaction(claim) as tx:
            gone = []
            for sample in samples:
                digest = hashes.get(sample.segment)
                # whatever was deleted since its selection is left out
                values = {"sha256": digest} if digest else {"reason": Reason.AUDIO_MISSING}
                updated = tx.session.scalar(
                    update(Sample)
                    .where(
                        Sample.export_id == export.job_id,
                        Sample.job_id == job_id,
                        Sample.segment == sample.segment,
                    )
                    .values(values)
                    .returning(Sample.segment)
                )
                if updated is None:
                    gone.append(sample)
        if gone:
            # at once, as no row has ever named these clips as written, nor names them to another attempt
            delete_clips(runtime.storage.delete, [ExportedSamples(export, gone)])


def _write_job(runtime: Runtime, export: Export, job_id: uuid.UUID, samples: Sequence[Sample]) -> dict[int, str]:
    """Write the clips of one job. Returns their sha256 by segment; missing where there is no audio."""
    hashes: dict[int, str] = {}
    prefix = exports.prefix(export)
    for chunk, group in groupby(samples, key=lambda sample: sample.chunk):
        audio = ChunkAudio.load(runtime, job_id, chunk)
        if audio is None:
            continue
        for sample in group:
            clip = to_clip(sample)
            body = flac.encode(audio.cut(clip.candidate.start, clip.candidate.end))
            hashes[sample.segment] = hashlib.sha256(body).hexdigest()
            runtime.storage.put(prefix + clip.path, body, "audio/flac")
    return hashes


def delete_clips(
    remove: Callable[[Iterable[str]], None], exported: Sequence[ExportedSamples]
) -> dict[uuid.UUID, list[str]]:
    """Have clips removed, with the lists of texts beside them. Returns the clips' paths by export."""
    paths: dict[uuid.UUID, list[str]] = {}
    for each in exported:
        clips = [to_clip(sample) for sample in each.samples]
        paths[each.export.job_id] = [clip.path for clip in clips]
        lists = {asr_path(clip.candidate) for clip in clips}
        prefix = exports.prefix(each.export)
        remove(prefix + path for path in (*paths[each.export.job_id], *sorted(lists)))
    return paths


def to_clip(sample: Sample) -> Clip:
    """The clip of a sample that is assigned to a split."""
    split = sample.split or Split.TRAIN
    return Clip(
        candidate=Candidate.from_json(sample.candidate),
        text=sample.text,
        person=sample.person or 0,
        split=split.value,
        sha256=sample.sha256 or "",
    )
