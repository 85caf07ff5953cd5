"""export: what was transcribed in a span of time becomes training data in S3.

Three passes, each of which goes on where it was broken off: decide on every segment, job by job; put people into
train or val; write the clips, and then the lists of them. The manifest comes last: where it is, all is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import select, update

from db import training, versions
from db.models import (
    Chunk,
    Export,
    Job,
    Json,
    Role,
    Sample,
    SegmentSource,
    Split,
    StepKind,
    StoredHypothesis,
    StoredSegment,
    StoredSpeaker,
    StoredVoice,
)
from db.steps import Claim
from db.storage import ObjectMissing, ObjectWriter, Storage
from db.transaction import JobTransaction
from speech import flac
from speech.dataset import layout
from speech.dataset.candidates import Candidate
from speech.dataset.filters import Filters, Reason, fingerprint, reject, reject_audio
from speech.dataset.people import people
from speech.dataset.split import Share, held_out
from speech.dataset.text import Cleaning, clean
from speech.engines.base import SAMPLE_RATE, Samples
from speech.text import join_words, normalise
from speech.words import Hypothesis
from tasks import flow
from tasks.errors import LeaseLost
from tasks.runtime import Runtime
from tasks.step import Handler, Work

logger = logging.getLogger(__name__)

LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Exported:
    manifest: Json
    enough: float
    """Seconds of new speech from which a fine-tuning starts."""


def work(claims: Sequence[Claim], work: Work) -> list[Exported]:
    (claim,) = claims
    enough = work.runtime.settings.finetune_hours * 3600
    with work.transaction(claim) as tx:
        flow.begun(tx)
    export = _read(work.runtime, claim)
    if not export.selected:
        _decide(work, claim, export)
        _divide(work, claim, export)
    if export.dry_run:
        return [Exported(_manifest(work.runtime, export, {}), enough)]
    _write_clips(work, claim, export)
    return [Exported(_write_lists(work, claim, export), enough)]


def commit(tx: JobTransaction, claim: Claim, made: Exported) -> Mapping[str, Any]:
    export = tx.session.get_one(Export, claim.job_id)
    export.summary = made.manifest
    flow.finished(tx)
    if not export.dry_run:
        _tune_when_due(tx, made.enough)
    return {"clips": {name: split["clips"] for name, split in made.manifest["splits"].items()}}


def _tune_when_due(tx: JobTransaction, enough: float) -> None:
    """Enough new speech starts a fine-tuning, one at a time."""
    tenant = tx.job.tenant
    tx.session.flush()
    # a version under trial is not pushed aside by the next night's
    if training.tuning(tx.session, tenant) or versions.on_trial(tx.session, tenant):
        return
    new, seconds = training.new_exports(tx.session, tenant)
    if seconds >= enough:
        started = training.start_finetune(tx.session, tenant, new, seconds, {}, automatic=True)
        tx.events += started.events
        tx.ready += started.ready


def _read(runtime: Runtime, claim: Claim) -> Export:
    with runtime.sessions() as session:
        export = session.get(Export, claim.job_id)
    if export is None:
        raise LeaseLost(f"export {claim.job_id} was deleted")
    return export


# deciding


@dataclass(slots=True)
class _Heard:
    """A segment on its way through the filters."""

    sample: Sample
    candidate: Candidate


def _decide(work: Work, claim: Claim, export: Export) -> None:
    runtime = work.runtime
    with runtime.sessions() as session:
        waiting = training.jobs_to_export(session, export)
    for job_id in waiting:
        work.lease.check(claim)
        decided = list(_judge(runtime, export, job_id))
        with work.transaction(claim) as tx:
            # a job that was deleted meanwhile is not exported
            there = select(Job.id).where(Job.id == job_id, Job.deleted_at.is_(None))
            there = there.with_for_update(read=True, key_share=True)
            if tx.session.scalar(there) is not None:
                tx.session.add_all(decided)


def _judge(runtime: Runtime, export: Export, job_id: uuid.UUID) -> Iterator[Sample]:
    """What becomes of each segment of a job."""
    filters, cleaning = Filters.from_json(export.filters), Cleaning.from_json(export.cleaning)
    heard = list(_candidates(runtime, export, job_id, cleaning))
    for one in heard:
        one.sample.reason = reject(one.candidate, filters)
    _reject_known(runtime, export, heard, filters)
    for chunk, group in groupby(heard, key=lambda one: one.sample.chunk):
        wanted = [one for one in group if one.sample.reason is None]
        audio = _Audio.of(runtime, job_id, chunk) if wanted else None
        for one in wanted:
            samples = audio.between(one.candidate.start, one.candidate.end) if audio else None
            one.sample.reason = Reason.AUDIO_MISSING if samples is None else reject_audio(samples, filters)
    for one in heard:
        yield one.sample


def _candidates(runtime: Runtime, export: Export, job_id: uuid.UUID, cleaning: Cleaning) -> Iterator[_Heard]:
    with runtime.sessions() as session:
        job = session.get(Job, job_id)
        if job is None:
            return
        consents = _consents(session, job)
        segments = session.scalars(
            select(StoredSegment).where(StoredSegment.job_id == job_id).order_by(StoredSegment.index)
        ).all()
        retained = _retained(runtime, job, export)
        for chunk, group in groupby(segments, key=lambda segment: segment.chunk):
            heard = {
                row.role: Hypothesis.from_json(row.content)
                for row in session.scalars(
                    select(StoredHypothesis).where(
                        StoredHypothesis.job_id == job_id, StoredHypothesis.chunk == chunk
                    )
                )
            }
            draft, refined = heard.get(Role.DRAFT), heard.get(Role.REFINED)
            for segment in group:
                label, human, confidence = _said_by(segment, consents)
                text = clean(segment.text, segment.language or job.language, cleaning)
                candidate = Candidate(
                    job=str(job_id),
                    segment=segment.index,
                    source=str(job.options.get("source") or job.tenant),
                    at=job.created_at,
                    start=segment.start,
                    end=segment.end,
                    text=text,
                    language=segment.language or job.language,
                    speaker=f"{job_id}/{label}",
                    human=human,
                    confidence=confidence,
                    draft=_between(draft, segment.start, segment.end),
                    refined=_between(refined, segment.start, segment.end),
                    consent=consents[label],
                    retained=retained,
                    itn=draft.itn if draft else None,
                    emotion=draft.emotion if draft else None,
                    event=draft.event if draft else None,
                )
                yield _Heard(_sample(export, job_id, chunk, label, candidate), candidate)


def _sample(export: Export, job_id: uuid.UUID, chunk: int, label: str, candidate: Candidate) -> Sample:
    return Sample(
        export_id=export.job_id,
        job_id=job_id,
        segment=candidate.segment,
        chunk=chunk,
        candidate=candidate.to_json(),
        text=candidate.text,
        fingerprint=fingerprint(candidate.text, candidate.seconds),
        text_hash=hashlib.sha256(normalise(candidate.text).encode()).hexdigest(),
        speaker=label,
        seconds=candidate.seconds,
        human=candidate.human,
    )


def _said_by(segment: StoredSegment, known: Mapping[str, bool]) -> tuple[str, bool, float]:
    """Whose words they are, whether a person has corrected them, and how sure they are.

    A new name that a person gave is no voiceprint: it is the machine's label that tells who may consent. And who
    corrected the name alone has not vouched for the words.
    """
    machine = segment.machine or {}
    label = segment.speaker or ""
    if label not in known:
        label = machine.get("speaker") or ""
    corrected = segment.source == SegmentSource.HUMAN and machine.get("text") != segment.text
    confidence = segment.confidence if corrected else machine.get("confidence", segment.confidence)
    return label if label in known else "", corrected, confidence


def _consents(session: Any, job: Job) -> dict[str, bool]:
    """For each speaker's label whether they may be trained on. The job's own word counts for all."""
    rows = session.execute(
        select(StoredSpeaker.label, StoredVoice.training)
        .outerjoin(StoredVoice, StoredVoice.id == StoredSpeaker.voice_id)
        .where(StoredSpeaker.job_id == job.id)
    )
    everybody = job.options.get("training") is not False
    return {"": everybody} | {label: everybody and consent is not False for label, consent in rows}


def _retained(runtime: Runtime, job: Job, export: Export) -> bool:
    """Whether the recording is to be kept beyond the export's own time."""
    days = job.options.get("retain_days", runtime.settings.retain_days)
    return days is None or job.created_at + timedelta(days=days) > export.until


