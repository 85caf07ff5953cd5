"""How ONNX models are opened."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from speech.models.onnx import sums_of_bytes_overflow


@pytest.mark.parametrize(
    ("machine", "flags", "overflow"),
    [
        ("x86_64", "fpu sse4_1 avx2 fma", True),
        ("AMD64", "avx2 avx512f avx512bw", True),
        ("x86_64", "avx2 avx_vnni", False),
        ("x86_64", "avx2 avx512f avx512_vnni", False),
        ("x86_64", None, True),
        ("aarch64", None, False),
    ],
)
def test_bytes_are_summed_exactly_where_a_processor_does_not(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: str | None, overflow: bool
) -> None:
    def read(path: Path, **_: str) -> str:
        assert path == Path("/proc/cpuinfo")
        if flags is None:
            raise FileNotFoundError(path)
        return f"processor\t: 0\nflags\t\t: {flags}\n"

    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(Path, "read_text", read)
    assert sums_of_bytes_overflow.__wrapped__() is overflow
