"""The lists of clips, in the formats of the tools that train on them."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from itertools import groupby

from sqlalchemy import select

from db.models import Export, Json, Sample, Split, Withdrawal
from db.objects.storage import Storage
from db.objects.writer import ObjectWriter
from db.queue.claims import Claim
from db.training import dataset, exports
from speech.training.dataset import lines
from speech.training.dataset.card import dataset_card
from speech.training.dataset.paths import asr_path
from tasks.handler import Work
from tasks.runtime import Runtime
from tasks.training.export.clips import to_clip
from tasks.training.export.manifest import export_manifest

NDJSON = "application/x-ndjson"
KALDI_FILES = ("wav.scp", "text", "utt2spk")
CARDS = ("dataset_card.md", "README.md")
MANIFEST = "manifest.json"
RECORDING = re.compile(r"/(?:raw|asr)/[^/]+/[^/]+-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/|\.jsonl$)")
"""How the paths of clips and of their texts name the recording."""


class _ListWriters:
    """Files that are written line by line; memory does not grow with their length."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        self._storage, self._prefix = storage, prefix
        self._writers: dict[str, ObjectWriter] = {}

    def open(self, path: str) -> ObjectWriter:
        if path not in self._writers:
            self._writers[path] = self._storage.writer(self._prefix + path, NDJSON)
        return self._writers[path]

    def add(self, path: str, line: str) -> None:
        writer = self.open(path)
        if writer.accept(f"{line}\n".encode()):
            writer.flush()

    def close(self) -> dict[str, Json]:
        """Complete the uploads. Returns sha256 and bytes by path."""
        for writer in self._writers.values():
            writer.close()
        return {path: {"sha256": w.sha256, "bytes": w.size} for path, w in sorted(self._writers.items())}

    def abort(self) -> None:
        for writer in self._writers.values():
            writer.abort()


def write_lists(work: Work, claim: Claim, export: Export, withdrawals: Sequence[Withdrawal]) -> Json:
    """Write all lists, the dataset card and, last, the manifest, which is returned.

    Whatever else lies in the export is removed: what was erased since an earlier attempt, or left by it.
    """
    runtime = work.runtime
    lists = _ListWriters(runtime.storage, exports.prefix(export))
    with ExitStack() as undo:
        undo.callback(lists.abort)
        # both exist even if they are empty
        for split in Split:
            lists.open(f"{split.value}.jsonl")
        for number, sample in enumerate(dataset.accepted(runtime.sessions, [export.job_id])):
            if number % 1000 == 0:
                work.lease.check(claim)
            clip = to_clip(sample)
            lists.add(f"{clip.split}.jsonl", lines.funasr_line(clip))
            lists.add("metadata.jsonl", lines.audiofolder_line(clip))
            lists.add("SHA256SUMS", f"{clip.sha256}  {clip.path}")
        for _, samples in groupby(
            dataset.accepted(runtime.sessions, [export.job_id], dataset.BY_RECORDING), key=lambda s: s.job_id
        ):
            clips = [to_clip(sample) for sample in samples]
            path = asr_path(clips[0].candidate)
            body = "".join(f"{lines.asr_line(clip)}\n" for clip in clips).encode()
            runtime.storage.put(exports.prefix(export) + path, body, NDJSON)
            lists.add("SHA256SUMS", f"{hashlib.sha256(body).hexdigest()}  {path}")
        # Kaldi's tools want them sorted by utterance, whose id starts with the speaker
        for sample in dataset.accepted(runtime.sessions, [export.job_id], dataset.BY_PERSON):
            clip = to_clip(sample)
            for name, line in zip(KALDI_FILES, lines.kaldi_lines(clip), strict=True):
                lists.add(f"kaldi/{clip.split}/{name}", line)
        files = lists.close()
        undo.pop_all()
    manifest = export_manifest(runtime, export, files, withdrawals)
    card = dataset_card(manifest).encode()
    # as README.md it also tells the `datasets` library which files are data
    for name in CARDS:
        runtime.storage.put(exports.prefix(export) + name, card, "text/markdown")
    body = json.dumps(manifest, ensure_ascii=False, indent=1).encode()
    runtime.storage.put(f"{exports.prefix(export)}{MANIFEST}", body, "application/json")
    remove_others(runtime, export, {*files, *CARDS, MANIFEST})
    return manifest


def remove_others(runtime: Runtime, export: Export, listed: Collection[str]) -> None:
    """Remove all files but those that are ``listed``, and those of recordings that were accepted."""
    prefix = exports.prefix(export)
    for folder, keys in groupby((key for key, _ in runtime.storage.list(prefix)), key=_recording):
        paths = {key.removeprefix(prefix) for key in keys} - set(listed)
        if folder is not None and paths:
            with runtime.sessions() as session:
                samples = session.scalars(
                    select(Sample).where(
                        Sample.export_id == export.job_id, Sample.job_id == folder, Sample.sha256.is_not(None)
                    )
                ).all()
            clips = [to_clip(sample) for sample in samples]
            paths -= {path for clip in clips for path in (clip.path, asr_path(clip.candidate))}
        runtime.remove(prefix + path for path in sorted(paths))


def _recording(key: str) -> uuid.UUID | None:
    """The job whose clip or texts these are; None for other files."""
    found = RECORDING.search(key)
    return uuid.UUID(found[1]) if found else None
