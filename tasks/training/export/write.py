"""The clips, and the lists that tools read them by."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby

from sqlalchemy import select, update

from db.models import Export, Job, Json, Sample, Split
from db.object_writer import ObjectWriter
from db.queue.leases import Claim
from db.storage import Storage
from db.training import dataset, exports, finetunes
from speech.audio import flac
from speech.training.dataset import layout
from speech.training.dataset.candidates import Candidate
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.text import Cleaning
from tasks.runtime import Runtime
from tasks.step import Work
from tasks.training.export.audio import ChunkAudio

LINES = "application/x-ndjson"


def write_clips(work: Work, claim: Claim, export: Export) -> None:
    runtime = work.runtime
    with runtime.sessions() as session:
        waiting = dataset.unwritten(session, export.job_id)
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
    where = exports.prefix(export)
    for chunk, group in groupby(samples, key=lambda sample: sample.chunk):
        audio = ChunkAudio.of(runtime, job_id, chunk)
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


def write_lists(work: Work, claim: Claim, export: Export) -> Json:
    runtime = work.runtime
    lists = _Lists(runtime.storage, exports.prefix(export))
    with ExitStack() as undo:
        undo.callback(lists.abort)
        # both are there even where they are empty
        for split in Split:
            lists.open(f"{split.value}.jsonl")
        for number, sample in enumerate(dataset.accepted(runtime.sessions, [export.job_id])):
            if number % 1000 == 0:
                work.lease.check(claim)
            clip = clip_of(sample)
            lists.add(f"{clip.split}.jsonl", layout.funasr_line(clip))
            lists.add("metadata.jsonl", layout.audiofolder_line(clip))
            lists.add("SHA256SUMS", f"{clip.sha256}  {clip.path}")
        for _, samples in groupby(
            dataset.accepted(runtime.sessions, [export.job_id], dataset.BY_RECORDING), key=lambda s: s.job_id
        ):
            clips = [clip_of(sample) for sample in samples]
            path = layout.asr_path(clips[0].candidate)
            body = "".join(f"{layout.asr_line(clip)}\n" for clip in clips).encode()
            runtime.storage.put(exports.prefix(export) + path, body, LINES)
            lists.add("SHA256SUMS", f"{hashlib.sha256(body).hexdigest()}  {path}")
        # Kaldi's tools want them sorted by utterance, which begins with the speaker
        for sample in dataset.accepted(runtime.sessions, [export.job_id], dataset.BY_PERSON):
            clip = clip_of(sample)
            for name, line in zip(KALDI, layout.kaldi_lines(clip), strict=True):
                lists.add(f"kaldi/{clip.split}/{name}", line)
        files = lists.close()
        undo.pop_all()
    made = manifest(runtime, export, files)
    card = layout.dataset_card(made).encode()
    # under its second name `datasets` finds it, and with it where the clips are listed
    for name in ("dataset_card.md", "README.md"):
        runtime.storage.put(exports.prefix(export) + name, card, "text/markdown")
    body = json.dumps(made, ensure_ascii=False, indent=1).encode()
    runtime.storage.put(f"{exports.prefix(export)}manifest.json", body, "application/json")
    return made


def manifest(runtime: Runtime, export: Export, files: Mapping[str, Json]) -> Json:
    with runtime.sessions() as session:
        decisions = dataset.decisions(session, export.job_id)
        created_at = session.get_one(Job, export.job_id).created_at
        totals = dataset.totals(session, export.job_id)
        models = finetunes.models(session, export.job_id)
    return layout.manifest(
        id=str(export.job_id),
        tenant=export.tenant,
        date=export.date,
        created_at=created_at,
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
