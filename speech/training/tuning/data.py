"""The clips of an export, read as FunASR reads them, and which of them CTC can learn from; and general speech."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from speech.asr.sensevoice.tokens import TAG_PATTERN
from speech.engines import SAMPLE_RATE, Samples
from speech.training.tuning.request import TuningError, TuningErrorCode

log = logging.getLogger(__name__)

FRAME_SHIFT_SAMPLES = SAMPLE_RATE // 100
FRAME_LENGTH_SAMPLES = SAMPLE_RATE // 1000 * 25
"""Of the filter banks."""
MAX_GENERAL_SECONDS = 30
MAX_TOKENS = 200
"""FunASR silently replaces a clip with a longer text by another clip."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The tags are tokens of the vocabulary, such as ``<|en|>``."""

    key: str
    source: Path
    text: str
    language: str
    emotion: str
    event: str
    itn: str
    human: bool = True
    """Whether a person has corrected or confirmed the text."""

    @property
    def tags(self) -> tuple[str, str, str, str]:
        """In the order of the network's queries."""
        return self.language, self.emotion, self.event, self.itn

    @property
    def language_code(self) -> str | None:
        """``en`` for ``<|en|>``."""
        match = TAG_PATTERN.fullmatch(self.language)
        return match[1] if match else None


@dataclass(frozen=True, slots=True)
class ReadableClip:
    """``frames`` is the clip's length in frames of 10 ms."""

    clip: Clip
    frames: int


def read_list(path: Path) -> list[Clip]:
    """The lines of ``train.jsonl`` or ``val.jsonl``. Raises TuningError."""
    clips = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                clips.append(_parse_clip(json.loads(line), path.parent))
            except (ValueError, TypeError, KeyError) as error:
                fault = f"Line {number} of {path.name} is no clip: {error!r}."
                raise TuningError(TuningErrorCode.INVALID_REQUEST, fault) from error
    return clips


def _parse_clip(fields: dict[str, Any], folder: Path) -> Clip:
    return Clip(
        key=str(fields["key"]),
        source=(folder / fields["source"]).absolute(),
        text=str(fields["target"]).strip(),
        language=fields["text_language"],
        emotion=fields.get("emo_target", "<|NEUTRAL|>"),
        event=fields.get("event_target", "<|Speech|>"),
        itn=fields.get("with_or_wo_itn", "<|withitn|>"),
        human=bool(fields.get("human", True)),
    )


def read_general(manifest: Path) -> list[Clip]:
    """The recordings of a manifest.jsonl that have a text, are in one language and no longer than a window.

    Raises TuningError.
    """
    clips = []
    try:
        for row in map(json.loads, manifest.read_text(encoding="utf-8").splitlines()):
            if row.get("text") and row.get("language") and row["duration"] <= MAX_GENERAL_SECONDS:
                fields = {"key": row["path"], "source": row["path"], "target": row["text"]}
                clips.append(_parse_clip(fields | {"text_language": f"<|{row['language']}|>"}, manifest.parent))
    except (OSError, ValueError, TypeError, KeyError) as error:
        found = f"{manifest} is no manifest of general speech: {error!r}"
        raise TuningError(TuningErrorCode.INVALID_REQUEST, found) from error
    if not clips:
        raise TuningError(TuningErrorCode.INVALID_REQUEST, f"{manifest} names no recording with a text.")
    return clips


def read_audio(path: Path) -> Samples:
    """With the function that FunASR's data set uses: audio that reads here also reads in training.

    Raises OSError, RuntimeError, ValueError.
    """
    load: Callable[..., Any] = importlib.import_module("funasr.utils.load_utils").load_audio_text_image_video
    samples = np.asarray(load(str(path), fs=SAMPLE_RATE), np.float32)
    if samples.ndim != 1 or len(samples) < FRAME_LENGTH_SAMPLES or not np.isfinite(samples).all():
        raise ValueError(f"{path.name} holds no sound")
    return samples


def readable_clips(clips: Iterable[Clip]) -> Iterator[ReadableClip]:
    """The clips whose audio can be read, one in memory at a time; the others are logged."""
    for clip in clips:
        try:
            samples = read_audio(clip.source)
        except (OSError, RuntimeError, ValueError) as error:
            log.error("%s cannot be read: %s", clip.key, error)
            continue
        yield ReadableClip(clip, 1 + (len(samples) - FRAME_LENGTH_SAMPLES) // FRAME_SHIFT_SAMPLES)


def fits_ctc(readable: ReadableClip, tokenizer: Any, frames_per_output: int) -> bool:
    """Whether the vocabulary has all tokens of the text, and CTC has enough outputs for them."""
    ids: list[int] = tokenizer.encode(readable.clip.text)
    # CTC needs a blank between two equal tokens
    min_outputs = len(ids) + sum(one == other for one, other in pairwise(ids))
    unknown = tokenizer.sp.unk_id()
    return (
        0 < len(ids) <= MAX_TOKENS
        and min_outputs <= -(-readable.frames // frames_per_output)
        and unknown not in ids  # the unknown token shares its id with the blank
        and all(len(tokenizer.encode(tag)) == 1 for tag in readable.clip.tags)
    )


def write_list(path: Path, clips: Iterable[ReadableClip]) -> None:
    """A list for FunASR's data set, with absolute paths and measured lengths."""
    with path.open("w", encoding="utf-8") as output:
        for readable in clips:
            clip = readable.clip
            line = {
                **{"key": clip.key, "source": str(clip.source), "source_len": readable.frames},
                **{"target": clip.text, "target_len": len(clip.text), "text_language": clip.language},
                **{"emo_target": clip.emotion, "event_target": clip.event, "with_or_wo_itn": clip.itn},
            }
            output.write(json.dumps(line, ensure_ascii=False) + "\n")
