"""``python -m benchmarks.live.soak [--minutes N] [--kill-every S] [--pause S]``: sessions whose gateway is killed.

One session lasts as long as the soak, others of a minute follow each other beside it. No sound may be lost or
doubled, no final repeated or left out, and memory stays flat.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks.recordings import SPEECH_FOLDER, error_rate, sources, text_of, write_flac
from benchmarks.stack import stack, transcribe
from cli.stack.stack import Stack
from longhand import Client
from speech.engines import SAMPLE_RATE

SESSION_SECONDS = 50
WATCH_SECONDS, SETTLED_SECONDS = 10.0, 60.0
"""Between two looks at a gateway's memory, which counts from a minute after it began."""
FRAME_SAMPLES = SAMPLE_RATE // 10
MAX_GROWTH = 1.2
"""Of the memory of a gateway, while it is not killed."""


class Speaker:
    """A client that keeps its sound until it is stored, and goes on after every loss of its connection."""

    def __init__(self, url: Callable[[], str], pcm: np.ndarray) -> None:
        self._url, self._pcm = url, pcm
        self.seconds = len(pcm) / SAMPLE_RATE
        self._flow_id = uuid.uuid4().hex
        self._began = time.monotonic()
        self._ended = False
        self.seqs: list[int] = []
        self.connections = 0
        self.job_id = ""

    async def run(self) -> None:
        while not self._ended:
            try:
                async with connect(self._url(), compression=None, max_size=None, open_timeout=60) as socket:
                    await self._speak(socket)
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(0.5)

    async def _speak(self, socket: ClientConnection) -> None:
        start: dict[str, object] = {"type": "start", "flowId": self._flow_id, "hints": {"user_lang_pref": "en"}}
        start["options"] = {"diarize": False}
        if self.connections:
            start["after"] = self.seqs[-1] if self.seqs else 0
        await socket.send(json.dumps(start))
        ack = json.loads(await socket.recv())
        if ack["type"] != "ack":
            raise RuntimeError(f"flow {self._flow_id}: {ack}")
        self.connections += 1
        self.job_id = ack["job_id"]
        sending = asyncio.create_task(self._send(socket, ack["received"] * SAMPLE_RATE // 1000))
        try:
            async for message in socket:
                event = json.loads(message)
                if event["type"] == "asr_final":
                    self.seqs.append(event["seq"])
                self._ended = self._ended or event["type"] == "end"
        finally:
            sending.cancel()

    async def _send(self, socket: ClientConnection, at: int) -> None:
        while at < len(self._pcm):
            await asyncio.sleep(max(0.0, self._began + at / SAMPLE_RATE - time.monotonic()))
            await socket.send(self._pcm[at : at + FRAME_SAMPLES].tobytes())
            at += FRAME_SAMPLES
        await socket.send(json.dumps({"type": "end"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kill-every", type=float, default=120, help="seconds; 0 kills nothing")
    parser.add_argument("--pause", type=float, default=0, help="seconds between two of the short sessions")
    given = parser.parse_args()
    samples = np.concatenate([each for each, _ in sources(SPEECH_FOLDER)])[: SESSION_SECONDS * SAMPLE_RATE]
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    with TemporaryDirectory() as folder, stack(Path(folder) / "stack") as (started, client):
        path = Path(folder) / "batch.flac"
        write_flac(path, [samples])
        batch = transcribe(started, client, path, language="en", diarize="false").text
        memory = Memory(started, given.kill_every)
        (long, *short) = asyncio.run(_soak(started, memory, pcm, given.minutes, given.pause))
        _check(client, long)
        wrong = [error_rate(batch, _check(client, each)) for each in short]
    resumed = sum(speaker.connections - 1 for speaker in (long, *short))
    minutes = f"{long.seconds / 60:.0f} min"
    print(f"{len(short)} sessions of {SESSION_SECONDS} s, one of {minutes} with {len(long.seqs)} finals")
    print(f"{resumed} taken up after a loss: no sound lost or doubled, no final repeated or left out")
    print(f"words of their jobs that differ from a batch job's: {np.mean(wrong):.3f}, at most {max(wrong):.3f}")
    print(f"memory of the gateway (MB, every {WATCH_SECONDS:.0f} s): {' '.join(map(str, memory.seen))}")
    print(f"it grew to {memory.growth:.2f} of what it had after a minute")
    if memory.growth > MAX_GROWTH:
        raise SystemExit("the gateway grew")


async def _soak(started: Stack, memory: Memory, pcm: np.ndarray, minutes: float, pause: float) -> list[Speaker]:
    """The long session first."""
    until = time.monotonic() + 60 * minutes

    def speaker(sound: np.ndarray) -> Speaker:
        return Speaker(lambda: started.live_url.replace("http:", "ws:") + "/ws/stream", sound)

    speakers = [speaker(np.resize(pcm, int(60 * minutes * SAMPLE_RATE)))]

    async def others() -> None:
        while time.monotonic() < until:
            speakers.append(speaker(pcm))
            await speakers[-1].run()
            await asyncio.sleep(pause)

    watching = asyncio.create_task(memory.watch())
    supervising = asyncio.get_running_loop().run_in_executor(None, started.supervisor.watch)
    await asyncio.gather(speakers[0].run(), others())
    watching.cancel()
    started.supervisor.finish()
    await supervising
    return speakers


class Memory:
    """Of the gateway, which is killed again and again."""

    def __init__(self, started: Stack, kill_every: float) -> None:
        """``kill_every``: seconds, or 0."""
        self._started, self._kill_every = started, kill_every
        self.seen: list[int] = []
        """In MB."""
        self.growth = 1.0

    async def watch(self) -> None:
        pid, since, settled = 0, 0.0, 0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with contextlib.suppress(psutil.NoSuchProcess, KeyError):
                if (running := self._started.supervisor.pids()["live"]) != pid:
                    pid, since, settled = running, time.monotonic(), 0
                used = psutil.Process(pid).memory_info().rss
                self.seen.append(used // 1_000_000)
                age = time.monotonic() - since
                if age >= SETTLED_SECONDS:
                    settled = settled or used
                    self.growth = max(self.growth, used / settled)
                if self._kill_every and age >= self._kill_every:
                    os.kill(pid, signal.SIGKILL)


def _check(client: Client, speaker: Speaker) -> str:
    """The transcript of a session's job."""
    job = client.jobs.wait(speaker.job_id)
    if job["status"] != "completed" or abs((job["audio"]["duration"] or 0) - speaker.seconds) > 0.1:
        raise SystemExit(
            f"job {speaker.job_id}: {job['status']}, {job['audio']['duration']} of {speaker.seconds} s"
        )
    if speaker.seqs != list(range(1, len(speaker.seqs) + 1)):
        raise SystemExit(f"job {speaker.job_id}: finals {speaker.seqs}")
    return text_of(client.jobs.transcript(speaker.job_id)["segments"])


if __name__ == "__main__":
    main()
