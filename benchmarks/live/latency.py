"""How soon words come, how good they are, and what they cost: one session on the whole stack, then several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil
from rich.console import Group
from rich.table import Table

from benchmarks.live.playing import Played, play
from benchmarks.recordings import SECOND_OF_SILENCE, error_rate, sources, write_flac
from benchmarks.stack import settings_of, stack, transcribe
from cli.stack.stack import Stack
from live.assembly import load_voice_detection
from live.utterances import Ended, Endpointer, Heard, UtteranceOptions
from speech.engines import SAMPLE_RATE, Samples, VoiceModel

FIRST_SOUND_SECONDS = 0.3
"""Of speech, in which nothing can be heard yet."""

AT_ONCE = (2, 4, 8)


@dataclass(frozen=True)
class Spoken:
    """A recording, its text, and from where to where its utterances are spoken, in seconds."""

    samples: Samples
    text: str
    utterances: list[tuple[float, float]]


def measure(speech: Path, minutes: float) -> Group:
    with TemporaryDirectory() as folder, stack(Path(folder) / "stack") as (started, client):
        vad = load_voice_detection(settings_of(started))
        spoken = recordings(speech, minutes, vad)
        alone = Table(title=f"one session, {sum(len(s.samples) for s in spoken) / SAMPLE_RATE:.0f} s of speech")
        for heading in ("", "figure"):
            alone.add_column(heading)
        runs, cores, busy = _play(started, [spoken])
        played = runs[0]
        firsts, finals = _latencies(played, spoken)
        alone.add_row("first partial, beyond 0.3 s of speech: p50, p95 (s)", _ends(firsts))
        alone.add_row("the same, whose first word the final has too", _ends(_right_firsts(played, spoken)))
        alone.add_row("final, after the last word: p50, p95 (s)", _ends(finals))
        alone.add_row("seconds of the engine for a second of sound", f"{busy:.2f}")
        alone.add_row("cores, the whole process", f"{cores:.2f}")
        seconds = sum(each.sound_seconds for each in played)
        changes = sum(each.revisions for each in played)
        alone.add_row("revisions a minute, of all that is shown", f"{60 * changes / seconds:.1f}")
        alone.add_row("revisions of what was stable", str(sum(_broken(each) for each in played)))
        batch, drafts, jobs = [], [], []
        for number, (each, source) in enumerate(zip(played, spoken, strict=True)):
            path = Path(folder) / f"{number}.flac"
            write_flac(path, [source.samples])
            batch.append(transcribe(started, client, path, language="en", diarize="false").text)
            drafted = transcribe(started, client, path, language="en", diarize="false", refine="never")
            drafts.append(drafted.text)
            client.jobs.wait(each.job_id)
            jobs.append(" ".join(part["text"] for part in client.jobs.transcript(each.job_id)["segments"]))
        reference = " ".join(each.text for each in spoken)
        finals_text = [each.text for each in played]
        for name, texts in (
            ("finals", finals_text),
            ("batch job of the same model (drafts)", drafts),
            ("its job", jobs),
            ("batch job", batch),
        ):
            alone.add_row(f"word error rate, {name}", f"{error_rate(reference, ' '.join(texts)):.3f}")
        several = Table(title="sessions at once")
        for heading in (
            "sessions",
            "first partial p50, p95 (s)",
            "final p50, p95 (s)",
            "left to the queue",
            "cores",
        ):
            several.add_column(heading)
        for count in AT_ONCE:
            runs, cores, _ = _play(started, [spoken[:1]] * count)
            flat = [each for run in runs for each in run]
            firsts, finals = _latencies(flat, spoken[:1] * count)
            left = sum(event["left_to_the_queue"] for each in flat for _, event in each.of("metrics"))
            several.add_row(str(count), _ends(firsts), _ends(finals), str(left), f"{cores:.2f}")
    return Group(alone, several)


def recordings(folder: Path, minutes: float, vad: VoiceModel) -> list[Spoken]:
    """Half a minute each, of several recordings with a second of silence between them."""
    found: list[Spoken] = []
    pieces: list[Samples] = []
    texts: list[str] = []
    for samples, text in cycle(sources(folder)):
        pieces += [samples, SECOND_OF_SILENCE]
        texts.append(text)
        if sum(map(len, pieces)) >= 30 * SAMPLE_RATE:
            joined = np.concatenate(pieces)
            found.append(Spoken(joined, " ".join(texts), _utterances(vad, joined)))
            pieces, texts = [], []
            if sum(len(each.samples) for each in found) >= minutes * 60 * SAMPLE_RATE:
                return found
    return found


def _utterances(vad: VoiceModel, samples: Samples) -> list[tuple[float, float]]:
    detector, options = vad.stream(), UtteranceOptions()
    endpointer = Endpointer(detector.frame_samples, options)
    found: list[tuple[float, float]] = []
    span: tuple[float, float] | None = None
    for each in [*endpointer.push(detector.push(samples).tolist()), *endpointer.flush()]:
        if isinstance(each, Heard):
            begin = span[0] if span else each.start / SAMPLE_RATE + options.prefix_seconds
            span = (begin, each.end / SAMPLE_RATE - options.hangover_seconds)
        elif isinstance(each, Ended) and span is not None:
            found.append(span)
            span = None
    return found


def _play(started: Stack, series: Sequence[Sequence[Spoken]]) -> tuple[list[list[Played]], float, float]:
    """Each series of recordings in sessions side by side; cores, and seconds of engines for a second of sound."""

    async def one(spoken: Sequence[Spoken]) -> list[Played]:
        url = started.live_url.replace("http:", "ws:")
        options = {"language": "en", "diarize": False}
        return [await play(url, each.samples, options=options) for each in spoken]

    async def all_() -> list[list[Played]]:
        return await asyncio.gather(*map(one, series))

    process = psutil.Process(started.supervisor.pids()["live"])
    before, busy, began = sum(process.cpu_times()[:2]), _busy_seconds(started), time.monotonic()
    runs = asyncio.run(all_())
    cores = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    sound = sum(each.sound_seconds for run in runs for each in run)
    return runs, cores, (_busy_seconds(started) - busy) / sound


def _busy_seconds(started: Stack) -> float:
    lines = httpx.get(f"{started.live_url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("asr_busy_seconds_total "))


def _latencies(played: Sequence[Played], spoken: Sequence[Spoken]) -> tuple[list[float], list[float]]:
    """Of first partials, and of finals."""
    firsts, finals = [], []
    for run, source in zip(played, spoken, strict=True):
        for number, (begin, end) in enumerate(source.utterances):
            partials = [at for at, event in run.of("asr_partial") if event["utterance"] == number]
            firsts += [min(partials) - begin - FIRST_SOUND_SECONDS] if partials else []
            finals += [at - end for at, event in run.of("asr_final") if event["utterance"] == number]
    return firsts, finals


def _right_firsts(played: Sequence[Played], spoken: Sequence[Spoken]) -> list[float]:
    """The first partials that begin like their final does."""
    firsts = []
    for run, source in zip(played, spoken, strict=True):
        finals = {event["utterance"]: _first_word(event["text"]) for _, event in run.of("asr_final")}
        for number, (begin, _) in enumerate(source.utterances):
            right = [
                at
                for at, event in run.of("asr_partial")
                if event["utterance"] == number and _first_word(event["text"]) == finals.get(number)
            ]
            firsts += [min(right) - begin - FIRST_SOUND_SECONDS] if right else []
    return firsts


def _first_word(text: str) -> str:
    return "".join(c for c in text.split(" ")[0].casefold() if c.isalnum())


def _ends(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{np.percentile(values, 50):.2f}, {np.percentile(values, 95):.2f}"


def _broken(played: Played) -> int:
    """Events that do not continue what was stable of their utterance."""
    stable: dict[int, str] = {}
    count = 0
    for _, event in played.events:
        if event["type"] in ("asr_partial", "asr_final"):
            count += not event["text"].startswith(stable.get(event["utterance"], ""))
            stable[event["utterance"]] = event.get("stable", "")
    return count
