from __future__ import annotations

import ctranslate2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.asr.whisper.arrays import on_cpu, select, to_device_of
from speech.asr.whisper.language_spans import (
    MIN_PIECE_SECONDS,
    MIN_SPAN_SECONDS,
    Span,
    SpanDetector,
    _drop_short_spans,
)

FPS = 100


class Ear:
    """Hears Chinese in each array whose first number is 1, else English, and notes how wide the arrays are."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def detect_language(self, encoded: ctranslate2.StorageView) -> list[list[tuple[str, float]]]:
        heard = np.asarray(encoded)
        self.widths.append(heard.shape[1])
        chinese = np.clip(heard.mean(axis=(1, 2)), 0.001, 0.999)
        return [[("<|zh|>", float(p)), ("<|en|>", float(1 - p))] for p in chinese]


def spans(seconds: float, chinese: tuple[float, float], *, bands: int = 80, expected: str = "en") -> list[Span]:
    """Of an utterance that is in Chinese from one second to another, and quiet for a moment at both."""
    frames = round(seconds * FPS)
    features = np.ones((bands, frames), np.float32)
    positions = np.zeros((1500, 4), np.float32)
    positions[round(chinese[0] * 50) : round(chinese[1] * 50)] = 1
    for change in chinese:
        features[:, max(round(change * FPS) - 15, 0) : round(change * FPS) + 15] = 0
    ear = Ear()
    encoded = ctranslate2.StorageView.from_array(positions[None])
    found = SpanDetector(ear, FPS).spans(encoded, positions, features, expected)
    assert bands not in ear.widths  # it would be taken for features, and encoded once more
    assert [span.first for span in found] == [0, *(span.end for span in found[:-1])]
    assert found[-1].end == frames
    return found


def test_spans_are_cut_where_it_is_quiet() -> None:
    english, chinese, more = spans(24, (9, 15))
    assert [span.is_other for span in (english, chinese, more)] == [False, True, False]
    assert abs(chinese.first - 900) < 15
    assert abs(chinese.end - 1500) < 15
    assert [span.is_other for span in spans(24, (9, 15), expected="zh")] == [True, False, True]


def test_one_language_is_not_divided() -> None:
    assert spans(24, (0, 0)) == spans(24, (0, 24)) == [Span(0, 2400, is_other=False)]
    assert spans(4, (0, 2)) == [Span(0, 400, is_other=False)]


@pytest.mark.parametrize("frames", [512, 515, 770, 3000])
def test_sections_are_never_as_wide_as_features_are_high(frames: int) -> None:
    spans(frames / FPS, (0, frames / FPS / 2), bands=128)


@given(st.lists(st.tuples(st.integers(20, 600), st.booleans()), min_size=1, max_size=8))
def test_what_is_read_by_itself_is_long_enough(parts: list[tuple[int, bool]]) -> None:
    ends = np.cumsum([length for length, _ in parts])
    given_spans = [
        Span(int(end) - length, int(end), flag) for end, (length, flag) in zip(ends, parts, strict=True)
    ]
    kept = _drop_short_spans(given_spans, FPS)
    assert [span.first for span in kept] == [0, *(span.end for span in kept[:-1])]
    assert kept[-1].end == ends[-1]
    for span in kept:
        least = MIN_SPAN_SECONDS if span.is_other else MIN_PIECE_SECONDS
        assert span.end - span.first >= least * FPS or len(kept) == 1
    for span in given_spans:
        if span.is_other and span.end - span.first >= MIN_SPAN_SECONDS * FPS:
            assert any(k.is_other and k.first <= span.first and span.end <= k.end for k in kept)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_members_of_a_batch_keep_its_type(name: str) -> None:
    batch = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    encoded = ctranslate2.StorageView.from_array(batch).to(getattr(ctranslate2.DataType, name))
    chosen = select(encoded, [2, 0], 3)
    assert chosen.dtype == encoded.dtype
    assert np.array_equal(on_cpu(chosen).astype(np.float32), batch[[2, 0]])
    assert select(encoded, [0, 1, 2], 3) is encoded
    assert to_device_of(encoded, batch[:1]).shape == [1, 4, 2]
