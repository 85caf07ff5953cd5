"""The clips and lists that the trainer reads, from the exports of a fine-tuning."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from db.models import Export, FineTune, Role, Split
from db.objects.storage import ObjectMissing
from db.queue.claims import Claim
from db.training import dataset, exports
from speech.text.script import normalise
from speech.training.dataset import lines
from tasks.errors import Permanent
from tasks.handler import Work
from tasks.training.export.clips import to_clip
from tasks.training.export.splits import identify_persons


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What is known of the data beside the files."""

    seconds: float
    """Audio of all clips."""
    served_cer: float | None
    """Character error rate, on the held-out clips that people corrected, of what this role's model had written."""


def write_training_data(work: Work, claim: Claim, finetune: FineTune, folder: Path) -> TrainingData:
    """Write ``clips/``, train.jsonl and val.jsonl: each utterance once, and nobody in both lists.

    Raises Permanent.
    """
    runtime = work.runtime
    with runtime.sessions() as session:
        by_id = {export_id: session.get(Export, export_id) for export_id in finetune.exports}
        speech = dataset.speech_by_speaker(session, finetune.exports)
        held_out_speakers = dataset.held_out_speakers(session, finetune.exports)
    persons = identify_persons(speech, runtime.settings.voice_threshold)
    person_of = {(row.job_id, row.speaker): person for row, person in zip(speech, persons, strict=True)}
    held_out = {person_of[speaker] for speaker in held_out_speakers}
    seen: set[str] = set()
    clips: Counter[Split] = Counter()
    edits = length = 0
    seconds = 0.0
    corrected = False
    (folder / "clips").mkdir()
    with ExitStack() as files:
        lists = {split: files.enter_context((folder / f"{split}.jsonl").open("w")) for split in Split}
        for number, sample in enumerate(dataset.accepted(runtime.sessions, finetune.exports)):
            if number % 100 == 0:
                work.lease.check(claim)
            export = by_id[sample.export_id]
            split = Split(sample.split or Split.TRAIN)
            leaks = split == Split.TRAIN and person_of[sample.job_id, sample.speaker] in held_out
            # of an utterance that was corrected later, the correction is read first
            identities = {sample.fingerprint, f"{sample.job_id}/{sample.segment}"}
            if export is None or leaks or not seen.isdisjoint(identities):
                continue
            # uncorrected speech is easier: it is validated on only if there is no corrected speech
            if split == Split.VAL and corrected and not sample.human:
                continue
            clip = to_clip(sample)
            try:
                body = runtime.storage.get(exports.prefix(export) + clip.path)
            except ObjectMissing:
                continue
            seen |= identities
            clips[split] += 1
            seconds += sample.seconds
            corrected = corrected or (split == Split.VAL and sample.human)
            path = Path("clips") / f"{number:07d}.flac"
            (folder / path).write_bytes(body)
            line = json.loads(lines.funasr_line(clip)) | {"source": str(path), "human": sample.human}
            lists[split].write(json.dumps(line, ensure_ascii=False) + "\n")
            served = clip.candidate.draft if finetune.role == Role.DRAFT else clip.candidate.refined
            # uncorrected clips were accepted because the models agreed: they would flatter them
            if split == Split.VAL and sample.human and served is not None:
                reference = normalise(clip.text)
                edits += Levenshtein.distance(normalise(served), reference)
                length += len(reference)
    if not clips[Split.TRAIN]:
        raise Permanent("no_training_data", "The exports hold nothing to train on; see why in their rejections.")
    if not clips[Split.VAL]:
        detail = "The exports hold the speech of one person alone; a second is needed to measure what is learnt."
        raise Permanent("no_held_out_data", detail)
    return TrainingData(seconds, round(edits / length, 4) if length else None)
