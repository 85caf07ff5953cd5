from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from speech.asr.whisper.language_changes import (
    FINE_PER_SECTION,
    LanguageProbabilities,
    Run,
    find_boundaries,
    group_runs,
    most_likely_path,
)

ENGLISH, CHINESE, GERMAN = range(3)


def sections(*languages: int, probability: float = 0.98) -> LanguageProbabilities:
    """One section for each language given, in which it is the most probable one."""
    rest = (1 - probability) / 2
    columns = range(3)
    return np.array(
        [[probability if column == language else rest for column in columns] for language in languages]
    )


def test_one_language_is_one_run() -> None:
    assert group_runs(most_likely_path(sections(*[ENGLISH] * 8), ENGLISH)) == [Run(0, 8, ENGLISH)]
    assert group_runs(most_likely_path(sections(*[CHINESE] * 8), ENGLISH)) == [Run(0, 8, CHINESE)]


def test_a_sentence_in_another_language_is_a_run_of_its_own() -> None:
    probabilities = sections(ENGLISH, ENGLISH, CHINESE, GERMAN, GERMAN, ENGLISH)
    assert group_runs(most_likely_path(probabilities, ENGLISH)) == [
        Run(0, 2, ENGLISH),
        Run(2, 3, CHINESE),
        Run(3, 5, GERMAN),
        Run(5, 6, ENGLISH),
    ]


def test_an_accent_is_not_another_language() -> None:
    """Single sections in which another language is slightly more probable."""
    probabilities = np.concatenate(
        [
            sections(ENGLISH, ENGLISH),
            sections(CHINESE, CHINESE, probability=0.6),
            sections(ENGLISH),
            sections(GERMAN, probability=0.5),
        ]
    )
    assert group_runs(most_likely_path(probabilities, ENGLISH)) == [Run(0, 6, ENGLISH)]
    # which of the two is the accent depends on what is expected
    runs = group_runs(most_likely_path(sections(CHINESE, ENGLISH, probability=0.6), CHINESE))
    assert {run.language for run in runs} == {CHINESE}


@given(arrays(float, st.tuples(st.integers(1, 10), st.just(4)), elements=st.floats(0, 1)), st.integers(0, 3))
def test_the_path_is_never_less_likely_than_staying_in_the_expected_language(
    probabilities: LanguageProbabilities, expected: int
) -> None:
    runs = group_runs(most_likely_path(probabilities, expected))
    assert [run.start for run in runs] == [0, *(run.end for run in runs[:-1])]
    assert runs[-1].end == len(probabilities)
    scores = np.log(np.maximum(probabilities, 1e-9))
    scores = np.maximum(scores, scores.max(axis=1, keepdims=True) - 4)
    score = sum(scores[run.start : run.end, run.language].sum() - 3 * (run.language != expected) for run in runs)
    assert score >= scores[:, expected].sum() - 1e-9


@pytest.mark.parametrize("late", [-2, -1, 0, 1, 2])
def test_boundaries_are_found_among_fine_sections(late: int) -> None:
    runs = [Run(0, 2, ENGLISH), Run(2, 4, CHINESE)]
    change = 2 * FINE_PER_SECTION + late
    fine = sections(*[ENGLISH] * change, *[CHINESE] * (4 * FINE_PER_SECTION - change))
    assert find_boundaries(runs, fine) == [change]


@given(st.lists(st.sampled_from([ENGLISH, CHINESE, GERMAN]), min_size=2, max_size=10), st.randoms())
def test_boundaries_increase(languages: list[int], random: np.random.Generator) -> None:
    path = np.array(languages)
    fine = sections(*[random.choice(languages) for _ in range(len(languages) * FINE_PER_SECTION)])
    boundaries = find_boundaries(group_runs(path), fine)
    assert len(boundaries) == len(group_runs(path)) - 1
    assert all(left < right for left, right in zip([0, *boundaries], [*boundaries, len(fine)], strict=True))
