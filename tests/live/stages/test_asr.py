"""The ASR stage over gRPC, on a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from cli.stack.process import HOST
from live import metrics
from live.remote.asr import LinkOptions
from live.stages import AsrStart, StageBusy, StageDead
from live.wire.messages import from_samples
from live.wire.opus import OpusEncoder, Pcm
from tests.live.stages.clients import START, Heard, frames, hear, listen, recognizer, some_words, transcribe
from tests.live.stages.protos import ROOT
from tests.live.stages.servers import HostileNetwork, StageServer, Wiretap, running
from tests.live.stages.tones import WORD_SECONDS, speak

UTTERANCES = [some_words(20, seed=1), some_words(3, seed=2), some_words(12, seed=3)]


@pytest.mark.parametrize("options", [LinkOptions(), LinkOptions(make_encoder=None)], ids=["opus", "pcm"])
def test_words_arrive_with_their_times(stage_server: StageServer, options: LinkOptions) -> None:
    heard = transcribe(stage_server.url, UTTERANCES, options=options, pause=0.7)
    assert heard.words == UTTERANCES
    assert [final.utterance for final in heard.finals] == [0, 1, 2]
    at = 0.0
    for final, words in zip(heard.finals, UTTERANCES, strict=True):
        assert final.start == pytest.approx(at)
        assert final.end == pytest.approx(at + WORD_SECONDS * len(words))
        assert [word.start for word in final.words] == pytest.approx(
            [at + WORD_SECONDS * place for place in range(len(words))]
        )
        at = final.end + 0.7


def test_partials_come_while_somebody_speaks(stage_server: StageServer) -> None:
    async def run() -> None:
        session = await recognizer(stage_server.url).open(START)
        words = some_words(60)
        for frame in frames(words):
            await session.send(frame)
            await asyncio.sleep(0.005)
        await session.end_utterance()
        await session.close()
        heard = await listen(session)
        assert heard.words == [words]
        assert len(heard.partials) > 2
        texts = [[word.text for word in partial.stable] for partial in heard.partials]
        assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(texts))
        assert texts[-1]

    asyncio.run(run())


def test_only_opus_is_on_the_wire(stage_server: StageServer) -> None:
    samples = speak(UTTERANCES[0])
    pcm = from_samples(samples)
    marks = [pcm[place : place + 64] for place in range(640, len(pcm) - 64, 640)]

    def sent(options: LinkOptions) -> bytes:
        tap = Wiretap(stage_server.port)
        heard = transcribe(f"grpc://{HOST}:{tap.port}", UTTERANCES[:1], options=options)
        tap.close()
        assert heard.words == UTTERANCES[:1]
        return bytes(tap.heard)

    opus = sent(LinkOptions())
    assert not any(mark in opus for mark in marks)
    seconds = len(UTTERANCES[0]) * WORD_SECONDS
    assert len(opus) < 8_000 * seconds, "with gRPC's own overhead; PCM has 32,000 bytes a second"
    plain = sent(LinkOptions(make_encoder=None))
    assert all(mark in plain for mark in marks)


class _FailingEncoder(OpusEncoder):
    packets = 0

    def encode(self, pcm: Pcm) -> bytes:
        self.packets += 1
        if self.packets > 30:
            raise ValueError("made to fail")
        return super().encode(pcm)


def test_a_failing_encoder_gives_way_to_pcm_within_an_utterance(stage_server: StageServer) -> None:
    before = metrics.pcm_to_opus_fail._value.get()
    tap = Wiretap(stage_server.port)
    heard = transcribe(f"grpc://{HOST}:{tap.port}", UTTERANCES, options=LinkOptions(make_encoder=_FailingEncoder))
    tap.close()
    assert heard.words == UTTERANCES
    assert metrics.pcm_to_opus_fail._value.get() == before + 1
    pcm = from_samples(speak(UTTERANCES[0]))
    assert pcm[20 * 640 : 20 * 640 + 64] not in tap.heard
    assert pcm[100 * 640 : 100 * 640 + 64] in tap.heard


@pytest.mark.parametrize("options", [LinkOptions(), LinkOptions(make_encoder=None)], ids=["opus", "pcm"])
def test_loss_and_reordering_lose_no_word_and_move_none(stage_server: StageServer, options: LinkOptions) -> None:
    utterances = [some_words(40, seed=seed) for seed in range(6)]

    async def run() -> None:
        network = HostileNetwork(stage_server.url, loss=0.01, swaps=0.05)
        async with network.listening() as url:
            heard = await hear(recognizer(url, options=options), utterances)
        assert network.lost > 10
        assert network.swapped > 50
        assert heard.words == utterances
        at = 0.0
        for final, words in zip(heard.finals, utterances, strict=True):
            assert final.start == pytest.approx(at)
            assert final.end == pytest.approx(at + WORD_SECONDS * len(words))
            at = final.end + 0.5

    asyncio.run(run())


def test_a_full_server_says_so_and_has_room_again(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        stage = recognizer(url)
        first = await stage.open(START)
        with pytest.raises(StageBusy):
            await stage.open(START)
        await first.close()
        await listen(first)
        left = await stage.open(START)
        await left.abort()
        async with asyncio.timeout(10):
            while True:
                try:
                    heard = await hear(stage, UTTERANCES)
                    break
                except StageBusy:  # until the server has seen that nobody is there any more
                    await asyncio.sleep(0.02)
        assert heard.words == UTTERANCES

    with running(StageServer(tmp_path, "--sessions", "1")) as server:
        asyncio.run(run(server.url))


def test_a_server_that_is_killed_is_noticed_at_once_and_then_left_alone(tmp_path: Path) -> None:
    async def run(server: StageServer) -> None:
        stage = recognizer(server.url)
        session = await stage.open(START)
        for frame in frames(UTTERANCES[0]):
            await session.send(frame)
        server.kill()
        with pytest.raises(StageDead):
            await asyncio.wait_for(listen(session), 5)
        for _ in range(2):
            with pytest.raises(StageDead):
                await stage.open(START)
        began = time.monotonic()
        with pytest.raises(StageBusy, match="left alone"):
            await stage.open(START)
        assert time.monotonic() - began < 0.05
        with running(StageServer(tmp_path, port=server.port)):
            deadline = time.monotonic() + 60
            while True:
                try:
                    heard = await hear(stage, UTTERANCES)
                    break
                except (StageBusy, StageDead):
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.1)
            assert heard.words == UTTERANCES

    with running(StageServer(tmp_path)) as server:
        asyncio.run(run(server))


def test_a_final_that_does_not_come_in_time_ends_the_session(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        stage = recognizer(url, options=LinkOptions(final_seconds=0.5))
        with pytest.raises(StageDead):
            await hear(stage, UTTERANCES)

    with running(StageServer(tmp_path, "--engine-seconds", "3")) as server:
        asyncio.run(run(server.url))


def test_sessions_go_to_the_route_and_the_least_busy(tmp_path: Path, stage_server: StageServer) -> None:
    """A domain of a language comes before the language, and that before the rest; with room first."""

    async def run(special: StageServer) -> None:
        stage = recognizer(stage_server.url, routes={"de/law": [special.url]})
        german = AsrStart("flow", language="de", domain="law")
        first = await stage.open(german)
        second = await stage.open(german)
        other = await stage.open(START)
        servers = {server.url: server.sessions for server in stage._pool._servers.values()}
        assert servers == {special.url: 1, stage_server.url: 2}
        for session in (first, second, other):
            await session.abort()
        servers = {server.url: server.sessions for server in stage._pool._servers.values()}
        assert set(servers.values()) == {0}

    with running(StageServer(tmp_path, "--sessions", "1")) as special:
        asyncio.run(run(special))


def test_a_server_says_that_it_is_well(stage_server: StageServer) -> None:
    assert stage_server.health() == health_pb2.HealthCheckResponse.SERVING


def test_a_server_told_to_stop_finishes_the_utterance_and_takes_nobody(tmp_path: Path) -> None:
    async def run(server: StageServer) -> None:
        stage = recognizer(server.url)
        session = await stage.open(START)
        for frame in frames(UTTERANCES[0]):
            await session.send(frame)
        server.ask_to_stop()
        while True:
            try:
                other = await stage.open(START)
            except StageDead:
                break
            await other.abort()
            await asyncio.sleep(0.02)
        await session.end_utterance()
        heard = Heard()
        with pytest.raises(StageDead, match="about to stop"):
            await listen(session, heard)
        assert heard.words == UTTERANCES[:1]

    with running(StageServer(tmp_path)) as server:
        asyncio.run(run(server))
        server.wait_stopped(10)
        assert server.exit_code == 0


def test_other_programs_can_be_started_while_streams_are_open(stage_server: StageServer) -> None:
    """gRPC's own handlers of forks abort some of them."""
    script = (
        "import asyncio, subprocess, sys\n"
        "from tests.live.stages.clients import START, recognizer\n"
        "async def main():\n"
        "    session = await recognizer(sys.argv[1]).open(START)\n"
        "    for _ in range(40):\n"
        "        subprocess.run(['true'], preexec_fn=lambda: None, check=True)\n"
        "        await asyncio.sleep(0)\n"
        "    await session.abort()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, stage_server.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
