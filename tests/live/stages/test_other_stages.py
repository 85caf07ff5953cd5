"""Voice detection, noise suppression and languages over gRPC, on a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from live.inprocess.detection import InProcessVad
from live.remote.denoise import RemoteDenoising
from live.remote.language import RemoteLanguage
from live.remote.vad import RemoteVad
from live.stages import DenoiseSession, Language, StageBusy, StageDead, VadSession
from live.wire.channels import Identity, Peer
from live.wire.common.v1 import audio_pb2 as common
from live.wire.lid.v1 import identify_pb2 as lid
from live.wire.lid.v1.identify_pb2_grpc import IdentifyStub
from speech.audio.denoise import GtcrnModel
from speech.audio.vad.silero import SileroModel
from speech.engines import Samples
from speech.models.catalogue import Catalogue
from tests.conftest import MODELS
from tests.live.stages.servers import StageServer, running
from tests.live.stages.tones import speak
from tests.media import load

PIECE = 480
"""Samples; no multiple of what any of the stages works with."""


@pytest.fixture(scope="module")
def speech() -> Samples:
    return load("jfk.flac")[: 5 * 16_000 + 77]


@pytest.fixture(scope="module")
def vad() -> InProcessVad:
    return InProcessVad(SileroModel(Catalogue(MODELS).locate("silero-vad") / "silero_vad.onnx"))


def pieces(samples: Samples) -> list[Samples]:
    return np.split(samples, range(PIECE, len(samples), PIECE))


async def detect(session: VadSession, audio: list[Samples]) -> list[float]:
    return [probability for piece in audio for probability in await session.push(piece)]


async def clean(session: DenoiseSession, audio: list[Samples]) -> Samples:
    cleaned = [await session.push(piece) for piece in audio]
    return np.concatenate([*cleaned, await session.flush()])


def test_voices_are_detected_as_in_this_process(
    stage_server: StageServer, vad: InProcessVad, speech: Samples
) -> None:
    async def run() -> None:
        remote = RemoteVad(Peer(stage_server.url, Identity()), vad, seconds=10)
        session = await remote.open("flow")
        assert session.frame_samples == 512
        assert not isinstance(session, type(await vad.open("flow")))
        found = await detect(session, pieces(speech))
        await session.close()
        assert found == pytest.approx(await detect(await vad.open("flow"), pieces(speech)), abs=1e-6)
        assert max(found) > 0.8
        long = np.tile(speech, 8)
        assert len(await detect(await remote.open("flow"), [long])) == len(long) // 512

    asyncio.run(run())


def test_this_process_detects_voices_where_the_server_dies(
    tmp_path: Path, vad: InProcessVad, speech: Samples
) -> None:
    async def run(server: StageServer) -> None:
        remote = RemoteVad(Peer(server.url, Identity()), vad, seconds=10)
        session = await remote.open("flow")
        audio = pieces(speech)
        found = await detect(session, audio[:50])
        server.kill()
        found += await detect(session, audio[50:])
        assert len(found) == len(speech) // session.frame_samples
        # the other network heard nothing of the beginning, and says much the same soon after
        alone = await detect(await vad.open("flow"), audio)
        assert np.mean(np.abs(np.subtract(found[80:], alone[80:]))) < 0.1
        another = await remote.open("flow")
        assert len(await detect(another, audio)) == len(found)

    with running(StageServer(tmp_path)) as server:
        asyncio.run(run(server))


def test_noise_is_suppressed_in_place(stage_server: StageServer, speech: Samples) -> None:
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    noisy = (speech + noise * np.sqrt(np.mean(speech**2) / 10)).astype(np.float32)

    async def run() -> Samples:
        remote = RemoteDenoising(Peer(stage_server.url, Identity()), seconds=10)
        return await clean(await remote.open("flow"), pieces(noisy))

    def noise_ratio(samples: Samples) -> float:
        return float(np.sum((samples - speech) ** 2) / np.sum(speech**2))

    cleaned = asyncio.run(run())
    assert len(cleaned) == len(speech)
    assert noise_ratio(cleaned) < 0.4 * noise_ratio(noisy)
    stream = GtcrnModel(Catalogue(MODELS).locate("gtcrn") / "gtcrn_simple.onnx").stream()
    here = np.concatenate([stream.push(noisy), stream.flush()])
    assert cleaned == pytest.approx(here, abs=1e-4)


def test_audio_goes_on_as_it_came_where_noise_suppression_dies(tmp_path: Path, speech: Samples) -> None:
    async def run(server: StageServer) -> None:
        remote = RemoteDenoising(Peer(server.url, Identity()), seconds=10)
        session = await remote.open("flow")
        audio = pieces(speech)
        cleaned = [await session.push(piece) for piece in audio[:50]]
        server.kill()
        cleaned += [await session.push(piece) for piece in audio[50:]]
        result = np.concatenate([*cleaned, await session.flush()])
        assert len(result) == len(speech)
        assert np.array_equal(result[51 * PIECE :], speech[51 * PIECE :])
        assert np.array_equal(await clean(await remote.open("flow"), audio), speech)

    with running(StageServer(tmp_path)) as server:
        asyncio.run(run(server))


def test_a_language_is_identified(stage_server: StageServer) -> None:
    async def run() -> None:
        remote = RemoteLanguage(Peer(stage_server.url, Identity()), seconds=10)
        assert await remote.identify("flow", speak([0, 3, 4])) == Language("zh")
        assert await remote.identify("flow", speak([3, 4])) == Language("en")

    asyncio.run(run())


def test_a_dead_or_busy_server_of_languages_says_so(tmp_path: Path) -> None:
    async def run(server: StageServer) -> None:
        remote = RemoteLanguage(Peer(server.url, Identity()), seconds=10)
        with pytest.raises(StageBusy):
            await remote.identify("flow", speak([1]))
        server.kill()
        with pytest.raises(StageDead):
            await remote.identify("flow", speak([1]))

    with running(StageServer(tmp_path, "--sessions", "0")) as server:
        asyncio.run(run(server))


@pytest.mark.parametrize(
    "audio",
    [
        common.AudioFrame(sr=8000, channels=1, ns=1, pcm=b"ab"),
        common.AudioFrame(sr=16000, channels=2, ns=1, pcm=b"abcd"),
        common.AudioFrame(sr=16000, channels=1, ns=4, pcm=b"abc"),
        common.AudioFrame(sr=16000, channels=1, ns=4_000_000, pcm=b"abc"),
    ],
)
def test_what_is_no_audio_is_refused(stage_server: StageServer, audio: common.AudioFrame) -> None:
    async def run() -> None:
        peer = Peer(stage_server.url, Identity())
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            await IdentifyStub(peer.channel).Language(lid.LanguageRequest(audio=audio), timeout=10)

    asyncio.run(run())
