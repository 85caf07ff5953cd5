"""A client that speaks to a remote stage of ASR as a gateway does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from live.inprocess.recognizer import MAX_WAITING
from live.remote.asr import LinkOptions, RemoteRecognizer
from live.remote.pool import Pool
from live.stages import FRAME_SAMPLES, AsrFinal, AsrPartial, AsrSession, AsrStart, AudioFrame, Recognizer
from live.wire.channels import Identity
from live.wire.messages import from_samples
from speech.engines import SAMPLE_RATE
from tests.live.stages.tones import speak

START = AsrStart("flow", language="en")


def recognizer(
    *urls: str,
    identity: Identity | None = None,
    options: LinkOptions | None = None,
    routes: Mapping[str, Sequence[str]] | None = None,
) -> RemoteRecognizer:
    """``urls`` are for whatever has no route. To be called within the event loop."""
    pool = Pool({"*": urls, **(routes or {})}, identity or Identity(), seconds=10)
    return RemoteRecognizer(pool, options or LinkOptions())


def frames(words: Sequence[int], *, at: float = 0.0, first_seq: int = 0) -> list[AudioFrame]:
    """The words of one utterance that begins at ``at`` seconds."""
    samples = speak(words)
    begin = round(at * SAMPLE_RATE)
    return [
        AudioFrame("flow", first_seq + place, from_samples(samples[start : start + FRAME_SAMPLES]), begin + start)
        for place, start in enumerate(range(0, len(samples), FRAME_SAMPLES))
    ]


@dataclass
class Heard:
    """What a session said."""

    partials: list[AsrPartial] = field(default_factory=list)
    finals: list[AsrFinal] = field(default_factory=list)

    @property
    def words(self) -> list[list[int]]:
        """Of each final."""
        return [[int(word.text.removeprefix("w")) for word in final.words] for final in self.finals]


async def listen(session: AsrSession, heard: Heard | None = None) -> Heard:
    """All that a session says, also in ``heard`` as far as it got."""
    heard = heard or Heard()
    async for event in session.events():
        (heard.partials if isinstance(event, AsrPartial) else heard.finals).append(event)  # type: ignore[arg-type]
    return heard


def transcribe(
    url: str, utterances: Sequence[Sequence[int]], *, options: LinkOptions | None = None, pause: float = 0.5
) -> Heard:
    """One session on a server, from outside of any event loop."""

    async def run() -> Heard:
        stage = recognizer(url, options=options)
        try:
            return await hear(stage, utterances, pause=pause)
        finally:
            await stage.close()

    return asyncio.run(run())


async def hear(stage: Recognizer, utterances: Sequence[Sequence[int]], *, pause: float = 0.5) -> Heard:
    """One session with these utterances, sent as fast as they are answered."""
    session, heard = await stage.open(START), Heard()
    listening = asyncio.create_task(listen(session, heard))
    at, seq = 0.0, 0
    for count, words in enumerate(utterances):
        async with asyncio.timeout(60):
            while count - len(heard.finals) >= MAX_WAITING - 1 and not listening.done():
                await asyncio.sleep(0.01)
        for frame in frames(words, at=at, first_seq=seq):
            await session.send(frame)
            seq += 1
        await session.end_utterance()
        at += len(speak(words)) / SAMPLE_RATE + pause
    await session.close()
    return await asyncio.wait_for(listening, 60)


def some_words(count: int, seed: int = 0) -> list[int]:
    """No two neighbours are the same."""
    generator = np.random.default_rng(seed)
    words = [int(generator.integers(24))]
    while len(words) < count:
        word = int(generator.integers(24))
        if word != words[-1]:
            words.append(word)
    return words
