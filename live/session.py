"""One live session: sound in, events out, and a job that grows meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from itertools import count

import numpy as np
from anyio import to_thread

from db import live
from db.logs import describe
from live import events, hearing, metrics
from live.audio import Pcm, RecentAudio, to_pcm, to_samples
from live.recording import Recording, RecordingStopped
from live.services import Services
from live.stages import AsrStart, DenoiseSession, StageBusy, StageError, VadSession
from live.utterances import Ended, Endpointer, Heard, UtteranceOptions
from speech.audio import chunking, flac
from speech.audio.chunking import ChunkCutter
from speech.engines import SAMPLE_RATE, Samples
from speech.text.redaction.kinds import PersonalData
from speech.text.redaction.redact import redact
from speech.text.words import Hypothesis, Phrase

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 20.0
"""That the finals of a session may take at its end, before they are left to the queue."""

WATCH_SECONDS = 0.25
"""Between two looks at whether anything comes."""


AGAIN_SAMPLES = 200 * SAMPLE_RATE
"""That are heard again at most: speech before them would be in a chunk, and in a final."""

MIN_PIECE, MAX_PIECE = 1024, SAMPLE_RATE // 2
"""Samples that are processed at once: with fewer the calls cost most, with more others wait for their turn."""

CUT_SAMPLES = SAMPLE_RATE
"""That are looked at together for where chunks end."""

MAX_FLUSHES = 16
"""That may wait for their finals, before the next one does."""

BURST_SECONDS, MAX_SPEED = 60.0, 10.0
"""Of sound, that may come at any speed after a connection; then no faster than so many times that of speech."""


NO_SAMPLES: Samples = np.zeros(0, np.float32)
NO_PCM: Pcm = np.zeros(0, np.int16)


class TakenUp(Exception):
    """Another connection goes on with the session."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a client asked for."""

    flow_id: str
    tenant: str
    language: str | None = None
    """Certain, where the client named it."""
    domain: str | None = None
    hotwords: tuple[str, ...] = ()
    redact: frozenset[PersonalData] = frozenset()
    """Personal data that is left out; then there are no partials, since more words may tell more of it."""
    cuts_utterances: bool = True
    """Whether pauses end utterances; else flushes alone do, and what would be too long."""
    ends_in_silence: bool = True
    """Whether it ends where nothing comes any more, though its client is there."""


