"""Decoding in a process of its own: the same samples, and no harm from what is made to do harm."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from speech.audio.isolated.client import DecoderLost, IsolatedDecoder, Limits
from speech.audio.media import MediaError, open_media
from tests.hostile import BOMBS, endless_mp4, hostile_files, many_channels, slow_flac
from tests.media import BAD_MEDIA, DATA
from tests.waiting import until

HOURS = 12 * 3600.0
EXPECTED = {
    "flac at 1 Hz": "audio_sample_rate",
    "flac at 1 Hz, long frame": "audio_sample_rate",
    "wav at 2 GHz": "audio_sample_rate",
    "playlist": "audio_unreadable",
    "concat script": "audio_unreadable",
    "nothing but zeros": "audio_unreadable",
}
CODES = {
    *(
        "audio_unreadable",
        "audio_no_stream",
        "audio_empty",
        "audio_truncated",
        "audio_too_long",
        "audio_sample_rate",
    ),
    *("audio_too_many_channels", "audio_memory_limit", "audio_time_limit"),
}


@pytest.fixture(scope="module")
def decoder() -> Iterator[IsolatedDecoder]:
    made = IsolatedDecoder()
    yield made
    made.close()


def decode(decoder: IsolatedDecoder, file: BinaryIO, *, split: bool = False) -> tuple[np.ndarray, float]:
    with decoder.open(file, max_duration=HOURS) as media:
        blocks = media.channel_blocks(seconds=5) if split else media.blocks(seconds=5)
        return np.concatenate(list(blocks), axis=-1), media.decoded_seconds


def code_of(decoder: IsolatedDecoder, data: bytes, *, split: bool = False) -> str:
    try:
        decode(decoder, io.BytesIO(data), split=split)
    except MediaError as error:
        return error.code
    return "ok"


@pytest.mark.parametrize("name", ["demo.flac", "two_voices_stereo.wav", "ocean_0036.flac"])
@pytest.mark.parametrize("split", [False, True])
def test_the_samples_are_those_of_decoding_in_place(decoder: IsolatedDecoder, name: str, split: bool) -> None:
    with (DATA / name).open("rb") as file:
        samples, seconds = decode(decoder, file, split=split)
    with (DATA / name).open("rb") as file, open_media(file, max_duration=HOURS) as media:
        blocks = media.channel_blocks(seconds=5) if split else media.blocks(seconds=5)
        assert np.array_equal(samples, np.concatenate(list(blocks), axis=-1))
        assert seconds == media.decoded_seconds


@pytest.mark.parametrize("name", BAD_MEDIA)
def test_what_is_no_recording_fails_with_its_code(decoder: IsolatedDecoder, name: str) -> None:
    make, code = BAD_MEDIA[name]
    assert code_of(decoder, make()) == code


def test_eight_channels_are_taken_apart(decoder: IsolatedDecoder) -> None:
    """Of exactly eight planar channels PyAV 18 reads past the last plane, and the process with it."""
    samples, _ = decode(decoder, io.BytesIO(many_channels(8)), split=True)
    assert samples.shape == (8, 32_000)
    assert np.array_equal(samples[0], samples[7])


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_decoded_within_the_limits(decoder: IsolatedDecoder, name: str, split: bool) -> None:
    code = code_of(decoder, BOMBS[name](), split=split)
    assert code in {"ok", *CODES}
    assert code == EXPECTED.get(name, code)


def test_mutated_files_end_with_a_code_and_the_server_lives(decoder: IsolatedDecoder) -> None:
    decoder.start()
    before = server_of(decoder).pid
    codes = {
        code_of(decoder, file.data, split=place % 5 == 0) for place, file in enumerate(hostile_files(150, seed=3))
    }
    assert codes <= {"ok", *CODES}
    assert "audio_unreadable" in codes
    assert server_of(decoder).pid == before
    assert server_of(decoder).poll() is None


def test_a_file_over_the_limit_of_memory_ends_alone() -> None:
    """Decoded in place, 16 million samples in 545 bytes take 200 MB while the file is opened."""
    with_little = IsolatedDecoder(Limits(memory_bytes=64 * 1024 * 1024))
    try:
        assert code_of(with_little, endless_mp4()) in ("audio_memory_limit", "audio_empty", "audio_unreadable")
        with (DATA / "demo.flac").open("rb") as file:
            assert decode(with_little, file)[1] > 30
    finally:
        with_little.close()


def test_a_file_over_the_limit_of_time_says_so() -> None:
    twelve_hours = slow_flac(65_535, 48_000, frames=31_000)
    hurried = IsolatedDecoder(Limits(cpu_seconds=1))
    try:
        assert code_of(hurried, twelve_hours) == "audio_time_limit"
        assert code_of(hurried, many_channels(2)) == "ok"
    finally:
        hurried.close()


def test_a_file_that_is_read_to_and_fro_for_too_long_is_given_up() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            time.sleep(0.1)
            return super().read(size)

    slow = IsolatedDecoder(Limits(wall_seconds=0.3))
    try:
        with pytest.raises(MediaError) as caught:
            decode(slow, Slow((DATA / "demo.flac").read_bytes()))
    finally:
        slow.close()
    assert caught.value.code == "audio_time_limit"


def test_a_decoder_that_stalls_is_given_up(decoder: IsolatedDecoder) -> None:
    impatient = IsolatedDecoder(Limits(stall_seconds=0.5))
    impatient.start()
    os.kill(server_of(impatient).pid, signal.SIGSTOP)
    try:
        assert code_of(impatient, many_channels(2)) == "audio_time_limit"
    finally:
        os.kill(server_of(impatient).pid, signal.SIGCONT)
        impatient.close()


def test_who_stops_listening_ends_the_decoder(decoder: IsolatedDecoder) -> None:
    with (DATA / "demo.flac").open("rb") as file, decoder.open(file, max_duration=HOURS) as media:
        next(media.blocks(seconds=1))
        assert len(children_of(server_of(decoder).pid)) == 1
    until(lambda: not children_of(server_of(decoder).pid), "the decoder is gone")


def test_a_crash_is_the_files_fault_and_a_dead_server_is_not(decoder: IsolatedDecoder) -> None:
    with (DATA / "demo.flac").open("rb") as file, decoder.open(file, max_duration=HOURS) as media:
        blocks = media.blocks(seconds=1)
        next(blocks)
        os.kill(children_of(server_of(decoder).pid)[0], signal.SIGSEGV)
        with pytest.raises(MediaError) as caught:
            list(blocks)
    assert caught.value.code == "audio_unreadable"
    with (DATA / "demo.flac").open("rb") as file, decoder.open(file, max_duration=HOURS) as media:
        blocks = media.blocks(seconds=1)
        next(blocks)
        for pid in (*children_of(server_of(decoder).pid), server_of(decoder).pid):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(DecoderLost):
            list(blocks)
    with (DATA / "demo.flac").open("rb") as file:
        assert decode(decoder, file)[1] > 30


def test_recordings_are_decoded_side_by_side(decoder: IsolatedDecoder) -> None:
    lengths: list[float] = []

    def work() -> None:
        with (DATA / "ocean_0036.flac").open("rb") as file:
            lengths.append(decode(decoder, file)[1])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lengths) == 8
    assert len(set(lengths)) == 1


def test_errors_of_the_file_itself_pass_through(decoder: IsolatedDecoder) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError("storage went away")

    with pytest.raises(ConnectionResetError):
        decode(decoder, Broken(b"x" * 1000))


def test_the_server_knows_no_secrets(decoder: IsolatedDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGHAND_S3_SECRET_KEY", "swordfish")
    own = IsolatedDecoder()
    own.start()
    try:
        environment = Path(f"/proc/{server_of(own).pid}/environ")
        until(lambda: b"PYTHONPATH" in environment.read_bytes(), "the server has begun")
        assert b"swordfish" not in environment.read_bytes()
        assert b"LONGHAND" not in environment.read_bytes()
    finally:
        own.close()


def test_the_server_ends_with_its_worker() -> None:
    script = """
        import os
        from speech.audio.isolated.client import IsolatedDecoder
        decoder = IsolatedDecoder()
        decoder.start()
        print(decoder._server.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    pid = int(done.stdout)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the server is gone")


FORBIDDEN = {
    "a socket": "socket.socket()",
    "a file": "open('/etc/hostname')",
    "a process": "os.fork()",
    "a program": "os.execv('/bin/true', ['true'])",
    "a signal": "os.kill(os.getppid(), 0)",
    "more memory": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "another user": "os.setuid(0)",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_sandbox_takes_every_other_right(what: str) -> None:
    script = f"""
        import os, resource, socket
        from speech.audio.isolated import sandbox
        sandbox.enter(memory_bytes=2**29, cpu_seconds=10)
        try:
            {FORBIDDEN[what]}
        except (OSError, ValueError) as error:
            print("refused", flush=True)
        os._exit(0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "refused\n", done.stderr


def python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )


def server_of(decoder: IsolatedDecoder) -> subprocess.Popen[bytes]:
    found = decoder._server
    assert found is not None
    return found


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
