from __future__ import annotations

import ctranslate2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.asr.whisper.encoder_output import from_numpy, select_members, to_numpy
from speech.asr.whisper.language_spans import (
    MIN_OTHER_LANGUAGE_SECONDS,
    MIN_SPAN_SECONDS,
    LanguageClassifier,
    LanguageSpan,
    merge_short_spans,
)

FPS = 100


class FakeModel:
    """Detects Chinese in arrays whose mean is 1, else English, and records how wide the arrays are."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def detect_language(self, encoded: ctranslate2.StorageView) -> list[list[tuple[str, float]]]:
        array = np.asarray(encoded)
        self.widths.append(array.shape[1])
        chinese = np.clip(array.mean(axis=(1, 2)), 0.001, 0.999)
        return [[("<|zh|>", float(p)), ("<|en|>", float(1 - p))] for p in chinese]


def find_spans(
    seconds: float, chinese: tuple[float, float], *, bands: int = 80, expected: str = "en"
) -> list[LanguageSpan]:
    """Spans of an utterance that is in Chinese from one second to another, and quiet around both."""
    frames = round(seconds * FPS)
    features = np.ones((bands, frames), np.float32)
    positions = np.zeros((1500, 4), np.float32)
    positions[round(chinese[0] * 50) : round(chinese[1] * 50)] = 1
    for change in chinese:
        features[:, max(round(change * FPS) - 15, 0) : round(change * FPS) + 15] = 0
    model = FakeModel()
    encoded = ctranslate2.StorageView.from_array(positions[None])
    found = LanguageClassifier(model, FPS).find_spans(encoded, positions, features, expected)
    assert bands not in model.widths  # such an array would be taken for features, and encoded again
    assert [span.start for span in found] == [0, *(span.end for span in found[:-1])]
    assert found[-1].end == frames
    return found


def test_spans_are_cut_where_it_is_quiet() -> None:
    english, chinese, more = find_spans(24, (9, 15))
    assert [span.is_other_language for span in (english, chinese, more)] == [False, True, False]
    assert abs(chinese.start - 900) < 15
    assert abs(chinese.end - 1500) < 15
    assert [span.is_other_language for span in find_spans(24, (9, 15), expected="zh")] == [True, False, True]


def test_one_language_is_not_divided() -> None:
    assert find_spans(24, (0, 0)) == find_spans(24, (0, 24)) == [LanguageSpan(0, 2400, is_other_language=False)]
    assert find_spans(4, (0, 2)) == [LanguageSpan(0, 400, is_other_language=False)]


@pytest.mark.parametrize("frames", [512, 515, 770, 3000])
def test_sections_are_never_as_wide_as_features_are_high(frames: int) -> None:
    find_spans(frames / FPS, (0, frames / FPS / 2), bands=128)


@given(st.lists(st.tuples(st.integers(20, 600), st.booleans()), min_size=1, max_size=8))
def test_merged_spans_are_long_enough_to_decode(parts: list[tuple[int, bool]]) -> None:
    ends = np.cumsum([length for length, _ in parts])
    unmerged = [
        LanguageSpan(int(end) - length, int(end), flag) for end, (length, flag) in zip(ends, parts, strict=True)
    ]
    merged = merge_short_spans(unmerged, FPS)
    assert [span.start for span in merged] == [0, *(span.end for span in merged[:-1])]
    assert merged[-1].end == ends[-1]
    for span in merged:
        min_seconds = MIN_OTHER_LANGUAGE_SECONDS if span.is_other_language else MIN_SPAN_SECONDS
        assert span.end - span.start >= min_seconds * FPS or len(merged) == 1
    for span in unmerged:
        if span.is_other_language and span.end - span.start >= MIN_OTHER_LANGUAGE_SECONDS * FPS:
            assert any(k.is_other_language and k.start <= span.start and span.end <= k.end for k in merged)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_members_of_a_batch_keep_its_type(name: str) -> None:
    batch = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    encoded = ctranslate2.StorageView.from_array(batch).to(getattr(ctranslate2.DataType, name))
    chosen = select_members(encoded, [2, 0], 3)
    assert chosen.dtype == encoded.dtype
    assert np.array_equal(to_numpy(chosen).astype(np.float32), batch[[2, 0]])
    assert select_members(encoded, [0, 1, 2], 3) is encoded
    assert from_numpy(batch[:1], like=encoded).shape == [1, 4, 2]
