"""Where the files of a training set lie."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC
from typing import Literal

from speech.training.dataset.candidates import Candidate

Split = Literal["train", "val"]

FRAMES_PER_SECOND = 100
"""Frames of features, in which FunASR measures."""


def asr_path(candidate: Candidate) -> str:
    return f"asr/{recording_path(candidate)}.jsonl"


def recording_path(candidate: Candidate) -> str:
    time = candidate.at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{slug(candidate.source)}/{time}-{slug(candidate.job)}"


LONGEST_SLUG = 64
HASHED = re.compile(r".*-[0-9a-f]{8}", re.DOTALL)


def slug(label: str) -> str:
    """A name for a folder, of ``A-Za-z0-9._-``, that no other label gets.

    A label that is no such name itself, or that could be taken for one made here, has a hash at its end.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", label)[:LONGEST_SLUG].strip(".-")
    if name == label and name and not HASHED.fullmatch(label):
        return name
    return f"{name or '_'}-{hashlib.sha256(label.encode(errors='surrogatepass')).hexdigest()[:8]}"
