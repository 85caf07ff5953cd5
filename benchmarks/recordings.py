"""Long recordings, concatenated from short ones with reference texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import jiwer
import numpy as np

from speech.audio.media import open_media
from speech.engines import SAMPLE_RATE, Samples

SPEECH_FOLDER = Path(__file__).parent.parent / "tests" / "data"
SECOND_OF_SILENCE = np.zeros(SAMPLE_RATE, np.float32)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Recording:
    path: Path
    duration: float
    text: str


def sources(folder: Path) -> list[tuple[Samples, str]]:
    """Samples and text of the English recordings in ``manifest.jsonl``, without the joined one."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    english = [r for r in rows if r["text"] and r["language"] == "en" and r["path"] != "demo.flac"]
    return [(load(folder / row["path"]), row["text"]) for row in english]


def load(path: Path) -> Samples:
    with path.open("rb") as file, open_media(file, max_duration=1e6) as media:
        return np.concatenate(list(media.blocks(seconds=10)))


def build(target: Path, minutes: float, folder: Path = SPEECH_FOLDER, rest: float = 0) -> Recording:
    """A FLAC of at least this length: the folder's recordings in a loop, with a second of silence between them.

    ``rest`` minutes of silence follow every ten minutes of speech.
    """
    texts: list[str] = []
    written = 0

    def pieces() -> Iterator[Samples]:
        nonlocal written
        spoken = 0
        for samples, text in cycle(sources(folder)):
            if written >= minutes * 60 * SAMPLE_RATE:
                return
            texts.append(text)
            written += len(samples) + len(SECOND_OF_SILENCE)
            spoken += len(samples) + len(SECOND_OF_SILENCE)
            yield samples
            yield SECOND_OF_SILENCE
            if rest and spoken >= 600 * SAMPLE_RATE:
                spoken = 0
                for _ in range(int(rest * 60)):
                    written += len(SECOND_OF_SILENCE)
                    yield SECOND_OF_SILENCE

    write_flac(target, pieces())
    return Recording(target, written / SAMPLE_RATE, " ".join(texts))


def write_flac(target: Path, pieces: Iterable[Samples]) -> None:
    """Write a mono recording, piece by piece."""
    with av.open(str(target), "w", format="flac") as container:
        stream: Any = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        stream.codec_context.format = "s16"
        fifo = av.AudioFifo()
        for piece in pieces:
            pcm = np.clip(np.rint(piece * 32768), -32768, 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            fifo.write(frame)
            for block in fifo.read_many(4096):
                container.mux(stream.encode(block))
        for block in fifo.read_many(4096, partial=True):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))


def text_of(segments: Iterable[Mapping[str, Any]]) -> str:
    """Of a transcript or a reference: that of its segments, in their order."""
    return " ".join(segment["text"] for segment in segments)


def normalise_words(text: str) -> str:
    """Words without case or punctuation, with digits spelled out; applied to all systems alike."""
    text = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.lower().replace("’", "'"))
    text = text.replace("mr.", "mister").replace("-", " ")
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split())


def error_rate(reference: str, hypothesis: str) -> float:
    return float(jiwer.wer(normalise_words(reference), normalise_words(hypothesis)))
