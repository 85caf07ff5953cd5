"""Clients that play recordings into live sessions, and note when what came back."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from speech.engines import SAMPLE_RATE, Samples

FRAME_SAMPLES = SAMPLE_RATE // 50


@dataclass
class Played:
    """What one session told, by the seconds since its sound began."""

    sound_seconds: float
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    job_id: str = ""

    def of(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        return [(at, event) for at, event in self.events if event["type"] == kind]

    @property
    def text(self) -> str:
        return " ".join(event["text"] for _, event in self.of("asr_final"))

    @property
    def revisions(self) -> int:
        """Times that the words of an utterance, as a reader sees them, were changed and not only continued."""
        shown: dict[int, str] = {}
        count = 0
        for _, event in self.events:
            if event["type"] in ("asr_partial", "asr_final"):
                before = shown.get(event["utterance"], "")
                count += not event["text"].startswith(before)
                shown[event["utterance"]] = event["text"]
        return count


async def play(
    url: str, samples: Samples, *, options: dict[str, Any] | None = None, language: str = "en"
) -> Played:
    """Play a recording at the speed of speech, frame by frame of 20 ms, and wait for the session's end."""
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    played = Played(len(pcm) / SAMPLE_RATE)
    async with connect(
        f"{url}/ws/stream", compression=None, max_size=None, open_timeout=60, ping_interval=None
    ) as socket:
        start = {"type": "start", "hints": {"user_lang_pref": language}, "options": options or {}}
        await socket.send(json.dumps(start))
        played.job_id = json.loads(await socket.recv())["job_id"]
        began = time.monotonic()

        async def speak() -> None:
            for at in range(0, len(pcm), FRAME_SAMPLES):
                # a frame can be sent once its last sample was spoken
                await asyncio.sleep(max(0.0, began + (at + FRAME_SAMPLES) / SAMPLE_RATE - time.monotonic()))
                await socket.send(pcm[at : at + FRAME_SAMPLES].tobytes())
            await socket.send(json.dumps({"type": "end"}))

        speaking = asyncio.create_task(speak())
        async for message in socket:
            played.events.append((time.monotonic() - began, json.loads(message)))
        await speaking
    return played
