"""Opening ONNX models: on the CPU, with bounded threads, without memory kept between runs."""

from __future__ import annotations

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
    # without it, sums of bytes overflow on processors that have AVX2 but no VNNI
    options.add_session_config_entry("session.x64quantprecision", "1")
    # idle threads sleep: other engines and processes use the same cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise EngineUnavailable(f"The model {path} cannot be loaded: {reason}") from error


def read_metadata(session: onnxruntime.InferenceSession) -> dict[str, str]:
    return dict(session.get_modelmeta().custom_metadata_map)
