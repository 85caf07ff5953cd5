from __future__ import annotations

import threading

import pytest

from speech.engines.streams import MOST, Streams


@pytest.mark.parametrize(
    ("threads", "streams", "each"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (6, 4, 1), (16, MOST, 4)]
)
def test_threads_are_shared_out(threads: int, streams: int, each: int) -> None:
    made = Streams(threads)
    assert (made.count, made.threads) == (streams, each)


def test_work_is_done_side_by_side_and_kept_in_order() -> None:
    both = threading.Barrier(2, timeout=60)

    def work(item: int) -> int:
        both.wait()  # one alone would wait for ever
        return item * item

    assert Streams(2).map(work, range(8)) == [item * item for item in range(8)]


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_comes_out_as_it_was(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        Streams(threads).map(lambda item: 1 // item, [1, 0, 2])
