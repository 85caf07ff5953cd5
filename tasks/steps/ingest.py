"""ingest: cuts a recording into chunks of 16 kHz mono FLAC. Each is drafted as soon as it is stored."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select

from db import live
from db.access import quotas
from db.models import Chunk, Job, StepKind
from db.objects.storage import ObjectMissing, job_prefix
from db.queue.claims import Claim
from db.queue.transaction import JobTransaction
from db.settings import Settings, get_settings
from speech.audio import chunking, flac
from speech.audio.isolated.client import DecoderLost, IsolatedMedia
from speech.audio.media import MediaError, MediaInfo
from speech.engines import SAMPLE_RATE, LanguageDetector, Utterance
from tasks import flow
from tasks.errors import Broken, LeaseLost, Permanent, Transient
from tasks.handler import Handler, Work
from tasks.runtime import Runtime
from tasks.steps.playback import Playback, playback

BLOCK_SECONDS = 8.0
"""Audio decoded at a time. Chunking buffers two minutes at most besides."""


@dataclass(frozen=True, slots=True)
class IngestOutput:
    """The decoded duration in seconds, and the keys of what was stored beside the chunks."""

    duration: float
    peaks_key: str
    rendition_key: str | None


def work(claims: Sequence[Claim], work: Work) -> list[IngestOutput]:
    """Returns what is known once all is decoded. Chunks are committed along the way."""
    (claim,) = claims
    runtime = work.runtime
    begin = _find_resume_point(runtime, claim.job_id)
    try:
        with (
            runtime.storage.open(begin.key) as file,
            runtime.decoder.open(file, max_duration=runtime.settings.max_duration) as media,
            playback(runtime.storage, claim, plays=media.info.plays or begin.enrols) as player,
        ):
            left = _start(work, claim, media.info)
            chunks = _cut(runtime, media, begin, player)
            for chunk in chunks:
                work.lease.check(claim)
                if left is not None and chunk.timeline.end > left:
                    # longer than it declared, if it declared anything
                    left = _check_quota_again(work, claim, chunk.timeline.end)
                # chunks of earlier attempts are kept: their drafts may be done already
                if (new := begin.uncovered(chunk)) is not None:
                    first = new.index == 0 and not begin.covered and begin.language is None and not begin.enrols
                    # of a recording that is decoded already, whoever refines it hears the language
                    detects = first and not (begin.refines_first and media.decoded_seconds)
                    _store(work, claim, new, _detect_language(runtime, new) if detects else None)
            return [IngestOutput(media.decoded_seconds, *player.finish())]
    except MediaError as error:
        raise Permanent(error.code, str(error)) from error
    except DecoderLost as error:
        raise Transient(str(error)) from error
    except ObjectMissing as error:
        raise Broken("audio_missing", "The uploaded recording is no longer in storage.") from error


@dataclass(frozen=True, slots=True)
class _ResumePoint:
    """Where an attempt continues: earlier ones may have committed chunks."""

    key: str
    language: str | None
    split: bool
    enrols: bool
    live: bool
    refines_first: bool
    covered: Mapping[int | None, int]
    """The last sample, exclusive, that a chunk of each channel holds."""

    def uncovered(self, chunk: chunking.Chunk) -> chunking.Chunk | None:
        """What earlier attempts have not stored of a chunk.

        By time alone: another version, or the last bits of another processor, may cut elsewhere.
        """
        return chunk.behind(self.covered.get(chunk.channel, 0))


def _cut(
    runtime: Runtime, media: IsolatedMedia, begin: _ResumePoint, player: Playback
) -> Iterator[chunking.Chunk]:
    engines = runtime.engines
    if begin.split:
        channels = player.heard(media.channel_blocks(seconds=BLOCK_SECONDS))
        return chunking.cut_channels(channels, engines.close_speech_vad, media.info.channels)
    blocks = player.heard(media.blocks(seconds=BLOCK_SECONDS))
    if begin.live:
        # it was cut as it came: what is left is what came last before the session was lost
        detector = engines.close_speech_vad.stream()
        return chunking.cut_rest(blocks, detector, begin.covered.get(None, 0))
    vad = engines.close_speech_vad if begin.enrols else engines.vad
    return chunking.cut(blocks, vad.stream())


def _find_resume_point(runtime: Runtime, job_id: uuid.UUID) -> _ResumePoint:
    with runtime.sessions() as session:
        row = session.execute(
            select(
                Job.source_key,
                Job.language,
                Job.options,
                Job.voice_id,
                Job.source_url.startswith(live.SCHEME, autoescape=True).label("live"),
            ).where(Job.id == job_id)
        ).one_or_none()
        if row is None:
            raise LeaseLost(f"job {job_id} was deleted")
        found = session.execute(
            select(Chunk.channel, func.max(Chunk.end)).where(Chunk.job_id == job_id).group_by(Chunk.channel)
        ).all()
    return _ResumePoint(
        key=row.source_key,
        language=row.language,
        split=row.options.get("channels") == "split",
        enrols=row.voice_id is not None,
        live=bool(row.live),
        refines_first=flow.refines_first(row.options),
        covered={channel: round(end * SAMPLE_RATE) for channel, end in found},
    )


def _start(work: Work, claim: Claim, info: MediaInfo) -> float | None:
    """Start the job. Returns the seconds that its tenant's quota has room for; None where there is none."""
    with work.transaction(claim) as tx:
        left = _check_quota(tx, work.runtime.settings, (info.duration or 0.0) if info.exact else 0.0)
        tx.job.duration = info.duration
        tx.job.sample_rate = info.sample_rate
        tx.job.channels = info.channels
        audio = {"duration": info.duration, "sample_rate": info.sample_rate, "channels": info.channels}
        flow.start_job(tx, audio)
    return left


