"""``longhand serve`` with real engines."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.stack.process import HOST, free_port
from live.stages import FRAME_SAMPLES, AudioFrame
from live.wire.messages import from_samples
from speech.engines import Samples
from tests.conftest import MODELS
from tests.live.stages.clients import START, Heard, listen, recognizer
from tests.live.stages.servers import StageServer, running
from tests.media import load


class ServedAsr(StageServer):
    """As a person starts it."""

    start_seconds = 240.0

    def command(self) -> Sequence[str]:
        code = "from cli.main import app; app()"
        return [sys.executable, "-c", code, "serve", "asr", "--host", HOST, "--port", str(self.port)]

    def environment(self) -> Mapping[str, str]:
        settings = {"LONGHAND_MODELS_DIR": str(MODELS), "LONGHAND_DRAFT_ENGINE": "whisper"}
        return {**super().environment(), **settings}


async def recognise(url: str, samples: Samples) -> Heard:
    session = await recognizer(url).open(START)
    listening = asyncio.create_task(listen(session))
    for seq, start in enumerate(range(0, len(samples), FRAME_SAMPLES)):
        pcm = from_samples(samples[start : start + FRAME_SAMPLES])
        await session.send(AudioFrame("flow", seq, pcm, start))
    await session.close()
    return await listening


def test_real_speech_is_recognised_over_opus(tmp_path: Path) -> None:
    with running(ServedAsr(tmp_path, port=free_port())) as server:
        heard = asyncio.run(recognise(server.url, load("jfk.flac")))
        (final,) = heard.finals
        text = " ".join(word.text for word in final.words).lower()
        assert "ask not what your country can do for you" in text
        server.ask_to_stop()
        server.wait_stopped(30)
        assert server.exit_code == 0
