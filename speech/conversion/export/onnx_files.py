"""Writing ONNX files: tracing, metadata, int8 quantisation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

OPSET = 17


def export_onnx(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    metadata: Mapping[str, Any],
) -> Path:
    """Trace the module into one ONNX file. ``dynamic`` names the free dimensions by input or output and axis."""
    with warnings.catch_warnings(), torch.inference_mode():
        # the tracer, not dynamo: one file, seconds instead of minutes, and dynamic shapes stay dynamic
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            example,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    write_metadata(path, metadata)
    return path


def write_metadata(path: Path, metadata: Mapping[str, Any]) -> None:
    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    onnx.helper.set_model_props(model, {name: str(value) for name, value in metadata.items()})
    onnx.save(model, str(path))


def quantise(source: Path, target: Path, metadata: Mapping[str, Any]) -> Path:
    """Dynamic int8 quantisation of matrix products only: convolutions lose accuracy and gain no speed."""
    quantize_dynamic(str(source), str(target), op_types_to_quantize=["MatMul"], weight_type=QuantType.QUInt8)
    write_metadata(target, metadata)
    return target