class LiveSession:
    """For one event loop. It goes on while no client is attached, for as long as one may come back."""

    def __init__(
        self,
        services: Services,
        options: SessionOptions,
        position: live.Position,
        on_closed: Callable[[LiveSession], None],
    ) -> None:
        """``on_closed`` is called once it is over."""
        self._services, self.options, self._on_closed = services, options, on_closed
        self.job_id = position.job_id
        self._position = position
        self._opened = contextlib.AsyncExitStack()
        """What is to be closed, the last first."""
        self.recording = Recording(services, options.tenant, options.flow_id, position, self._on_stored)
        self._opened.push_async_callback(self.recording.close)
        self.outbox: events.Outbox | None = None
        self._attached_to: object | None = None
        self._finals = count(position.finals + 1)
        self._flushes = count(1)
        self._language: str | None = options.language
        self._spoken: list[Samples] = []
        """Speech from which the language is to be heard."""
        self._spoken_samples = 0
        self._identifying: asyncio.Task[None] | None = None
        self._arrived: list[Pcm] = []
        self._arrived_samples = 0
        """Sound that is too little to be processed by itself."""
        self._turn = asyncio.Lock()
        """Held while sound is processed: flushes come between two pieces of it."""
        now = time.monotonic()
        self._began = self._sound_at = self._detached_at = self._attached_at = now
        self._attached_received = position.received
        self._flush_sent = False
        self._flushed_by_client = False
        self.ended: events.Ended | None = None
        self.over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts = {"partials": 0, "finals": 0, "left_to_the_queue": 0}
        self._first_partial: float | None = None
        self._was_busy = False

    async def start(self) -> None:
        """Open the stages, and hear again what is stored but was not heard. Raises StageError.

        Who calls it closes the session where it raises.
        """
        stages, options, position = self._services.stages, self.options, self._position
        settings = self._services.settings
        self._vad: VadSession = await stages.vad.open(options.flow_id)
        self._opened.push_async_callback(self._vad.close)
        self._denoise: DenoiseSession | None = None
        if stages.denoise is not None:
            self._denoise = await stages.denoise.open(options.flow_id)
            self._opened.push_async_callback(self._denoise.close)
        frame = self._vad.frame_samples
        # chunks and utterances end between frames
        begin = max(min(position.heard, position.cut), position.received - AGAIN_SAMPLES, 0) // frame * frame
        self._frames = begin // frame
        """Frames of voice detection so far, from the beginning of the flow."""
        self._heard_from = -(-max(position.heard, begin) // frame)
        self._cut_from = -(-max(position.cut, begin) // frame)
        self._uncut = self._cut_from * frame - begin
        """Samples to come that chunks cover already."""
        pause = settings.live_pause_seconds if options.cuts_utterances else 60.0
        self._endpointer = Endpointer(
            frame,
            UtteranceOptions(pause_seconds=pause, long_seconds=settings.live_utterance_seconds),
            begin=self._heard_from * frame,
        )
        self._cutter = ChunkCutter(frame)
        self._clean = RecentAudio(begin)
        self._blocks: list[Samples] = []
        self._probabilities: list[float] = []
        """Of speech, with sound that is still to be looked at for chunks."""
        self._hearing = hearing.Hearing(
            stages.asr,
            AsrStart(
                options.flow_id,
                language=options.language,
                domain=options.domain,
                hotwords=options.hotwords,
                partials=not options.redact,
            ),
            self._on_heard,
            self._on_missed,
            first=position.utterances,
        )
        self._opened.push_async_callback(self._hearing.close)
        if position.received > begin:
            await self._hear_again(begin)
        metrics.active_sessions.inc()
        self._watcher = asyncio.create_task(self._logged(self._watch()))

    async def close(self) -> None:
        """Close what is open. Does not raise. Twice is once."""
        await self._opened.aclose()

    def attach(self, connection: object) -> events.Outbox:
        """Have events sent to this connection, and no more sound taken from another one."""
        self._emit(events.Ended("error", "Another connection goes on with this session.", "taken_up"))
        self._attached_to, self.outbox = connection, events.Outbox()
        self._take_arrived()  # who goes on sends what is not received
        self._attached_at = self._sound_at = time.monotonic()
        self._attached_received = self.recording.received
        self._flushed_by_client = False
        if self.ended is not None:
            self.outbox.put(self.ended)
        return self.outbox

    def detach(self, connection: object) -> None:
        if self._attached_to is connection:
            self._attached_to = self.outbox = None
            self._detached_at = time.monotonic()

    async def feed(self, connection: object, pcm: Pcm) -> None:
        """More sound. Waits where the servers do not keep up, or where much comes faster than anybody speaks.

        Raises RecordingStopped, and TakenUp where another connection is attached by now.
        """
        if self._attached_to is not connection:
            raise TakenUp
        self._sound_at = time.monotonic()
        self._flush_sent = self._flushed_by_client = False
        self._arrived.append(pcm)
        self._arrived_samples += len(pcm)
        if self._arrived_samples >= MIN_PIECE:
            pcm = self._take_arrived()
            for at in range(0, len(pcm), MAX_PIECE):
                await self._feed(connection, pcm[at : at + MAX_PIECE])

    def _take_arrived(self) -> Pcm:
        pcm = np.concatenate([NO_PCM, *self._arrived])
        self._arrived, self._arrived_samples = [], 0
        return pcm

    async def _feed(self, connection: object, pcm: Pcm) -> None:
        if self.over.is_set():
            return
        async with self._turn:
            await self.recording.wait_for_room()
            if self._attached_to is not connection:
                raise TakenUp
            self.recording.add(pcm)
            async with self._failing():
                await self._process(pcm)
        # others have their turn, however much waits here
        await asyncio.sleep(self._too_fast())
        if self.recording.received > self._services.settings.max_duration * SAMPLE_RATE:
            self._spawn(self.end("max_duration"))

    def _too_fast(self) -> float:
        """Seconds to wait, so that no client takes the time of others."""
        sent = (self.recording.received - self._attached_received) / SAMPLE_RATE
        ahead = sent - BURST_SECONDS - MAX_SPEED * (time.monotonic() - self._attached_at)
        return max(0.0, ahead / MAX_SPEED)

    @property
    def utterances(self) -> int:
        """How many have begun."""
        return self._hearing.utterances

    async def flush(self) -> int:
        """Make all that came final; a ``Flushed`` of the number that this returns tells when it is."""
        while len(self._tasks) >= MAX_FLUSHES:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self._flushed_by_client = self.options.ends_in_silence
        self._sound_at = time.monotonic()
        return await self._flush()

    async def drop_utterance(self) -> None:
        """Forget what was said since the last final, but for the recording."""
        async with self._turn:
            self._endpointer.drop()
            await self._hearing.drop()

    async def end(self, reason: str) -> None:
        """Make all final, and have the job finish. Does not raise. Twice is once."""
        if self.ended is not None or self.over.is_set():
            return
        self.over.set()
        try:
            try:
                async with self._turn:
                    await self._finish_sound()
            except StageError as error:
                # the recording has what was not heard, and is cut to its end by the queue
                logger.warning("flow %s: %s", self.options.flow_id, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._hearing.settle()
            await self.recording.finish()
            ended = events.Ended(reason, metrics=self._summary())
        except RecordingStopped as stopped:
            ended = events.Ended("error", str(stopped), stopped.code, self._summary())
        await self._close(ended)

    async def fail(self, code: str, message: str) -> None:
        """Write what came, and leave the session to whoever takes it up, or to the queue in time."""
        if self.ended is not None:
            return
        self.over.set()
        self.recording.add(self._take_arrived())
        self.recording.cut_piece()
        with contextlib.suppress(RecordingStopped, TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self.recording.settle()
        await self._close(events.Ended("error", message, code, self._summary()))

    async def _close(self, ended: events.Ended) -> None:
        if self.ended is not None:
            return
        self.ended = ended
        for task in (self._watcher, self._identifying, *self._tasks):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        await self.close()
        metrics.active_sessions.dec()
        self._on_closed(self)
        self._emit(ended)
        logger.info("flow %s: job %s: session over: %s", self.options.flow_id, self.job_id, ended.reason)

    async def _hear_again(self, begin: int) -> None:
        """Process what is stored from a sample on, which another process may have been told of."""
        sessions, storage = self._services.for_tenant(self.options.tenant), self._services.storage

        def read() -> list[Pcm]:
            with sessions() as session:
                pieces = live.pieces(session, self.job_id, since=begin)
            parts = []
            for piece in pieces:
                samples = flac.decode(storage.get(piece.key))
                parts.append(to_pcm(samples)[max(0, begin - piece.start) :])
            return parts

        for pcm in await to_thread.run_sync(read, limiter=self._services.threads):
            for at in range(0, len(pcm), MAX_PIECE):
                await self._process(pcm[at : at + MAX_PIECE])
                await asyncio.sleep(0)  # others have their turn

    async def _process_arrived(self) -> None:
        """However little it is."""
        if self._arrived:
            pcm = self._take_arrived()
            self.recording.add(pcm)
            await self._process(pcm)

    async def _process(self, pcm: Pcm) -> None:
        samples = to_samples(pcm)
        if self._denoise is None:
            await self._process_clean(samples, samples, pcm)
        else:
            clean = await self._denoise.push(samples)
            await self._process_clean(samples, clean, to_pcm(clean))

    async def _process_clean(self, samples: Samples, clean: Samples, clean_pcm: Pcm) -> None:
        """``samples`` as they came, and what is without noise by now."""
        self._clean.push(clean_pcm)
        probabilities = await self._vad.push(clean)
        first, frame = self._frames, self._vad.frame_samples
        self._frames += len(probabilities)
        await self._pass_on(self._endpointer.push(probabilities[max(0, self._heard_from - first) :]))
        self._collect_speech(samples)
        self._clean.forget(min(self._endpointer.first_needed, self._frames * frame))
        skipped = min(self._uncut, len(samples))
        self._uncut -= skipped
        self._blocks.append(samples[skipped:])
        self._probabilities += probabilities[max(0, self._cut_from - first) :]
        if sum(map(len, self._blocks)) >= CUT_SAMPLES:
            self._cut()

    def _cut(self, *, at_end: bool = False) -> None:
        found = self._cutter.push(np.concatenate([NO_SAMPLES, *self._blocks]), self._probabilities)
        self._blocks, self._probabilities = [], []
        if at_end:
            found += self._cutter.finish(())
        for stretches, piece in found:
            self.recording.add_chunk(chunking.shift(stretches, self._cut_from * self._vad.frame_samples), piece)

    async def _pass_on(self, boundaries: list[Heard | Ended]) -> None:
        for boundary in boundaries:
            if isinstance(boundary, Heard):
                pcm = self._clean.take(boundary.start, boundary.end)
                await self._hearing.hear(boundary.start, pcm.astype("<i2").tobytes())
            else:
                self.recording.cut_piece()
                await self._hearing.end_utterance()

    async def _finish_sound(self) -> None:
        """The sound has ended: the last utterance, and the last chunks."""
        await self._process_arrived()
        if self._denoise is not None:
            clean = await self._denoise.flush()
            await self._process_clean(NO_SAMPLES, clean, to_pcm(clean))
        await self._pass_on(self._endpointer.flush())
        self._cut(at_end=True)

    async def _flush(self) -> int:
        number = next(self._flushes)
        self._flush_sent = True
        async with self._turn, self._failing():
            await self._process_arrived()
            await self._pass_on(self._endpointer.flush())
            self.recording.cut_piece()

        async def tell() -> None:
            await self._hearing.settle()
            with contextlib.suppress(RecordingStopped):
                await self.recording.settle()
            self._emit(events.Flushed(number))

        self._spawn(tell())
        return number

    @contextlib.asynccontextmanager
    async def _failing(self) -> AsyncIterator[None]:
        """Leaves the session to whoever takes it up, where it cannot be listened to."""
        try:
            yield
        except StageError as error:
            logger.warning("flow %s: %s", self.options.flow_id, error)
            await self.fail("stage_unavailable", "The server cannot listen now; connect again to go on.")

    def _collect_speech(self, samples: Samples) -> None:
        """Hear the language, once there is enough speech."""
        stage = self._services.stages.language
        if self._language is not None or stage is None or self._identifying is not None:
            return
        if self._endpointer.in_utterance:
            self._spoken.append(samples)
            self._spoken_samples += len(samples)
        if self._spoken_samples >= self._services.settings.lid_first_n_seconds * SAMPLE_RATE:
            self._identifying = asyncio.create_task(self._logged(self._identify(np.concatenate(self._spoken))))
            self._spoken = []

    async def _identify(self, samples: Samples) -> None:
        stage = self._services.stages.language
        assert stage is not None  # noqa: S101  (who collects speech has looked)
        try:
            found = await stage.identify(self.options.flow_id, samples)
        except StageError as error:
            logger.warning("flow %s: no language: %s", self.options.flow_id, error)
            return
        if found is not None:
            self._language = found.language
            self._hearing.expect(found.language)
            self.recording.set_language(found.language)
            self._emit(events.LanguageHeard(found.language, found.probability))

    def _on_stored(self) -> None:
        self._emit(events.Stored(self.recording.received, self.recording.stored))

    def _on_heard(self, heard: hearing.Partial | hearing.Final) -> None:
        self._was_busy = False
        if isinstance(heard, hearing.Partial):
            if not self.options.redact:
                self._counts["partials"] += 1
                if self._first_partial is None:
                    self._first_partial = time.monotonic() - self._began
                self._emit(events.PartialHeard(heard.utterance, heard.stable, heard.unstable, heard.end))
            return
        final = heard.asr
        words = final.words
        if not words:
            self._emit(events.UtteranceEmpty(final.utterance))
            return
        self._counts["finals"] += 1
        if self.options.redact:
            phrase = Phrase(final.start, final.end, events.text_of(words), words, final.confidence)
            regions = self._services.settings.redact_regions
            redacted, _ = redact(Hypothesis(final.language, (phrase,)), self.options.redact, regions)
            words = redacted.words
        content = {
            "start": round(final.start, 3),
            "end": round(final.end, 3),
            "text": events.text_of(words),
            "words": [word.to_json() for word in words],
            "language": final.language,
            "confidence": round(final.confidence, 3),
        }
        told = events.FinalHeard(next(self._finals), final.utterance, content)
        self.recording.add_final(
            told.seq, heard.end, content | {"seq": told.seq, "utterance": told.utterance}, lambda: self._emit(told)
        )

    def _on_missed(self, error: StageError) -> None:
        self._counts["left_to_the_queue"] += 1
        if not self._was_busy:
            self._was_busy = True
            code = "asr_busy" if isinstance(error, StageBusy) else "asr_unavailable"
            message = "Words come later: the recording goes on, and is transcribed when there is room."
            self._emit(events.Notice(code, message))

    async def _watch(self) -> None:
        """Flush where nothing comes, end where nobody comes back, and keep the session alive meanwhile."""
        settings = self._services.settings
        while not self.over.is_set():
            await asyncio.sleep(WATCH_SECONDS)
            if self.recording.stopped is not None:
                self._spawn(self.fail(self.recording.stopped.code, str(self.recording.stopped)))
                return
            await self.recording.touch()
            now = time.monotonic()
            silent = now - self._sound_at
            if silent >= settings.flush_idle_sec:
                if self._flushed_by_client and self.outbox is not None:
                    self._spawn(self.end("flushed"))
                    return
                if not self._flush_sent:
                    await self._flush()
            gone = self.outbox is None and now - self._detached_at > settings.live_resume_seconds
            if gone or (self.options.ends_in_silence and silent > settings.live_resume_seconds):
                self._spawn(self.end("client_gone" if gone else "silent"))
                return

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(self._logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _logged(self, work: Coroutine[None, None, None]) -> None:
        """Work that nobody waits for: what fails unforeseen ends the session, which would hang without it."""
        try:
            await work
        except Exception as error:
            logger.exception("flow %s: %s", self.options.flow_id, describe(error))
            await self.fail("internal_error", "The server failed; its log has the cause. Connect again to go on.")

    def _emit(self, event: events.Event) -> None:
        if self.outbox is not None:
            self.outbox.put(event)

    def _summary(self) -> dict[str, object]:
        return {
            **self._counts,
            "audio_seconds": round(self.recording.received / SAMPLE_RATE, 3),
            "stored_seconds": round(self.recording.stored / SAMPLE_RATE, 3),
            "session_seconds": round(time.monotonic() - self._began, 3),
            "first_partial_seconds": None if self._first_partial is None else round(self._first_partial, 3),
        }
