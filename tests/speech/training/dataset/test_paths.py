from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from speech.training.dataset.paths import asr_path, slug
from tests.speech.training.dataset.samples import candidate, clip


def test_paths() -> None:
    assert clip().path == "raw/field-work/20260304T050607Z-0f3c9a52-6d1e-4a7b-9c55-1f2e3d4c5b6a/001203.flac"
    assert asr_path(candidate()) == "asr/field-work/20260304T050607Z-0f3c9a52-6d1e-4a7b-9c55-1f2e3d4c5b6a.jsonl"
    elsewhere = datetime(2026, 3, 4, 13, 6, 7, tzinfo=timezone(timedelta(hours=8)))
    assert clip(at=elsewhere).path == clip().path


def test_recordings_that_begin_alike_do_not_share_a_folder() -> None:
    jobs = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")
    assert len({clip(job=job).path for job in jobs}) == 2


LABELS = st.one_of(
    st.text(max_size=80),
    st.text("ab.-_/ ", max_size=4),
    st.sampled_from(["", ".", "..", "../..", "/etc", "a/b", "a_b", "a b", "录音", "CON", "a" * 70, "a" * 71]),
)


@given(LABELS)
def test_a_slug_is_safe(label: str) -> None:
    result = slug(label)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", result)
    assert ".." not in (result, result[:2])
    assert len(result) <= 80


@given(LABELS, LABELS)
def test_two_labels_have_two_slugs(one: str, other: str) -> None:
    assert (slug(one) == slug(other)) == (one == other)
    # nor does a label that looks like a slug take the place of the one it looks like
    assert slug(slug("a/b")) != slug("a/b")


def test_ordinary_labels_stay_readable() -> None:
    assert slug("Call_Centre-2.b") == "Call_Centre-2.b"
    assert slug("call centre").startswith("call_centre-")
