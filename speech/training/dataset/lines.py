"""Lines of the files of a training set, in the formats of the tools that train on it. Without line ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from speech.training.dataset.clips import Clip
from speech.training.dataset.paths import FRAMES_PER_SECOND
from speech.training.dataset.text import units


def _json_line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False)


def asr_line(clip: Clip) -> str:
    """The clip's text beside both models' texts."""
    candidate = clip.candidate
    return _json_line(
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
"""SenseVoice's case-sensitive event tags by their names in lower case."""


def funasr_line(clip: Clip) -> str:
    """For FunASR's ``SenseVoiceCTCDataset``; the source path is relative to the root of the set.

    ``source_len`` is in frames of 10 ms, ``target_len`` in words. A missing language is Chinese, as in FunASR.
    """
    candidate = clip.candidate
    emotion = candidate.emotion.upper() if candidate.emotion in EMOTIONS else "EMO_UNKNOWN"
    event = EVENTS.get(candidate.event or "speech", "Event_UNK")
    return _json_line(
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

    ``wav.scp`` has file names, which WeNet, ESPnet and FunASR read; Kaldi's own programs expect a command.
    """
    utterance = f"{clip.speaker}-{clip.candidate.key}"
    return (
        f"{utterance} {clip.path}",
        f"{utterance} {' '.join(clip.text.split())}",
        f"{utterance} {clip.speaker}",
    )


def audiofolder_line(clip: Clip) -> str:
    """For Hugging Face's ``audiofolder``: one ``metadata.jsonl`` for both splits.

    It must be at the root of the set, because `datasets` refuses paths that lead upwards.
    """
    return _json_line(
        {
            "file_name": clip.path,
            "transcription": clip.text,
            "split": clip.split,
            "language": clip.candidate.language,
            "speaker": clip.speaker,
            "duration": round(clip.candidate.seconds, 3),
        }
    )