def _between(hypothesis: Hypothesis | None, start: float, end: float) -> str | None:
    """What an engine heard in a span, by the middles of its words."""
    if hypothesis is None:
        return None
    return join_words(word for word in hypothesis.words if start <= (word.start + word.end) / 2 <= end)


def _reject_known(runtime: Runtime, export: Export, heard: Sequence[_Heard], filters: Filters) -> None:
    """Reject what an earlier night has, and what this one has often enough."""
    fresh = [one.sample for one in heard if one.sample.reason is None]
    with runtime.sessions() as session:
        known = training.exported_before(session, export, [sample.fingerprint for sample in fresh])
        said = Counter(training.repeats(session, export.job_id, [sample.text_hash for sample in fresh]))
    for sample in fresh:
        if sample.fingerprint in known:
            sample.reason = Reason.DUPLICATE
        elif said[sample.text_hash] >= filters.max_repeats:
            sample.reason = Reason.REPEATED_TEXT
        else:
            known.add(sample.fingerprint)
            said[sample.text_hash] += 1


@dataclass(frozen=True, slots=True)
class _Audio:
    """A chunk's sound; segments are cut out of it."""

    samples: Samples
    start: float

    @classmethod
    def of(cls, runtime: Runtime, job_id: uuid.UUID, chunk: int) -> _Audio | None:
        with runtime.sessions() as session:
            row = session.get(Chunk, (job_id, chunk))
        if row is None:
            return None
        try:
            return cls(flac.decode(runtime.storage.get(row.key)), row.start)
        except (ObjectMissing, flac.DecodeError) as error:
            logger.warning("chunk %d of job %s is left out: %s", chunk, job_id, error)
            return None

    def between(self, start: float, end: float) -> Samples:
        first, last = (max(0, round((at - self.start) * SAMPLE_RATE)) for at in (start, end))
        return self.samples[first:last]


