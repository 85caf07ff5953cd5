"""Opening ONNX models: on the CPU, with bounded threads, without memory kept between runs."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import onnxruntime

from speech.engines import EngineUnavailable


def open_session(path: Path, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """``threads`` run within one operator; operators run in sequence. Raises EngineUnavailable."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    if sums_of_bytes_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    # idle threads sleep: other engines and processes use the same cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise EngineUnavailable(f"The model {path} cannot be loaded: {reason}") from error


@cache
def sums_of_bytes_overflow() -> bool:
    """Whether ONNX Runtime sums products of bytes in 16 bits if it may: on x86 without VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        features = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return True  # exact, where it cannot be told
    return not {"avx_vnni", "avx512_vnni"} & set(features)


def read_metadata(session: onnxruntime.InferenceSession) -> dict[str, str]:
    return dict(session.get_modelmeta().custom_metadata_map)
