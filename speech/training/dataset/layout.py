"""What stands in the files of a training set, as the tools that train read them. Lines have no end of line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from speech.training.dataset.candidates import Candidate
from speech.training.dataset.card import dataset_card as dataset_card
from speech.training.dataset.filters import Filters, Reason
from speech.training.dataset.paths import FRAMES_PER_SECOND, Split, recording_path
from speech.training.dataset.paths import asr_path as asr_path
from speech.training.dataset.text import Cleaning, units


@dataclass(frozen=True, slots=True)
class Clip:
    """A segment that is in the set, with its words cleaned; ``sha256`` is that of its FLAC file."""

    candidate: Candidate
    text: str
    person: int
    split: Split
    sha256: str

    @property
    def path(self) -> str:
        """Of the FLAC file, from the root of the set."""
        return f"raw/{recording_path(self.candidate)}/{self.candidate.segment:06d}.flac"

    @property
    def speaker(self) -> str:
        """The person, without a name."""
        return f"P{self.person:07d}"


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False)


def asr_line(clip: Clip) -> str:
    """Everything known of the clip's words."""
    candidate = clip.candidate
    return _line(
        {
            "segment": candidate.segment,
            "start": round(candidate.start, 3),
            "end": round(candidate.end, 3),
            "text": clip.text,
            "draft": candidate.draft,
            "refined": candidate.refined,
            "language": candidate.language,
            "speaker": candidate.speaker,
            "human": candidate.human,
            "confidence": round(candidate.confidence, 3),
            "split": clip.split,
            "audio": clip.path,
        }
    )


EMOTIONS = frozenset({"happy", "sad", "angry", "neutral", "fearful", "disgusted", "surprised"})
EVENTS = {
    "speech": "Speech",
    "bgm": "BGM",
    "applause": "Applause",
    "laughter": "Laughter",
    "cry": "Cry",
    "sneeze": "Sneeze",
    "breath": "Breath",
    "cough": "Cough",
    "sing": "Sing",
    "speech_noise": "Speech_Noise",
    "gbg": "GBG",
    "event_unk": "Event_UNK",
}
"""SenseVoice's tags, whose case matters, by their names in lower case."""


def funasr_line(clip: Clip) -> str:
    """For FunASR's ``SenseVoiceCTCDataset``; its source is found from the root of the set.

    Lengths are in frames of 10 ms and in words. FunASR takes a missing language for Chinese, and so does this.
    """
    candidate = clip.candidate
    emotion = candidate.emotion.upper() if candidate.emotion in EMOTIONS else "EMO_UNKNOWN"
    event = EVENTS.get(candidate.event or "speech", "Event_UNK")
    return _line(
        {
            "key": candidate.key,
            "text_language": f"<|{candidate.language or 'zh'}|>",
            "emo_target": f"<|{emotion}|>",
            "event_target": f"<|{event}|>",
            "with_or_wo_itn": "<|woitn|>" if candidate.itn is False else "<|withitn|>",
            "target": clip.text,
            "source": clip.path,
            "target_len": len(units(clip.text)),
            "source_len": round(candidate.seconds * FRAMES_PER_SECOND),
        }
    )


def kaldi_lines(clip: Clip) -> tuple[str, str, str]:
    """Lines of ``wav.scp``, ``text`` and ``utt2spk``, to be sorted by the bytes of their first word.

    ``wav.scp`` names the file, as WeNet, ESPnet and FunASR read it; Kaldi's own programs want a command there.
    """
    utterance = f"{clip.speaker}-{clip.candidate.key}"
    return (
        f"{utterance} {clip.path}",
        f"{utterance} {' '.join(clip.text.split())}",
        f"{utterance} {clip.speaker}",
    )


def audiofolder_line(clip: Clip) -> str:
    """For Hugging Face's ``audiofolder``, in one ``metadata.jsonl`` for both splits.

    It has to lie at the root of the set: paths that lead upwards are refused."""
    return _line(
        {
            "file_name": clip.path,
            "transcription": clip.text,
            "split": clip.split,
            "language": clip.candidate.language,
            "speaker": clip.speaker,
            "duration": round(clip.candidate.seconds, 3),
        }
    )


@dataclass(frozen=True, slots=True)
class Count:
    """How much a split holds."""

    clips: int
    seconds: float
    persons: int

    def to_json(self) -> dict[str, Any]:
        return {"clips": self.clips, "hours": _hours(self.seconds), "persons": self.persons}


def _hours(seconds: float) -> float:
    return round(seconds / 3600, 4)


def manifest(
    *,
    id: str,
    tenant: str,
    date: date,
    created_at: datetime,
    window: tuple[datetime, datetime],
    filters: Filters,
    cleaning: Cleaning,
    splits: Mapping[Split, Count],
    rejections: Mapping[Reason, int],
    models: Mapping[str, int],
    languages: Mapping[str, float],
    sources: Mapping[str, float],
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What the set is and how it came about, for JSON.

    ``window`` is when the recordings were uploaded, from and until. ``models`` counts the clips that each model
    transcribed; ``languages`` and ``sources`` come in seconds and are kept in hours. ``files`` gives each path its
    ``sha256`` and its ``bytes``.
    """
    since, until = window
    return {
        "id": id,
        "tenant": tenant,
        "date": date.isoformat(),
        "created_at": created_at.isoformat(),
        "window": {"from": since.isoformat(), "until": until.isoformat()},
        "filters": filters.to_json(),
        "cleaning": cleaning.to_json(),
        "splits": {name: count.to_json() for name, count in splits.items()},
        "rejections": {reason.value: rejections[reason] for reason in Reason if rejections.get(reason)},
        "models": dict(sorted(models.items())),
        "languages": {name: _hours(seconds) for name, seconds in sorted(languages.items())},
        "sources": {name: _hours(seconds) for name, seconds in sorted(sources.items())},
        "files": {path: dict(files[path]) for path in sorted(files)},
    }
