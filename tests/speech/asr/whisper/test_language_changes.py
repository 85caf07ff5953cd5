from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from speech.asr.whisper.language_changes import (
    FINE_PER_SECTION,
    Probabilities,
    Run,
    boundaries,
    language_runs,
    most_likely_path,
)

ENGLISH, CHINESE, GERMAN = range(3)


def sounding(*languages: int, sure: float = 0.98) -> Probabilities:
    """Sections that each sound like one language."""
    rest = (1 - sure) / 2
    return np.array([[sure if column == language else rest for column in range(3)] for language in languages])


def test_one_language_is_one_run() -> None:
    assert language_runs(most_likely_path(sounding(*[ENGLISH] * 8), ENGLISH)) == [Run(0, 8, ENGLISH)]
    assert language_runs(most_likely_path(sounding(*[CHINESE] * 8), ENGLISH)) == [Run(0, 8, CHINESE)]


def test_a_sentence_in_another_language_is_a_run_of_its_own() -> None:
    heard = sounding(ENGLISH, ENGLISH, CHINESE, GERMAN, GERMAN, ENGLISH)
    assert language_runs(most_likely_path(heard, ENGLISH)) == [
        Run(0, 2, ENGLISH),
        Run(2, 3, CHINESE),
        Run(3, 5, GERMAN),
        Run(5, 6, ENGLISH),
    ]


def test_an_accent_is_no_other_language() -> None:
    """A section here and there that sounds a little more like something else."""
    heard = np.concatenate(
        [
            sounding(ENGLISH, ENGLISH),
            sounding(CHINESE, CHINESE, sure=0.6),
            sounding(ENGLISH),
            sounding(GERMAN, sure=0.5),
        ]
    )
    assert language_runs(most_likely_path(heard, ENGLISH)) == [Run(0, 6, ENGLISH)]
    # which of the two is the accent depends on what is expected
    assert {
        run.language for run in language_runs(most_likely_path(sounding(CHINESE, ENGLISH, sure=0.6), CHINESE))
    } == {CHINESE}


@given(arrays(float, st.tuples(st.integers(1, 10), st.just(4)), elements=st.floats(0, 1)), st.integers(0, 3))
def test_the_path_is_never_less_likely_than_staying_in_the_expected_language(
    heard: Probabilities, expected: int
) -> None:
    found = language_runs(most_likely_path(heard, expected))
    assert [run.first for run in found] == [0, *(run.end for run in found[:-1])]
    assert found[-1].end == len(heard)
    evidence = np.log(np.maximum(heard, 1e-9))
    evidence = np.maximum(evidence, evidence.max(axis=1, keepdims=True) - 4)
    score = sum(
        evidence[run.first : run.end, run.language].sum() - 3 * (run.language != expected) for run in found
    )
    assert score >= evidence[:, expected].sum() - 1e-9


@pytest.mark.parametrize("late", [-2, -1, 0, 1, 2])
def test_cuts_find_the_change_among_finer_sections(late: int) -> None:
    found = [Run(0, 2, ENGLISH), Run(2, 4, CHINESE)]
    change = 2 * FINE_PER_SECTION + late
    assert boundaries(found, sounding(*[ENGLISH] * change, *[CHINESE] * (4 * FINE_PER_SECTION - change))) == [
        change
    ]


@given(st.lists(st.sampled_from([ENGLISH, CHINESE, GERMAN]), min_size=2, max_size=10), st.randoms())
def test_cuts_rise(languages: list[int], chance: np.random.Generator) -> None:
    path = np.array(languages)
    fine = sounding(*[chance.choice(languages) for _ in range(len(languages) * FINE_PER_SECTION)])
    places = boundaries(language_runs(path), fine)
    assert len(places) == len(language_runs(path)) - 1
    assert all(left < right for left, right in zip([0, *places], [*places, len(fine)], strict=True))