# train and val


def _divide(work: Work, claim: Claim, export: Export) -> None:
    """Say who may be the same person, and who is held out: nobody is in both train and val."""
    runtime = work.runtime
    with runtime.sessions() as session:
        speech = training.speech_of(session, [export.job_id])
    persons = persons_of(speech, runtime.settings.voice_threshold)
    shares = _shares(speech, persons)
    held = held_out(list(shares.values()))
    with work.transaction(claim) as tx:
        for row, person in zip(speech, persons, strict=True):
            out = person in held
            # of those whose speech was corrected, only that is trusted to be compared with
            machine = Reason.HELD_OUT_SPEAKER if out and shares[person].human_seconds else None
            speaker = (row.job_id, row.speaker)
            split = Split.VAL if out else Split.TRAIN
            training.place(tx.session, export.job_id, speaker, person, split, machine=machine)
        tx.session.execute(update(Export).where(Export.job_id == export.job_id).values(selected=True))


def persons_of(speech: Sequence[Any], threshold: float) -> list[int]:
    if not speech:
        return []
    width = max((len(row.vector or ()) for row in speech), default=0)
    vectors = np.zeros((len(speech), max(width, 1)), np.float32)
    for place, row in enumerate(speech):
        # voiceprints of another model cannot be compared: they stand for nobody else
        if row.vector and len(row.vector) == width:
            vectors[place] = row.vector
    return people(vectors, [row.voice_id for row in speech], threshold)


def _shares(speech: Sequence[Any], persons: Sequence[int]) -> dict[int, Share]:
    shares: dict[int, Share] = {}
    for row, person in zip(speech, persons, strict=True):
        share = shares.get(person) or Share(person, 0.0, 0.0, f"{row.job_id}/{row.speaker}")
        shares[person] = replace(
            share, seconds=share.seconds + row.seconds, human_seconds=share.human_seconds + row.human
        )
    return shares


# writing


def _write_clips(work: Work, claim: Claim, export: Export) -> None:
    runtime = work.runtime
    with runtime.sessions() as session:
        waiting = training.unwritten(session, export.job_id)
    for job_id in waiting:
        work.lease.check(claim)
        with runtime.sessions() as session:
            samples = session.scalars(
                select(Sample)
                .where(Sample.export_id == export.job_id, Sample.job_id == job_id, Sample.reason.is_(None))
                .order_by(Sample.segment)
            ).all()
        hashes = _write_job(runtime, export, job_id, samples)
        with work.transaction(claim) as tx:
            for sample in samples:
                digest = hashes.get(sample.segment)
                # whatever was deleted between is left out
                values = {"sha256": digest} if digest else {"reason": Reason.AUDIO_MISSING}
                tx.session.execute(
                    update(Sample)
                    .where(
                        Sample.export_id == export.job_id,
                        Sample.job_id == job_id,
                        Sample.segment == sample.segment,
                    )
                    .values(values)
                )


def _write_job(runtime: Runtime, export: Export, job_id: uuid.UUID, samples: Sequence[Sample]) -> dict[int, str]:
    """Write the clips of one job; the hash of each by segment."""
    hashes: dict[int, str] = {}
    where = training.prefix(export)
    for chunk, group in groupby(samples, key=lambda sample: sample.chunk):
        audio = _Audio.of(runtime, job_id, chunk)
        if audio is None:
            continue
        for sample in group:
            clip = clip_of(sample)
            body = flac.encode(audio.between(clip.candidate.start, clip.candidate.end))
            hashes[sample.segment] = hashlib.sha256(body).hexdigest()
            runtime.storage.put(where + clip.path, body, "audio/flac")
    return hashes


