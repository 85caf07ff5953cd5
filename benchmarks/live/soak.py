"""``python -m benchmarks.live.soak [--minutes N]``: live sessions whose gateway is killed every other minute.

No sound may be lost or doubled, no final repeated, and memory stays flat.
"""

from __future__ import annotations

import argparse
import asyncio
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

from benchmarks.recordings import SPEECH_FOLDER, sources
from benchmarks.stack import stack
from cli.stack.stack import Stack
from longhand import Client
from speech.engines import SAMPLE_RATE

SIDE_BY_SIDE = 2
SESSION_SECONDS = 50
KILL_SECONDS = 120.0
FRAME_SAMPLES = SAMPLE_RATE // 10
MAX_GROWTH = 1.2
"""Of the memory of a gateway from its first minute on, while it is not killed."""


class Speaker:
    """A client that keeps its sound until it is stored, and goes on after every loss of its connection."""

    def __init__(self, url: Callable[[], str], pcm: np.ndarray) -> None:
        self._url, self._pcm = url, pcm
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
    minutes = parser.parse_args().minutes
    samples = np.concatenate([each for each, _ in sources(SPEECH_FOLDER)])
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")[: SESSION_SECONDS * SAMPLE_RATE]
    with TemporaryDirectory() as folder, stack(Path(folder) / "stack") as (started, client):
        speakers, growth = asyncio.run(_soak(started, pcm, minutes))
        for speaker in speakers:
            _check(client, speaker, len(pcm) / SAMPLE_RATE)
    resumed = sum(speaker.connections - 1 for speaker in speakers)
    if growth > MAX_GROWTH:
        raise SystemExit(f"a gateway grew to {growth:.2f} of what it had after a minute")
    print(f"{len(speakers)} sessions, {resumed} taken up after a loss: nothing lost; memory grew to {growth:.2f}")


async def _soak(started: Stack, pcm: np.ndarray, minutes: float) -> tuple[list[Speaker], float]:
    until = time.monotonic() + 60 * minutes
    speakers: list[Speaker] = []

    async def lane() -> None:
        while time.monotonic() < until:
            speakers.append(Speaker(lambda: started.live_url.replace("http:", "ws:") + "/ws/stream", pcm))
            await speakers[-1].run()

    growth = [1.0]
    watching = asyncio.create_task(_disturb(started, growth))
    supervising = asyncio.get_running_loop().run_in_executor(None, started.supervisor.watch)
    await asyncio.gather(*(lane() for _ in range(SIDE_BY_SIDE)))
    watching.cancel()
    started.supervisor.finish()
    await supervising
    return speakers, max(growth)


async def _disturb(started: Stack, growth: list[float]) -> None:
    """Kill the gateway, again and again; note how much it has grown until then."""
    while True:
        await asyncio.sleep(KILL_SECONDS / 2)
        pid = started.supervisor.pids()["live"]
        before = psutil.Process(pid).memory_info().rss
        await asyncio.sleep(KILL_SECONDS / 2)
        growth.append(psutil.Process(pid).memory_info().rss / before)
        os.kill(pid, signal.SIGKILL)


def _check(client: Client, speaker: Speaker, seconds: float) -> None:
    job = client.jobs.wait(speaker.job_id)
    if job["status"] != "completed" or abs((job["audio"]["duration"] or 0) - seconds) > 0.1:
        raise SystemExit(f"job {speaker.job_id}: {job['status']}, {job['audio']['duration']} of {seconds} s")
    if speaker.seqs != list(range(1, len(speaker.seqs) + 1)):
        raise SystemExit(f"job {speaker.job_id}: finals {speaker.seqs}")


if __name__ == "__main__":
    main()
