"""The clips of an export, read as FunASR reads them, and which of them can be learnt from."""

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

from speech.asr.sensevoice import TAG
from speech.engines import SAMPLE_RATE, Samples
from speech.training.tuning.request import Code, TuningError

log = logging.getLogger(__name__)

FRAME = SAMPLE_RATE // 100
"""Samples between two frames of filter banks."""
WINDOW = SAMPLE_RATE // 1000 * 25
"""Samples under one of them."""
MOST_TOKENS = 200
"""FunASR trains on some other clip instead of one with a longer text, and does not say so."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip with its text. The tags are pieces of the vocabulary, as ``<|en|>``."""

    key: str
    source: Path
    text: str
    language: str
    emotion: str
    event: str
    itn: str

    @property
    def tags(self) -> tuple[str, str, str, str]:
        """In the order of the network's queries."""
        return self.language, self.emotion, self.event, self.itn

    @property
    def language_code(self) -> str | None:
        """``en`` for ``<|en|>``."""
        match = TAG.fullmatch(self.language)
        return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Known:
    """A clip that can be read, and its length in frames of 10 ms."""

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
                said = json.loads(line)
                clips.append(_clip(said, path.parent))
            except (ValueError, TypeError, KeyError) as error:
                fault = f"Line {number} of {path.name} is no clip: {error!r}."
                raise TuningError(Code.INVALID_REQUEST, fault) from error
    return clips


def _clip(said: dict[str, Any], folder: Path) -> Clip:
    return Clip(
        key=str(said["key"]),
        source=(folder / said["source"]).absolute(),
        text=str(said["target"]).strip(),
        language=said["text_language"],
        emotion=said.get("emo_target", "<|NEUTRAL|>"),
        event=said.get("event_target", "<|Speech|>"),
        itn=said.get("with_or_wo_itn", "<|withitn|>"),
    )


def read_audio(path: Path) -> Samples:
    """By the function that FunASR's data set calls, so that what is checked is what is trained on.

    Raises OSError, RuntimeError, ValueError.
    """
    load: Callable[..., Any] = importlib.import_module("funasr.utils.load_utils").load_audio_text_image_video
    samples = np.asarray(load(str(path), fs=SAMPLE_RATE), np.float32)
    if samples.ndim != 1 or len(samples) < WINDOW or not np.isfinite(samples).all():
        raise ValueError(f"{path.name} holds no sound")
    return samples


def readable(clips: Iterable[Clip]) -> Iterator[Known]:
    """Those that can be read, one in memory at a time; the others are named in the log."""
    for clip in clips:
        try:
            samples = read_audio(clip.source)
        except (OSError, RuntimeError, ValueError) as error:
            log.error("%s cannot be read: %s", clip.key, error)
            continue
        yield Known(clip, 1 + (len(samples) - WINDOW) // FRAME)


def fits(known: Known, tokenizer: Any, step: int) -> bool:
    """Whether CTC can write this text into the clip's outputs, one of ``step`` frames, with this vocabulary."""
    ids: list[int] = tokenizer.encode(known.clip.text)
    # a token said twice in a row needs a blank between
    wanted = len(ids) + sum(one == other for one, other in pairwise(ids))
    unknown = tokenizer.sp.unk_id()
    return (
        0 < len(ids) <= MOST_TOKENS
        and wanted <= -(-known.frames // step)
        and unknown not in ids  # it is also the blank's id
        and all(len(tokenizer.encode(tag)) == 1 for tag in known.clip.tags)
    )


def write_list(path: Path, clips: Iterable[Known]) -> None:
    """For FunASR's data set, with absolute paths and lengths as they are."""
    with path.open("w", encoding="utf-8") as output:
        for known in clips:
            clip = known.clip
            line = {
                **{"key": clip.key, "source": str(clip.source), "source_len": known.frames},
                **{"target": clip.text, "target_len": len(clip.text), "text_language": clip.language},
                **{"emo_target": clip.emotion, "event_target": clip.event, "with_or_wo_itn": clip.itn},
            }
            output.write(json.dumps(line, ensure_ascii=False) + "\n")