def clip_of(sample: Sample) -> layout.Clip:
    """A sample that has been put into a split, as the writers of lists want it."""
    split = sample.split or Split.TRAIN
    return layout.Clip(
        candidate=Candidate.from_json(sample.candidate),
        text=sample.text,
        person=sample.person or 0,
        split=split.value,
        sha256=sample.sha256 or "",
    )


class _Lists:
    """Files that grow line by line, in flat memory."""

    def __init__(self, storage: Storage, where: str) -> None:
        self._storage, self._where = storage, where
        self._writers: dict[str, ObjectWriter] = {}

    def open(self, path: str) -> ObjectWriter:
        if path not in self._writers:
            self._writers[path] = self._storage.writer(self._where + path, LINES)
        return self._writers[path]

    def add(self, path: str, line: str) -> None:
        writer = self.open(path)
        if writer.accept(f"{line}\n".encode()):
            writer.flush()

    def close(self) -> dict[str, Json]:
        """Make them appear; the bytes and sha256 of each by path."""
        for writer in self._writers.values():
            writer.close()
        return {path: {"sha256": w.sha256, "bytes": w.size} for path, w in sorted(self._writers.items())}

    def abort(self) -> None:
        for writer in self._writers.values():
            writer.abort()


KALDI = ("wav.scp", "text", "utt2spk")


def _write_lists(work: Work, claim: Claim, export: Export) -> Json:
    runtime = work.runtime
    lists = _Lists(runtime.storage, training.prefix(export))
    with ExitStack() as undo:
        undo.callback(lists.abort)
        # both are there even where they are empty
        for split in Split:
            lists.open(f"{split.value}.jsonl")
        for number, sample in enumerate(training.accepted(runtime.sessions, [export.job_id])):
            if number % 1000 == 0:
                work.lease.check(claim)
            clip = clip_of(sample)
            lists.add(f"{clip.split}.jsonl", layout.funasr_line(clip))
            lists.add("metadata.jsonl", layout.audiofolder_line(clip))
            lists.add("SHA256SUMS", f"{clip.sha256}  {clip.path}")
        for _, samples in groupby(
            training.accepted(runtime.sessions, [export.job_id], training.BY_RECORDING), key=lambda s: s.job_id
        ):
            clips = [clip_of(sample) for sample in samples]
            path = layout.asr_path(clips[0].candidate)
            body = "".join(f"{layout.asr_line(clip)}\n" for clip in clips).encode()
            runtime.storage.put(training.prefix(export) + path, body, LINES)
            lists.add("SHA256SUMS", f"{hashlib.sha256(body).hexdigest()}  {path}")
        # Kaldi's tools want them sorted by utterance, which begins with the speaker
        for sample in training.accepted(runtime.sessions, [export.job_id], training.BY_PERSON):
            clip = clip_of(sample)
            for name, line in zip(KALDI, layout.kaldi_lines(clip), strict=True):
                lists.add(f"kaldi/{clip.split}/{name}", line)
        files = lists.close()
        undo.pop_all()
    manifest = _manifest(runtime, export, files)
    card = layout.dataset_card(manifest).encode()
    # under its second name `datasets` finds it, and with it where the clips are listed
    for name in ("dataset_card.md", "README.md"):
        runtime.storage.put(training.prefix(export) + name, card, "text/markdown")
    body = json.dumps(manifest, ensure_ascii=False, indent=1).encode()
    runtime.storage.put(f"{training.prefix(export)}manifest.json", body, "application/json")
    return manifest


def _manifest(runtime: Runtime, export: Export, files: Mapping[str, Json]) -> Json:
    with runtime.sessions() as session:
        decisions = training.decisions(session, export.job_id)
        made = session.get_one(Job, export.job_id).created_at
        totals = training.totals(session, export.job_id)
        models = training.models(session, export.job_id)
    return layout.manifest(
        id=str(export.job_id),
        tenant=export.tenant,
        date=export.date,
        created_at=made,
        window=(export.since, export.until),
        filters=Filters.from_json(export.filters),
        cleaning=Cleaning.from_json(export.cleaning),
        splits={split.value: layout.Count(*totals.splits[split]) for split in Split},
        rejections={Reason(reason): count for reason, count in decisions.items() if reason},
        models=models,
        languages=totals.languages,
        sources=totals.sources,
        files=dict(files),
    )


handler = Handler(StepKind.EXPORT, work, commit, deadline=12 * 3600)