def _check_quota(tx: JobTransaction, settings: Settings, seconds: float) -> float | None:
    """The same, for a recording of at least so many seconds. Raises Permanent if there is no room for it."""
    if live.is_live(tx.job):
        return None  # it was counted as it came
    try:
        return quotas.check_audio(tx.session, settings, tx.job, seconds)
    except quotas.QuotaExceeded as error:
        raise Permanent(error.code, str(error)) from error


def _check_quota_again(work: Work, claim: Claim, seconds: float) -> float | None:
    with work.transaction(claim) as tx:
        return _check_quota(tx, work.runtime.settings, seconds)


def _store(work: Work, claim: Claim, chunk: chunking.Chunk, language: str | None) -> None:
    # the fence in the key keeps a late worker from overwriting what its successor committed
    key = f"{job_prefix(claim.job_id)}chunks/{chunk.index:05d}-{claim.fence}.flac"
    work.runtime.storage.put(key, flac.encode(chunk.samples), "audio/flac")
    timeline = chunk.timeline
    # numbered under the job's lock, after what is there
    number = select(func.coalesce(func.max(Chunk.index) + 1, 0)).where(Chunk.job_id == claim.job_id)
    try:
        with work.transaction(claim) as tx:
            tx.job.language = tx.job.language or language
            index = tx.session.scalars(
                insert(Chunk)
                .values(
                    job_id=claim.job_id,
                    index=number.scalar_subquery(),
                    start=timeline.start,
                    end=timeline.end,
                    stretches=timeline.stretches,
                    key=key,
                    channel=chunk.channel,
                )
                .returning(Chunk.index)
            ).one()
            flow.add_chunk(tx, index)
    except LeaseLost:
        work.runtime.storage.delete([key])
        raise


def _detect_language(runtime: Runtime, chunk: chunking.Chunk) -> str | None:
    """The recording's language, detected in its first chunk, if the draft engine can detect it."""
    drafter = runtime.engines.drafter().engine
    if isinstance(drafter, LanguageDetector):
        return drafter.detect_language(Utterance(chunk.samples))
    return None


def commit(tx: JobTransaction, claim: Claim, output: IngestOutput) -> Mapping[str, Any]:
    # only now is the true length known, and it counts from here on
    _check_quota(tx, get_settings(), output.duration)
    tx.job.peaks_key, tx.job.rendition_key = output.peaks_key, output.rendition_key
    flow.finish_ingest(tx, output.duration)
    return {"duration": output.duration, "chunks": tx.job.chunks}


def _discard(runtime: Runtime, output: IngestOutput) -> None:
    runtime.storage.delete(filter(None, (output.peaks_key, output.rendition_key)))


handler = Handler(StepKind.INGEST, work, commit, deadline=3600, discard=_discard)
