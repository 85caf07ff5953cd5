"""When the recognizer in this process decodes, and how the two directions of a connection end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from live.connection import both
from live.inprocess.pool import EnginePool
from live.inprocess.recognizer import InProcessRecognizer
from live.stages import FRAME_SAMPLES, AsrFinal, AsrPartial, AsrStart, AudioFrame
from speech.engines import SAMPLE_RATE
from tests.live.fakes import CountingEngine
from tests.waiting import LIMIT_SECONDS


def test_what_is_decoded_in_the_pause_is_the_final() -> None:
    """However far away the next partial is: once nothing more comes, all that came is decoded."""
    engine = CountingEngine()

    async def run() -> None:
        recognizer = InProcessRecognizer(engine, EnginePool(1), sessions=1, interval_seconds=LIMIT_SECONDS)
        session = await recognizer.open(AsrStart("talk", "en"))
        events = session.events()
        frames = [AudioFrame("talk", i, bytes(2 * FRAME_SAMPLES), i * FRAME_SAMPLES) for i in range(100)]
        for frame in frames[:50]:
            await session.send(frame)
        first = await anext(events)
        for frame in frames[50:]:
            await session.send(frame)
        second = await anext(events)
        for partial, seconds in ((first, 1.0), (second, 2.0)):
            assert isinstance(partial, AsrPartial)
            assert partial.end == seconds
        await session.end_utterance()
        final = await anext(events)
        assert isinstance(final, AsrFinal)
        assert len(final.words) == 4
        assert engine.calls == 2
        # the next one is heard behind it, once it may be over
        for frame in frames:
            await session.send(replace(frame, pts=frame.pts + SAMPLE_RATE * 10))
        await session.end_utterance()
        while not isinstance(final := await anext(events), AsrFinal):
            pass
        assert [word.start for word in final.words] == [10.0, 10.5, 11.0, 11.5]
        (before,) = engine.before
        assert [word.start for word in before.words] == [0.0, 0.5, 1.0, 1.5]
        assert len(before.samples) == 2 * SAMPLE_RATE
        await session.close()
        await recognizer.close()

    asyncio.run(asyncio.wait_for(run(), LIMIT_SECONDS))


@pytest.mark.parametrize("cut", ["by the caller", "by the other one"])
def test_neither_direction_of_a_connection_is_left_alone(cut: str) -> None:
    ended: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def fail() -> None:
        raise ConnectionError

    async def run() -> None:
        if cut == "by the other one":
            with pytest.raises(ConnectionError):
                await both(wait("receiving"), fail())
            assert ended == ["receiving"]
            return
        task = asyncio.create_task(both(wait("receiving"), wait("sending")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(ended) == ["receiving", "sending"]

    asyncio.run(asyncio.wait_for(run(), LIMIT_SECONDS))
