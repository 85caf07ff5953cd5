"""``python -m benchmarks.live.rivals --python PATH``: beside another server of live transcription.

PATH is the Python of an environment of its own with ``whisperlivekit``. Both hear the same recordings at the speed
of speech, one session at a time, with the same model: whisper-tiny.en in CTranslate2, English told.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

from benchmarks.live.latency import Spoken, recordings
from benchmarks.live.playing import FRAME_SAMPLES, play
from benchmarks.live.shown import Shown
from benchmarks.recordings import SPEECH_FOLDER, error_rate, write_flac
from benchmarks.stack import settings_of, stack
from cli.stack.process import HOST, free_port
from live.assembly import load_voice_detection
from longhand import Client
from speech.engines import SAMPLE_RATE, Samples
from speech.models.catalogue import Catalogue
from speech.text.words import Word

START_SECONDS = 180.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--speech", type=Path, default=SPEECH_FOLDER)
    given = parser.parse_args()
    table = Table(title="live transcription by tiny.en, one session")
    for heading in (
        "system",
        "word shown for good: p50, p95 (s)",
        "first word: p50, p95 (s)",
        "word error rate",
        "revisions a minute",
        "cores",
    ):
        table.add_column(heading)
    with TemporaryDirectory() as folder:
        with stack(Path(folder) / "stack") as (started, client):
            model = Catalogue(settings_of(started).models_path).locate("whisper-tiny.en")
            spoken = recordings(given.speech, given.minutes, load_voice_detection(settings_of(started)))
            words = [_words(client, Path(folder) / f"{i}.flac", each) for i, each in enumerate(spoken)]
            process = psutil.Process(started.supervisor.pids()["live"])
            url = started.live_url.replace("http:", "ws:")
            table.add_row("Longhand", *_row([_ours(url, each, process) for each in spoken], spoken, words))
        with _whisperlivekit(given.python, model) as (url, process):
            shown = [_theirs(url, each, process) for each in spoken]
        table.add_row("WhisperLiveKit, LocalAgreement", *_row(shown, spoken, words))
    Console(width=140).print(table)


def _words(client: Client, path: Path, spoken: Spoken) -> list[Word]:
    """What is said, with its times, as a batch job has them."""
    write_flac(path, [spoken.samples])
    job = client.jobs.submit(path, {"language": "en", "diarize": False})
    client.jobs.wait(job["id"])
    segments = client.jobs.transcript(job["id"])["segments"]
    return [
        Word(word["text"], word["start"], word["end"], 1.0) for segment in segments for word in segment["words"]
    ]


def _row(shown: Sequence[Shown], spoken: Sequence[Spoken], words: Sequence[Sequence[Word]]) -> list[str]:
    delays = [delay for each, said in zip(shown, words, strict=True) for delay in each.delays(said)]
    firsts = [each.states[0][0] - said[0].end for each, said in zip(shown, words, strict=True) if each.states]
    seconds = sum(len(each.samples) for each in spoken) / SAMPLE_RATE
    reference, heard = " ".join(each.text for each in spoken), " ".join(each.text for each in shown)
    return [
        f"{np.percentile(delays, 50):.2f}, {np.percentile(delays, 95):.2f}",
        f"{np.percentile(firsts, 50):.2f}, {np.percentile(firsts, 95):.2f}",
        f"{error_rate(reference, heard):.3f}",
        f"{60 * sum(each.revisions for each in shown) / seconds:.1f}",
        f"{sum(each.processor_seconds for each in shown) / seconds:.2f}",
    ]


def _used(process: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def _ours(url: str, spoken: Spoken, process: psutil.Process) -> Shown:
    before = _used(process)
    played = asyncio.run(play(url, spoken.samples, options={"language": "en", "diarize": False}))
    shown = Shown(processor_seconds=_used(process) - before)
    finals: list[str] = []
    for at, event in played.events:
        if event["type"] == "asr_partial":
            shown.add(at, " ".join([*finals, event["text"]]))
        elif event["type"] == "asr_final":
            finals.append(event["text"])
            shown.add(at, " ".join(finals))
    return shown


def _theirs(url: str, spoken: Spoken, process: psutil.Process) -> Shown:
    before = _used(process)
    shown = asyncio.run(_play(url, spoken.samples))
    shown.processor_seconds = _used(process) - before
    return shown


async def _play(url: str, samples: Samples) -> Shown:
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    shown = Shown()
    async with connect(f"{url}/asr", compression=None, max_size=None, ping_interval=None) as socket:
        began = time.monotonic()

        async def speak() -> None:
            for at in range(0, len(pcm), FRAME_SAMPLES):
                await asyncio.sleep(max(0.0, began + (at + FRAME_SAMPLES) / SAMPLE_RATE - time.monotonic()))
                await socket.send(pcm[at : at + FRAME_SAMPLES].tobytes())
            await socket.send(b"")  # the end

        speaking = asyncio.create_task(speak())
        async for message in socket:
            event = json.loads(message)
            if event.get("type") == "ready_to_stop":
                break
            if "lines" in event:
                texts = [line.get("text") or "" for line in event["lines"]]
                texts.append(event.get("buffer_transcription") or "")
                shown.add(time.monotonic() - began, " ".join(filter(None, texts)))
        await speaking
    return shown


@contextlib.contextmanager
def _whisperlivekit(python: Path, model: Path) -> Iterator[tuple[str, psutil.Process]]:
    """With the policy of whisper_streaming; its other one wants weights for PyTorch."""
    port = free_port()
    command = [
        *(str(python), "-m", "whisperlivekit.basic_server", "--host", HOST, "--port", str(port)),
        *("--model_dir", str(model), "--lan", "en", "--backend", "faster-whisper"),
        *("--backend-policy", "localagreement", "--pcm-input", "--warmup-file", "", "-l", "WARNING"),
    ]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://{HOST}:{port}/")
                break
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError("WhisperLiveKit does not start")
            time.sleep(0.2)
        yield f"ws://{HOST}:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
