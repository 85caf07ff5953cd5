"""Paths of the files of a training set."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC
from typing import Literal

from speech.training.dataset.candidates import Candidate

Split = Literal["train", "val"]

FRAMES_PER_SECOND = 100
"""FunASR measures lengths in feature frames."""


def asr_path(candidate: Candidate) -> str:
    return f"asr/{recording_path(candidate)}.jsonl"


def recording_path(candidate: Candidate) -> str:
    time = candidate.at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{slug(candidate.source)}/{time}-{slug(candidate.job)}"


MAX_SLUG_CHARACTERS = 64
HASH_SUFFIX = re.compile(r".*-[0-9a-f]{8}", re.DOTALL)


def slug(label: str) -> str:
    """A folder name of ``A-Za-z0-9._-``, unique for each label.

    A label that has to be changed, or that itself ends like a hashed one, gets a hash as its suffix.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", label)[:MAX_SLUG_CHARACTERS].strip(".-")
    if name == label and name and not HASH_SUFFIX.fullmatch(label):
        return name
    return f"{name or '_'}-{hashlib.sha256(label.encode(errors='surrogatepass')).hexdigest()[:8]}"
