from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from speech.models.streams import MAX_STREAMS, Streams


@pytest.mark.parametrize(
    ("threads", "streams", "each"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (6, 4, 2), (16, MAX_STREAMS, 4)]
)
def test_threads_are_divided_among_streams(threads: int, streams: int, each: int) -> None:
    made = Streams(threads)
    assert (made.count, made.threads) == (streams, each)


def test_work_runs_in_parallel_and_results_are_in_order() -> None:
    both = threading.Barrier(2, timeout=60)

    def work(item: int) -> int:
        both.wait()  # would never return in sequence
        return item * item

    assert Streams(2).map(work, range(8)) == [item * item for item in range(8)]


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_is_raised_unchanged(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        Streams(threads).map(lambda item: 1 // item, [1, 0, 2])


def test_no_work_is_running_when_an_error_is_raised() -> None:
    started, finished = threading.Event(), threading.Event()

    def work(item: int) -> int:
        if item == 0:
            started.wait(60)
            raise MemoryError
        started.set()
        time.sleep(0.2)  # still running when the other has failed
        finished.set()
        return item

    with pytest.raises(MemoryError):
        Streams(2).map(work, [0, 1])
    assert finished.is_set()


def test_work_finishes_during_interpreter_shutdown() -> None:
    code = (
        "import threading, time\nfrom speech.models.streams import Streams\n"
        "def late():\n    time.sleep(1)\n    print(Streams(2).map(abs, [-1, -2]))\n"
        "threading.Thread(target=late).start()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 2]\n"
