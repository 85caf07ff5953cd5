from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.training.dataset import people as module
from speech.training.dataset.people import link_people


def circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def alone(count: int) -> list[str | None]:
    return [None] * count


def test_a_chain_of_links_is_one_person() -> None:
    # 20 degrees apart is alike, 40 is not: the first three are a chain
    assert link_people(circle(0, 20, 40, 90), alone(4), np.cos(np.radians(21))) == [0, 0, 0, 1]


def test_numbers_follow_the_order_of_first_appearance() -> None:
    assert link_people(circle(90, 0, 91, 180, 1), alone(5), 0.9) == [0, 1, 0, 2, 1]


def test_the_same_name_links_voices_that_differ() -> None:
    vectors = circle(0, 90, 180, 181)
    assert link_people(vectors, ["Ada", None, "Ada", None], 0.9) == [0, 1, 0, 0]
    assert link_people(vectors, ["Ada", "Bob", None, "Bob"], 0.9) == [0, 1, 1, 1]


def test_vector_length_does_not_matter() -> None:
    assert link_people(circle(0, 0) * np.array([[1.0], [100.0]], dtype=np.float32), alone(2), 1.0) == [0, 0]


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_an_empty_voiceprint_is_linked_only_by_name(nothing: float) -> None:
    vectors = circle(0, 0, 0)
    vectors[0] = vectors[2] = nothing
    assert link_people(vectors, alone(3), -1.0) == [0, 1, 2]
    assert link_people(vectors, ["Ada", None, "Ada"], -1.0) == [0, 1, 0]


def test_no_voices() -> None:
    assert link_people(np.zeros((0, 192), dtype=np.float32), [], 0.5) == []


def test_names_and_voices_must_match() -> None:
    with pytest.raises(ValueError, match="2 voiceprints came with 1 names"):
        link_people(circle(0, 1), [None], 0.5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 359), max_size=12), st.integers(1, 5))
def test_blocks_make_no_difference(degrees: list[int], block: int) -> None:
    vectors = circle(*degrees)
    whole = link_people(vectors, alone(len(degrees)), 0.95)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", block)
        assert link_people(vectors, alone(len(degrees)), 0.95) == whole
    close = vectors @ vectors.T >= 0.95
    assert all(whole[a] == whole[b] for a, b in np.argwhere(close))


def test_many_voices_fit_in_memory() -> None:
    voices = np.random.default_rng(0).standard_normal((6000, 16), dtype=np.float32)
    tracemalloc.start()
    try:
        labels = link_people(voices, alone(6000), 0.99)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(set(labels)) > 5000
    assert peak < 6000 * 6000  # bytes, where the matrix would take four times that
